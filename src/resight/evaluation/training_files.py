"""Labelled training photos for feature files: their descriptors, their labels, and what geometry proves of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resight.errors import UsageError
from resight.evaluation.list_files import read_lists
from resight.evaluation.readers.columns import read_columns
from resight.evaluation.streaming import nearest_in_blocks, stream_vectors
from resight.graph.labels import majority_labels, united_labels, verified_labels
from resight.types import Float32, Int64, KnnGraph

LABEL_COLUMNS = ("landmark_id", "label")
BLOCK = 8192  # training descriptors that are in memory at a time


@dataclass(frozen=True, eq=False)
class Labelled:
    """`labels` (M, s) int64 of photos, -1 for none, the strength of their `votes` (M, s), and the training photos that
    decided, `near` (M, k).
    """

    labels: Int64
    votes: Float32
    near: KnnGraph


@dataclass(frozen=True, eq=False)
class TrainingFiles:
    """Training photos in files: `vectors`, the place of their descriptors, and `labels` (T,) int64 from 0."""

    vectors: Path
    labels: Int64

    def blocks(self, dim: int) -> Iterator[Float32]:
        """Their descriptors (b, dim), a block at a time. Raises `UsageError` unless there is one for each label."""
        rows = 0
        for block in stream_vectors(self.vectors, dim, BLOCK):
            rows += len(block)
            yield block
        if rows != len(self.labels):
            raise UsageError(
                f"{self.vectors} holds {rows} descriptors and there are {len(self.labels)} labels: one each is needed"
            )

    def label(self, vectors: Float32, top: int, proven: str) -> Labelled:
        """Labels of photos `vectors` (M, D).

        The majority of the `top` nearest decides; where `proven` is given, a file as `read_lists` reads it, its label
        stands beside, s = 2, even where they conflict. Raises `UsageError` for files that do not fit.
        """
        near = nearest_in_blocks(vectors, self.blocks(vectors.shape[1]), top)
        labels, votes = majority_labels(near, self.labels, min(top, near.k))
        if not proven:
            return Labelled(labels[:, None], votes[:, None], near)
        listed = read_lists(proven, len(vectors), len(self.labels))
        similarity = self._similarities(vectors, listed)
        united = united_labels(labels, votes, *verified_labels(listed, self.labels, similarity))
        return Labelled(*united, KnnGraph(np.hstack((near.ids, listed)), np.hstack((near.weights, similarity))))

    def _similarities(self, vectors: Float32, listed: Int64) -> Float32:
        """Inner products of each photo and the training photos it lists, (M, k)."""
        found, first = np.full(listed.shape, -np.inf, np.float32), 0
        for block in self.blocks(vectors.shape[1]):
            row, slot = np.nonzero((listed >= first) & (listed < first + len(block)))
            pairs = vectors[row].astype(np.float64), block[listed[row, slot] - first].astype(np.float64)
            found[row, slot] = np.einsum("ed,ed->e", *pairs)
            first += len(block)
        return found


def read_training(vectors: str, labels: str) -> TrainingFiles:
    """Training photos of two files: descriptors (npy, h5 or parquet) in the order of the rows of a csv file, which has
    a column `landmark_id` or `label`. Raises `UsageError` for a file that is not given or cannot be read.
    """
    for path, option, what in ((vectors, "training", "descriptors"), (labels, "labels", "labels")):
        if not path:
            raise UsageError(f"give the file of the {what} of the training photos: --set {option}=FILE")
    columns = read_columns(Path(labels), [], LABEL_COLUMNS)
    named = [columns[name] for name in LABEL_COLUMNS if name in columns]
    if not named:
        raise UsageError(f"{labels} has no column {' or '.join(LABEL_COLUMNS)}")
    if not named[0]:
        raise UsageError(f"{labels} holds no training photos")
    return TrainingFiles(Path(vectors), np.unique(named[0], return_inverse=True)[1].astype(np.int64))
