"""Labelled photos beside a collection: what semi-supervised traversal follows, and never returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resight.artifacts.descriptors import Vectors
from resight.errors import CollectionError, UsageError
from resight.features.extraction import extract
from resight.features.global_descriptor import GlobalDescriptor
from resight.images.scan import Problem
from resight.progress import Progress, silent
from resight.ranking.propagation import TrainingPhotos, label_collection
from resight.ranking.vector_database import VectorDatabase
from resight.store.tensor_file import read_tensors, write_tensors
from resight.store.writer import writing
from resight.types import Float32, Int64

LABELLED = "labelled.safetensors"
FORMAT = "resight labelled photos 1"


def keep_labelled(
    folder: Path,
    descriptor: GlobalDescriptor,
    photos: Sequence[str],
    names: Sequence[str],
    *,
    progress: Progress = silent,
) -> tuple[int, list[Problem]]:
    """Describe labelled `photos`, paths, with the `names` of what they show, and keep them beside the collection
    `folder`.

    They take the place of labelled photos of an earlier call. Returns how many were kept, and a problem for each that
    could not be read. Raises `UsageError` when none can be read.
    """
    found = extract(descriptor, photos, progress=progress)
    if not len(found.places):
        raise UsageError(f"none of the {len(photos)} labelled photos can be read: give photographs")
    labels = np.unique(names, return_inverse=True)[1][found.places].astype(np.int64)
    tensors = {"vectors": np.ascontiguousarray(found.vectors), "labels": labels}
    with writing(folder, "label"):
        write_tensors(folder / LABELLED, FORMAT, tensors, {"descriptor": descriptor.fingerprint})
    return len(labels), [Problem(name, error.kind, str(error)) for name, error in found.problems]


def training_photos(folder: Path, vectors: Vectors) -> TrainingPhotos | None:
    """The labelled photos of a collection, and what they say of its own; None where there are none.

    Raises `CollectionError` when the file is damaged.
    """
    path = folder / LABELLED
    if not path.exists():
        return None
    raw, labels = read_tensors(path, FORMAT, lambda tensors, _: (tensors["vectors"], tensors["labels"]))
    try:
        known: tuple[Float32, Int64] = (vectors.whiten(raw), labels)
        return label_collection(VectorDatabase(vectors.matrix, vectors.rows, vectors.index), *known)
    except UsageError as error:
        raise CollectionError(f"{path} does not fit the collection ({error}): add the labels again") from error
