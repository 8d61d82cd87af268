"""A collection in shards, opened: searched, explained and filtered as one collection of all its photos."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from resight.artifacts import files
from resight.artifacts.inverted_file import NOTHING, InvertedFile, make_verifier, read_confidence
from resight.cluster.engines import THREADS, Engine, open_engine
from resight.cluster.layout import HEAD, MANIFEST, Layout, read_layout
from resight.cluster.parts import ShardedAsmk, ShardedTables, ShardedVectors, ShardedVerifier
from resight.cluster.shard import State, shard_of
from resight.collection.answer import Answer, Info
from resight.collection.collection import Collection
from resight.collection.open import open_collection
from resight.collection.snapshot import Snapshot
from resight.errors import StampMismatch, UsageError
from resight.features.whitening import Whitening
from resight.index.codebook import Codebook
from resight.ranking.confidence import UNKNOWN, Confidence
from resight.ranking.vector_database import VectorDatabase
from resight.recipes.settings import LocalSettings
from resight.types import Float32, Int64


@dataclass(frozen=True, eq=False)
class ShardedSnapshot(Snapshot):
    """What all shards hold, as the `Resources` of recipes that need no graph of all photos. `engine` asks the shards,
    `states` are what they said when they were opened; the tables are a `ShardedTables`.
    """

    engine: Engine | None = None
    states: tuple[State, ...] = ()

    @cached_property
    def inverted_files(self) -> Mapping[str, InvertedFile]:
        """Index and calibration of each kind of local features, by key."""
        return {kind.key: self._inverted_file(kind) for kind in self.settings.kinds}

    def _inverted_file(self, kind: LocalSettings) -> InvertedFile:
        assert self.engine is not None
        own = files.LOCAL[kind.key]
        codebook = files.read(own.codebook, self.path, Codebook.load)
        if codebook is None:
            return NOTHING
        rows = np.concatenate([state.indexed[kind.key] for state in self.states])
        index = ShardedAsmk(kind.index(codebook), self.engine, kind.key, rows)
        confidence = files.read(own.confidence, self.path, read_confidence)
        fits = confidence is not None and confidence.fits(len(index), codebook.fingerprint)
        return InvertedFile(index, confidence or UNKNOWN, fits or bool(self.engine.absent))

    @cached_property
    def verifier(self) -> ShardedVerifier | None:
        """Verification beside the shards."""
        if self.settings.local is None:
            return None
        usual = make_verifier(self.tables, self.settings.local)
        given = {field.name: getattr(usual, field.name) for field in fields(usual) if not field.name.startswith("_")}
        return ShardedVerifier(**given, engine=self.engine)

    @cached_property
    def descriptors(self) -> None:
        """None: no machine holds the descriptors of all."""
        return None

    @property
    def database(self) -> VectorDatabase | None:
        """Raises `UsageError`: recipes that ask for it follow descriptors of all photos."""
        raise UsageError(
            f"{self.path.parent} lies in shards, none of which knows the descriptors of all photos: this recipe needs "
            "them on one machine; classic, how, fire, hybrid and the recipes of one global descriptor search in shards"
        )

    @cached_property
    def vector_index(self) -> ShardedVectors | None:
        """What finds the nearest global descriptors of all shards."""
        if self.settings.vector is None:
            return None
        assert self.engine is not None
        return ShardedVectors(self.engine, self.states)

    def vector(self, row: int) -> Float32 | None:
        """The stored descriptor (D,) of a photo as searches compare it."""
        assert self.engine is not None
        answers = self.engine.ask("vector", {shard_of(row): (row,)})
        return next(iter(answers.values()), None)

    @cached_property
    def whitening(self) -> Whitening | None:
        """How global descriptors are whitened in all shards."""
        return files.read(files.WHITENING, self.path, Whitening.load)

    @cached_property
    def vector_confidence(self) -> Confidence:
        """What unrelated photos score by global descriptors."""
        return files.read(files.VECTOR_CONFIDENCE, self.path, read_confidence) or UNKNOWN

    @cached_property
    def differences(self) -> tuple[Int64, Int64]:
        """Rows that shards hold in vain, and rows that they lack, because a run over one was stopped."""
        none = np.empty(0, np.int64)
        gone = np.concatenate([none, *(state.gone for state in self.states)])
        return gone, np.concatenate([none, *(state.lacking for state in self.states)])

    def rows_where(self, condition: str) -> Int64:
        """Rows (n,) ascending that fit an SQL condition on table `images` of the shards."""
        assert self.engine is not None
        return np.concatenate(self.engine.every("rows_where", condition))


class ShardedCollection(Collection):
    """A collection in shards. It is searched as any other; photos are added to its shards (`resight shards add`)."""

    def __init__(self, snapshot: ShardedSnapshot, layout: Layout) -> None:
        super().__init__(snapshot)
        self.layout = layout
        assert snapshot.engine is not None
        self._engine = snapshot.engine

    @property
    def absent(self) -> tuple[str, ...]:
        """The shards that are gone, whose photos answers lack."""
        return self._engine.absent

    def search(self, /, *args: Any, **options: Any) -> Answer:
        """As `Collection.search`; `Answer.absent` names the shards that were gone."""
        return replace(super().search(*args, **options), absent=self.absent)

    def info(self) -> Info:
        """Counts and sizes of all shards together, and their settings."""
        return together(self._engine.every("info"), str(self.layout.folder), self.threshold)

    def add(self, *args: Any, **options: Any) -> Any:
        """Raises `UsageError`: shards are written one by one."""
        raise self._read_only("add photos to")

    def remove(self, *args: Any, **options: Any) -> Any:
        """Raises `UsageError`: shards are written one by one."""
        raise self._read_only("remove photos from")

    def relearn(self, **options: Any) -> None:
        """Raises `UsageError`: all shards share one codebook."""
        raise self._read_only("relearn the codebook of")

    def close(self) -> None:
        """End what asks the shards."""
        self._engine.close()

    def _read_only(self, what: str) -> UsageError:
        return UsageError(
            f"{self.layout.folder} lies in shards, which are written one by one: {what} one of them, such as "
            f"{self.layout.shards[0]}"
        )


def together(infos: Sequence[Info], path: str, threshold: float) -> Info:
    """What several shards hold, as one."""

    def total(name: str) -> Any:
        return sum(getattr(info, name) for info in infos)

    photos, first = total("photos"), infos[0]
    counted = ("photos", "broken", "features", "index_bytes", "pending", "missing", "vectors")
    means = ("bytes_per_image", "memory_per_million", "disk_per_million")
    weighted = {name: sum(getattr(info, name) * info.photos for info in infos) / max(photos, 1) for name in means}
    kinds = {
        kind: {
            what: count if what == "words" else sum(info.kinds[kind][what] for info in infos)
            for what, count in counts.items()
        }
        for kind, counts in first.kinds.items()
    }
    changed = {**{name: total(name) for name in counted}, **weighted}
    return replace(first, path=path, threshold=threshold, kinds=kinds, **changed)


def open_shards(path: str | os.PathLike[str], engine: str = THREADS, *, partial: bool = False) -> ShardedCollection:
    """Open the collection in shards at `path`. `engine`: `threads` of this process, `ray://local` or `ray://HOST:PORT`.
    `partial`: answer though shards are gone, and say so, instead of refusing.

    Raises `CollectionNotFound`, `CollectionError` (a shard is gone or damaged), `StampMismatch` where a shard was made
    otherwise than the others, or with another codebook, and `UsageError` on an engine that there is not.
    """
    layout = read_layout(path)
    head = open_collection(layout.head).snapshot
    asked = open_engine(engine, layout.shards, partial=partial)
    states = tuple(asked.every("state"))
    for state in states:
        _check_alike(head, state, layout)
    tables = ShardedTables(
        layout.head, head.tables.images_dataset, head.tables.local_dataset, engine=asked, states=states
    )
    return ShardedCollection(ShardedSnapshot(tables, head.stamp, engine=asked, states=states), layout)


def _check_alike(head: Snapshot, state: State, layout: Layout) -> None:
    """Raises `StampMismatch` where a shard was made otherwise than the head says."""
    name, made, own = layout.shards[state.number], head.stamp, state.stamp
    for what in ("recipe", "parameters", "models"):
        if getattr(made, what) != getattr(own, what):
            raise StampMismatch(
                f"shard {name} was made with another {what.removesuffix('s')} than {layout.folder / HEAD}: index its "
                f"photos anew with the settings of the others, or take it out of {MANIFEST}"
            )
    for kind in head.settings.kinds:
        codebook = files.read(files.LOCAL[kind.key].codebook, head.path, Codebook.load)
        if kind.key in state.codebooks and (codebook is None or state.codebooks[kind.key] != codebook.fingerprint):
            raise StampMismatch(
                f"shard {name} has another codebook than {layout.folder / HEAD}, so that their scores cannot be "
                f"compared: run resight shards add {layout.folder}, which brings it to the one of the others"
            )
    whitening = files.read(files.WHITENING, head.path, Whitening.load)
    if state.vectors and state.whitening != ("" if whitening is None else whitening.fingerprint):
        raise StampMismatch(
            f"shard {name} whitens its descriptors otherwise than {layout.folder / HEAD}: run resight shards add "
            f"{layout.folder}, which brings it to the whitening of the others"
        )
