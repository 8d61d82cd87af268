"""Photos described by Ray Data on the machines of a cluster, and written by the one writer of their collection.

Every machine must see the photos and the collection under the same paths. A worker that dies costs the batch it was at,
which another one reads again; rows are written in the order of the files, once, by the writer that asked, so that the
collection is the one that threads of this process would have made.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from resight.cluster.engines import RAY, connected
from resight.collection.ingest import Read, Reads, Work, describe_photos
from resight.collection.open import open_collection
from resight.errors import UsageError

BATCH = 16  # photos of one task


class Describing:
    """A worker: the encoders and the network of the collection at `path`, opened once."""

    def __init__(self, path: str) -> None:
        snapshot = open_collection(path).snapshot
        self._settings, self._encoders = snapshot.settings, snapshot.encoders

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Read and describe the files of one batch."""
        found = list(describe_photos(list(batch["work"]), self._settings, self._encoders, jobs=1))
        column = np.empty(len(found), object)
        column[:] = found
        return {"read": column}


def ray_reads(path: str, engine: str, *, workers: int = 0) -> Reads:
    """What `resight.collection.ingest.ingest` reads files with: Ray Data, on the cluster that `engine`
    (`ray://HOST:PORT` or `ray://local`) names, for the collection at `path`. `workers`: 0 for one per processor.

    Raises `UsageError` for another engine or without Ray, `CollectionError` when there is no cluster.
    """
    found = RAY.fullmatch(engine)
    if found is None:
        raise UsageError(f"engine {engine!r}: photos are read by ray://local or ray://HOST:PORT, or without an engine")
    ray = connected(found["address"])

    def reads(work: Sequence[Work]) -> Iterator[Read | None]:
        if not work:
            return
        data: Any = ray.data
        with warnings.catch_warnings():  # its own settings are deprecated by it
            warnings.simplefilter("ignore", DeprecationWarning)
            context = data.DataContext.get_current()
        context.execution_options.preserve_order = True  # rows are numbered in the order of the files
        context.enable_progress_bars = False
        size = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        parts = data.from_items([{"work": one} for one in work], override_num_blocks=-(-len(work) // BATCH))
        described = parts.map_batches(Describing, fn_constructor_args=(path,), batch_size=BATCH, concurrency=(1, size))
        for batch in described.iter_batches(batch_size=None, batch_format="numpy"):
            yield from batch["read"]

    return reads
