"""Labelled photos beside a collection: what semi-supervised traversal follows, and never returns."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resight.artifacts import files
from resight.artifacts.descriptors import Descriptors
from resight.errors import CollectionError, UsageError
from resight.ranking.propagation import TrainingPhotos, label_collection
from resight.store.tensor_file import read_tensors, write_tensors
from resight.store.writer import Writer
from resight.types import Float32, Int64

FORMAT = "resight labelled photos 1"


def save_labels(writer: Writer, vectors: Float32, labels: Int64, model: str, proven: Int64 | None = None) -> None:
    """Keep descriptors (n, D) of labelled photos, as the network of fingerprint `model` gives them, and their labels
    (n,) from 0, in place of earlier ones.

    `proven` (P, 3) int64: a row of the collection, the labelled photo that geometry proves to show the same, and the
    inliers; None where geometry was not asked.
    """
    tensors = {"vectors": vectors, "labels": labels} | ({} if proven is None else {"proven": proven})
    write_tensors(files.place(writer, files.LABELS), FORMAT, tensors, {"descriptor": model})


def load_labels(folder: Path, descriptors: Descriptors) -> TrainingPhotos | None:
    """The labelled photos of a collection, and what they say of its own; None where there are none.

    Raises `CollectionError` when the file is damaged.
    """
    stored = files.read(
        files.LABELS,
        folder,
        lambda path: read_tensors(path, FORMAT, lambda tensors, _: dict(tensors)),
    )
    if stored is None:
        return None
    try:
        proven = None if "proven" not in stored else _listed(stored["proven"], descriptors.rows)
        vectors: Float32 = descriptors.whiten(stored["vectors"])
        return label_collection(descriptors.database, vectors, stored["labels"], proven)
    except UsageError as error:
        path = files.LABELS.path(folder)
        raise CollectionError(f"{path} does not fit the collection ({error}): run {files.LABELS.command}") from error


def _listed(proven: Int64, rows: Int64) -> Int64:
    """The labelled photos that geometry proves of each of `rows` (N,), the most inliers first, (N, k), -1 padded."""
    order = np.lexsort((proven[:, 1], -proven[:, 2], proven[:, 0]))
    known = order[np.isin(proven[order, 0], rows)]
    node = np.searchsorted(rows, proven[known, 0])
    counts = np.bincount(node, minlength=len(rows))
    slot = np.arange(len(node)) - np.repeat(np.cumsum(counts) - counts, counts)
    listed = np.full((len(rows), counts.max(initial=0)), -1, np.int64)
    listed[node, slot] = proven[known, 1]
    return listed
