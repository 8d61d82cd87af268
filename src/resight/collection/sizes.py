"""What each part of a collection takes: bytes of its files, and bytes in memory once a search has loaded it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from resight.artifacts import files
from resight.collection.snapshot import Snapshot
from resight.store.folder import DERIVED, IMAGES, LOCAL, faults
from resight.store.remote import PARTS, bucket, remote

PLAIN = (str, bytes, int, float, bool, type(None), Path)


@dataclass(frozen=True)
class PartSize:
    """Bytes of one part: of its files, and in memory when it is loaded; 0 where it is read when needed and not kept."""

    disk: int
    memory: int


def part_sizes(snapshot: Snapshot) -> dict[str, PartSize]:
    """The size of every part that is there, tables first. Loads the parts; an array that two share counts once.

    Raises `CollectionError` when one is damaged.
    """
    folder, seen = snapshot.path, set[int]()
    held = {name: sum(arrays(load(snapshot), seen)) for name, load in _loaders(snapshot).items()}
    tables = {IMAGES: "table of photos", LOCAL: "table of local features"}
    sizes = {
        called: PartSize(stored(folder, f"{table}.lance"), held.pop(called, 0)) for table, called in tables.items()
    }
    for artifact in files.ARTIFACTS:
        if artifact.exists(folder):
            sizes[artifact.holds] = PartSize(artifact_bytes(folder, artifact.name), held.pop(artifact.holds, 0))
    sizes |= {name: PartSize(0, memory) for name, memory in held.items() if memory}
    rest = stored(folder) - sum(size.disk for size in sizes.values())
    return {**sizes, "other files": PartSize(rest, 0)}


VECTORS = "global descriptors, their index and whitening"


def _loaders(snapshot: Snapshot) -> Mapping[str, Callable[[Snapshot], Any]]:
    """How each part is loaded that stays in memory, by name; what an earlier one holds counts there."""
    loaders: dict[str, Callable[[Snapshot], Any]] = {
        "table of photos": lambda s: s.tables.feature_rows,
        "table of local features": lambda s: (s.tables.stored_rows, s.tables),
    }
    for key in snapshot.kinds:
        own = files.LOCAL[key]
        loaders[own.codebook.holds] = partial(_codebook, key)
        loaders[own.inverted_file.holds] = partial(_index, key)
    loaders[VECTORS] = lambda s: s.descriptors
    for artifact, load in LOADED.items():
        if artifact.exists(snapshot.path):
            loaders[artifact.holds] = load
    return loaders


LOADED: Mapping[files.Artifact, Callable[[Snapshot], Any]] = {
    files.GRAPH: lambda s: s.graph,
    files.VERIFIED_GRAPH: lambda s: s.verified_graph,
    files.OFFLINE: lambda s: s.offline,
    files.LABELS: lambda s: s.training,
    files.SEPARATED: lambda s: s.separation,
}


def _index(key: str, snapshot: Snapshot) -> Any:
    return snapshot.inverted_files[key].index


def _codebook(key: str, snapshot: Snapshot) -> Any:
    index = _index(key, snapshot)
    return None if index is None else index.codebook


def stored(folder: Path, part: str = "") -> int:
    """Bytes of all files of a collection, or of one folder in it; of all its objects where it lies in a bucket."""
    if (view := remote(folder)) is not None:
        return sum(size for _, size in bucket(view).sizes(f"{part}/" if part else ""))
    with faults("read", folder):
        return sum(path.stat().st_size for path in (folder / part).rglob("*") if path.is_file())


def artifact_bytes(folder: Path, name: str) -> int:
    """Bytes of an artifact and of its parts."""
    parts = Path(name).with_suffix(PARTS).name
    if (view := remote(folder)) is not None:
        listed = view.state.listed
        return sum(size for one, (_, size) in listed.items() if one == name or one.startswith(f"{parts}/"))
    derived = f"{DERIVED}/{parts}"
    return (folder / DERIVED / name).stat().st_size + (stored(folder, derived) if (folder / derived).is_dir() else 0)


def arrays(thing: Any, seen: set[int]) -> Iterator[int]:
    """Bytes of every array that `thing` leads to, through fields, lists and dictionaries; those in `seen` are passed
    over, and it grows by the others. A view counts as the array it is of.
    """
    if isinstance(thing, PLAIN) or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        base = thing.base
        if isinstance(base, np.ndarray):
            yield from arrays(base, seen)
        else:
            yield thing.nbytes
    elif isinstance(thing, scipy.sparse.csr_array | scipy.sparse.csr_matrix):
        yield from arrays((thing.data, thing.indices, thing.indptr), seen)
    elif isinstance(thing, Mapping):
        for value in thing.values():
            yield from arrays(value, seen)
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from arrays(value, seen)
    elif hasattr(thing, "sa_code_size"):  # an index of faiss
        yield thing.ntotal * thing.sa_code_size()
    elif type(thing).__module__.startswith("resight.") and hasattr(thing, "__dict__"):
        for value in list(vars(thing).values()):
            yield from arrays(value, seen)
