"""Labelled photos beside a collection: what semi-supervised traversal follows, and never returns."""

from __future__ import annotations

from pathlib import Path

from resight.artifacts import files
from resight.artifacts.descriptors import Descriptors
from resight.errors import CollectionError, UsageError
from resight.ranking.propagation import TrainingPhotos, label_collection
from resight.store.tensor_file import read_tensors, write_tensors
from resight.store.writer import Writer
from resight.types import Float32, Int64

FORMAT = "resight labelled photos 1"


def save_labels(writer: Writer, vectors: Float32, labels: Int64, model: str) -> None:
    """Keep descriptors (n, D) of labelled photos, as the network of fingerprint `model` gives them, and their labels
    (n,) from 0, in place of earlier ones.
    """
    tensors = {"vectors": vectors, "labels": labels}
    write_tensors(files.place(writer, files.LABELS), FORMAT, tensors, {"descriptor": model})


def load_labels(folder: Path, descriptors: Descriptors) -> TrainingPhotos | None:
    """The labelled photos of a collection, and what they say of its own; None where there are none.

    Raises `CollectionError` when the file is damaged.
    """
    stored = files.read(
        files.LABELS,
        folder,
        lambda path: read_tensors(path, FORMAT, lambda tensors, _: (tensors["vectors"], tensors["labels"])),
    )
    if stored is None:
        return None
    try:
        known: tuple[Float32, Int64] = (descriptors.whiten(stored[0]), stored[1])
        return label_collection(descriptors.database, *known)
    except UsageError as error:
        path = files.LABELS.path(folder)
        raise CollectionError(f"{path} does not fit the collection ({error}): run {files.LABELS.command}") from error
