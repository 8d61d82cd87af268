"""The ranked list of every photo of a collection: which other photos a search for it finds first."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from resight.artifacts.inverted_file import features_of
from resight.collection.snapshot import Snapshot
from resight.errors import UsageError
from resight.exchange.photos import BLOCK, NamedPhotos
from resight.exchange.request import Request
from resight.types import Float32, Int64, Queries


def ranked_lists(request: Request, photos: NamedPhotos) -> Iterator[tuple[int, Int64, Float32]]:
    """Position of each photo, positions (n,) of the first `top` others that a search for it finds, and their scores.

    A photo without anything to search by has an empty list. Holds the features of 64 photos at a time. Raises
    `UsageError` for a number of results below 1, and as `Snapshot.pipeline` does.
    """
    if request.top < 1:
        raise UsageError(f"{request.top} results of every photo were asked for: give at least 1")
    snapshot = request.collection.snapshot
    pipeline = request.collection.pipeline(None, request.recipe, **request.settings)
    for start in range(0, len(photos), BLOCK):
        rows = photos.rows[start : start + BLOCK]
        ranking = pipeline(_queries(snapshot, rows))
        for position, row, ids, scores in zip(range(start, start + len(rows)), rows, ranking.ids, ranking.scores,
                                              strict=True):  # fmt: skip
            kept = np.flatnonzero((ids >= 0) & (ids != row))[: request.top]
            yield position, photos.place(ids[kept]), scores[kept]
        request.progress("searching for every photo", start + len(rows), len(photos))


def _queries(snapshot: Snapshot, rows: Int64) -> Queries:
    """Stored photos as queries, described as the collection has them."""
    local = None if snapshot.settings.local is None else tuple(features_of(snapshot.tables, rows))
    return Queries(local=local, vectors=_vectors(snapshot, rows), rows=rows)


def _vectors(snapshot: Snapshot, rows: Int64) -> Float32 | None:
    """Global descriptors (n, D) of `rows`, zero where a photo has none; None in recipes without them."""
    if snapshot.settings.vector is None or snapshot.descriptors is None:
        return None
    known, matrix = snapshot.descriptors.rows, snapshot.descriptors.matrix
    places = np.minimum(np.searchsorted(known, rows), len(known) - 1)
    found = np.asarray(matrix[places], np.float32)
    found[known[places] != rows] = 0
    return found
