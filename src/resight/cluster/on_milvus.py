"""A collection whose global descriptors are searched by Milvus."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from resight.artifacts.descriptors import Descriptors
from resight.cluster.milvus import MilvusIndex, address_of
from resight.collection.collection import Collection
from resight.collection.open import open_collection
from resight.collection.snapshot import Snapshot
from resight.errors import UsageError
from resight.index.exact import ExactIndex
from resight.progress import Progress, silent
from resight.ranking.search import VectorIndex
from resight.types import Int64


@dataclass(frozen=True, eq=False)
class MilvusSnapshot(Snapshot):
    """A snapshot whose searches by global descriptors ask Milvus, `engine` being its address."""

    engine: str = ""

    @cached_property
    def vector_index(self) -> VectorIndex:
        """The descriptors in Milvus. Raises `CollectionError` when it does not hold those of this snapshot."""
        index = milvus_index(self, self.engine)
        index.require(len(_descriptors(self).rows))
        return index


def open_on_milvus(path: str | os.PathLike[str], engine: str) -> Collection:
    """Open the collection at `path`, its global descriptors searched by `engine` (`milvus://HOST:PORT/NAME`).

    Raises as `open_collection` does, `UsageError` for another address or a collection without global descriptors,
    `CollectionError` when Milvus does not answer or is behind the collection.
    """
    address_of(engine)
    snapshot = open_collection(path).snapshot
    _descriptors(snapshot)
    collection = Collection(MilvusSnapshot(snapshot.tables, snapshot.stamp, engine=engine))
    _ = collection.snapshot.vector_index
    return collection


def fill(path: str | os.PathLike[str], engine: str, *, progress: Progress = silent) -> tuple[int, int]:
    """Bring Milvus to the global descriptors of the collection at `path`; gives how many it added and removed."""
    snapshot = open_collection(path).snapshot
    known = _descriptors(snapshot)
    return milvus_index(snapshot, engine).fill(known.rows, known.matrix, progress=progress)


def milvus_index(snapshot: Snapshot, engine: str) -> MilvusIndex:
    """The index of the descriptors of `snapshot` in Milvus."""
    known = _descriptors(snapshot)

    def exact(rows: Int64) -> ExactIndex:
        places = np.searchsorted(known.rows, rows)
        held = (places < len(known.rows)) & (known.rows[np.minimum(places, len(known.rows) - 1)] == rows)
        index = ExactIndex(known.matrix.shape[1])
        index.add(rows[held], known.matrix[places[held]])
        return index

    return MilvusIndex(address_of(engine), known.fingerprint, exact)


def _descriptors(snapshot: Snapshot) -> Descriptors:
    if snapshot.settings.vector is None or snapshot.descriptors is None:
        raise UsageError(
            f"{snapshot.path} keeps no global descriptors, which are what Milvus searches: spread local features over "
            "shards (resight shards split)"
        )
    return snapshot.descriptors
