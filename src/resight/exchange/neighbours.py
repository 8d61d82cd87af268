"""A collection as an estimator of scikit-learn: `fit` photos, ask for the `kneighbors` of others.

from resight.exchange.neighbours import PhotoNeighbors

near = PhotoNeighbors(n_neighbors=3).fit(paths)
distances, indices = near.kneighbors(others)  # (Q, 3) each; indices into `paths`
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from resight.arrays import Float64
from resight.collection.collection import Collection
from resight.collection.open import open_or_create
from resight.errors import ArrayError
from resight.types import Int64

Photo = str | os.PathLike[str]


class PhotoNeighbors(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Nearest photos, with the conventions of `sklearn.neighbors.NearestNeighbors`; samples are paths of photos.

    `n_neighbors`: how many to give by default. `recipe`, `parameters`: how photos are described, as for
    `resight.collection.create_collection`; None for the default. `collection`: the folder of the collection, which is
    made or continued there; None for one that goes with this object. `jobs`: threads, 0 for one per processor.

    After `fit`: `n_samples_fit_` photos, `rows_` (N,) int64 their rows in `collection_`.
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        recipe: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        collection: Photo | None = None,
        jobs: int = 0,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.recipe = recipe
        self.parameters = parameters
        self.collection = collection
        self.jobs = jobs

    def fit(self, X: Sequence[Photo], y: object = None) -> Self:
        """Index the photos `X`, N paths. Raises `ArrayError` (a `ValueError`) for photos that cannot be read or stand
        there twice, and as `Collection.add` does.
        """
        paths = [os.path.abspath(path) for path in X]
        if not paths:
            raise ArrayError("there are no photos to fit: give their paths")
        collection = open_or_create(self._place(), self.recipe, self.parameters)
        collection.add(paths, jobs=self.jobs)
        rows = _rows(collection)
        if lost := [path for path in paths if path not in rows]:
            raise ArrayError(f"{len(lost)} of {len(paths)} photos cannot be read, such as {lost[0]}: leave them out")
        if twice := [path for path, count in Counter(paths).items() if count > 1]:
            raise ArrayError(f"{len(twice)} photos are given twice, such as {twice[0]}: give each once")
        self.collection_ = collection
        self.rows_ = np.array([rows[path] for path in paths], np.int64)
        self.n_samples_fit_ = len(paths)
        return self

    def kneighbors(
        self, X: Sequence[Photo] | None = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> tuple[Float64, Int64] | Int64:
        """Distances (Q, k) float64 and indices (Q, k) int64 of the nearest photos of each query, nearest first.

        `X`: paths of photos; None for the fitted ones, none of which is then its own neighbour. A distance is a score
        of `resight search` with its sign changed, so that less is nearer; what a search does not reach is infinitely
        far, in the order of the samples. Raises `ArrayError` (a `ValueError`) when there are fewer than `n_neighbors`.
        """
        check_is_fitted(self)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        most = self.n_samples_fit_ - (X is None)
        if not 1 <= k <= most:
            raise ArrayError(f"n_neighbors={k}, and there are {most} photos to choose from: give 1 to {most}")
        names = {row: id_ for id_, row in self.collection_.ids.items()}
        queries = [names[row] for row in self.rows_.tolist()] if X is None else list(X)
        found = [self._nearest(query, None if X is not None else own, k) for own, query in enumerate(queries)]
        distances = np.array([distance for distance, _ in found], np.float64).reshape(-1, k)
        indices = np.array([index for _, index in found], np.int64).reshape(-1, k)
        return (distances, indices) if return_distance else indices

    def _nearest(self, query: Photo, own: int | None, k: int) -> tuple[Float64, Int64]:
        """Distances and indices (k,) of one query; `own`: its index, when it is a sample itself."""
        samples = {row: index for index, row in enumerate(self.rows_.tolist()) if index != own}
        others = len(self.collection_.ids) - len(samples)  # photos of the collection that may come before samples
        results = self.collection_.search(query, top=k + others).results
        found = [(-result.score, samples[result.row]) for result in results if result.row in samples][:k]
        reached = {index for _, index in found}
        beyond = [(np.inf, index) for index in samples.values() if index not in reached]
        distance, index = zip(*[*found, *beyond][:k], strict=True)
        return np.array(distance, np.float64), np.array(index, np.int64)

    def _place(self) -> Path:
        if self.collection is not None:
            return Path(self.collection)
        folder = tempfile.mkdtemp(prefix="resight-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder) / "photos.resight"


def _rows(collection: Collection) -> dict[str, int]:
    """Rows of photos that could be read, by path."""
    table = collection.snapshot.tables.images(["row", "path_bytes", "error_kind"])
    table = table.filter(table["error_kind"].is_null())
    paths = [os.fsdecode(path) for path in table["path_bytes"].to_pylist()]
    return dict(zip(paths, table["row"].to_pylist(), strict=True))
