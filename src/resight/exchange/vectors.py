"""Global descriptors as a NumPy array or a FAISS index, beside a list of ids: line i names row i."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np

from resight.errors import UsageError
from resight.exchange.photos import without_breaks
from resight.exchange.request import Request, appearing, free
from resight.types import Float32


def write_npy(request: Request) -> str:
    """Write an (N, D) float32 array. Raises `UsageError` without global descriptors."""
    ids, vectors = _described(request)
    with appearing(request.out) as scratch, scratch.open("wb") as file:
        np.save(file, vectors)
    return _write_ids(request.out, ids, vectors)


def write_faiss(request: Request) -> str:
    """Write an exact index of inner products, which searches as the collection does: `faiss.read_index` opens it.

    Raises `UsageError` without global descriptors.
    """
    ids, vectors = _described(request)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    with appearing(request.out) as scratch:
        faiss.write_index(index, str(scratch))
    return _write_ids(request.out, ids, vectors)


def ids_file(out: Path) -> Path:
    """Where the ids of the rows of `out` stand."""
    return out.with_suffix(".ids.txt")


def _described(request: Request) -> tuple[list[str], Float32]:
    """Ids and descriptors (N, D) as searches compare them."""
    snapshot = request.collection.snapshot
    if snapshot.descriptors is None:
        raise UsageError(f"{snapshot.path} keeps no global descriptors: index its photos with a recipe that has them")
    rows, vectors = request.collection.vectors()
    names = {row: id_ for id_, row in snapshot.ids.items()}
    ids = [names[row] for row in rows.tolist()]
    without_breaks(ids)
    free(ids_file(request.out))
    return ids, np.ascontiguousarray(vectors, np.float32)


def _write_ids(out: Path, ids: list[str], vectors: Float32) -> str:
    with appearing(ids_file(out)) as scratch:
        scratch.write_text("".join(f"{id_}\n" for id_ in ids), encoding="utf-8")
    return f"{len(vectors)} descriptors of {vectors.shape[1]} dimensions, their ids in {ids_file(out)}"
