"""Open what a search names: one collection, or one in shards, by the engine that is asked for."""

from __future__ import annotations

import os

from resight.cluster.engines import THREADS
from resight.cluster.layout import is_sharded
from resight.cluster.on_milvus import open_on_milvus
from resight.cluster.sharded import open_shards
from resight.collection.collection import Collection
from resight.collection.open import open_collection
from resight.errors import UsageError


def open_searched(path: str | os.PathLike[str], engine: str | None = None, *, partial: bool = False) -> Collection:
    """The collection, or the collection in shards, at `path`, to be searched.

    `engine`: where shards are asked, `threads` or `ray://HOST:PORT`, or where the global descriptors of one collection
    are searched, `milvus://HOST:PORT/NAME`; `partial` as for `resight.cluster.sharded.open_shards`. Raises `UsageError`
    for an engine of shards where there are none, and as the functions that open.
    """
    if engine is not None and engine.startswith("milvus://"):
        return open_on_milvus(path, engine)
    if is_sharded(path):
        return open_shards(path, engine or THREADS, partial=partial)
    if partial or engine not in (None, THREADS):
        raise UsageError(f"{path} is one collection, not one in shards: leave the engine out, or split it into shards")
    return open_collection(path)
