"""A collection that is served: the state that all requests read, and how it follows what happens on disk."""

from __future__ import annotations

import logging
import os
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from resight.artifacts import files
from resight.collection.collection import Collection
from resight.collection.open import open_collection
from resight.errors import ResightError
from resight.recipes.catalogue import RECIPES, search_options
from resight.serving.photo_list import PhotoList, photo_list
from resight.serving.queries import KnownQueries
from resight.store.folder import DERIVED, STAMP
from resight.store.remote import remote, version_of

PATIENCE = 10.0  # seconds between two looks at a collection that is being written
log = logging.getLogger("resight.serving")


@dataclass(frozen=True, eq=False)
class State:
    """A collection as it was when it was opened: all that a request reads comes from one state."""

    collection: Collection
    photos: PhotoList
    queries: KnownQueries
    version: str
    opened: datetime
    signature: tuple[Any, ...]

    @cached_property
    def roots(self) -> frozenset[str]:
        """The folders that photos came from."""
        return frozenset(self.collection.snapshot.tables.images(["root"])["root"].to_pylist())

    @cached_property
    def recipes(self) -> dict[str, dict[str, Any]]:
        """The recipes that this collection can be searched with, and the defaults of their options."""
        holds, kinds = self.collection.snapshot.holds, set(self.collection.snapshot.kinds.values())
        able = (name for name, one in RECIPES.items() if all(map(holds, one.needs)))
        return {name: dict(search_options(name)) for name in able if not RECIPES[name].alone or name in kinds}


class Served:
    """A collection by its `name` in URLs. `state` is replaced as a whole; who reads keeps what it began with."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self.ready = False
        self.changed = time.monotonic()
        self.state = self._open(signature_of(path))
        self._lock = Lock()

    def warm(self) -> None:
        """Load what a search needs, so that the first one is as fast as the others."""
        warm(self.state)
        self.ready = True

    def follow(self) -> bool:
        """Open the collection anew where it has changed on disk; gives whether it has. Not for the event loop.

        While it is written, at most every ten seconds. A state that cannot be opened leaves the old one in place.
        """
        with self._lock:
            try:
                signature = signature_of(self.path)
            except ResightError as error:
                log.warning("%s keeps its last state: %s", self.name, error)
                return False
            if signature == self.state.signature:
                return False
            busy = (self.path / DERIVED / files.UNFINISHED.name).exists()
            if busy and time.monotonic() - self.changed < PATIENCE:
                return False
            self.changed = time.monotonic()
            try:
                state = self._open(signature)
                warm(state)
            except ResightError as error:
                log.warning("%s keeps its last state: %s", self.name, error)
                return False
            self.state = state
            log.info("%s was opened anew, version %s", self.name, state.version)
            return True

    def _open(self, signature: tuple[Any, ...]) -> State:
        collection = open_collection(self.path)
        photos = photo_list(collection.snapshot.tables)
        version = f"{collection.snapshot.tables.images_dataset.version}-{zlib.crc32(repr(signature).encode()):08x}"
        return State(collection, photos, KnownQueries(), version, datetime.now(UTC), signature)


def signature_of(path: Path) -> tuple[Any, ...]:
    """What changes when a collection does: the stamp, the versions of its tables, its derived files. Raises
    `CollectionError` when a bucket cannot be reached.
    """
    if (view := remote(path)) is not None:
        return version_of(view)
    return (_look(path / STAMP), *(_names(path / table / "_versions") for table in ("images.lance", "local.lance")),
            _entries(path / DERIVED))  # fmt: skip


def warm(state: State) -> None:
    """Search for one photo of a collection."""
    snapshot = state.collection.snapshot
    rows = snapshot.tables.feature_rows
    rows = rows[snapshot.tables.counts(rows) > 0] if snapshot.settings.local is not None else rows
    if len(rows):
        with suppress(ResightError):  # a collection that cannot be searched yet is served all the same
            state.collection.search(snapshot.photo(int(rows[0]))["id"], top=1)
    _ = state.photos.orders, state.recipes, state.roots


def _look(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _listed(folder: Path, describe: Callable[[os.DirEntry[str]], Any]) -> tuple[Any, ...]:
    with suppress(OSError), os.scandir(folder) as entries:
        return tuple(sorted(describe(entry) for entry in entries if not entry.name.startswith(".")))
    return ()


def _names(folder: Path) -> tuple[str, ...]:
    return _listed(folder, lambda entry: entry.name)


def _entries(folder: Path) -> tuple[tuple[str, int], ...]:
    return _listed(folder, lambda entry: (entry.name, entry.stat().st_mtime_ns))
