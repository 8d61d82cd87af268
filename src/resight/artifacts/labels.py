"""Labelled photos beside a collection: what semi-supervised traversal follows, and never returns."""

from __future__ import annotations

import csv
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
    folder: Path, descriptor: GlobalDescriptor, path: Path, *, progress: Progress = silent
) -> tuple[int, list[Problem]]:
    """Describe the labelled photos of a csv file, `photo,label` per line, and keep them beside the collection `folder`.

    Photos are paths relative to the file. They take the place of labelled photos of an earlier call. Returns how many
    were kept, and a problem for each that could not be read. Raises `UsageError` for a file that is not such a list,
    and for a photo that does not exist.
    """
    photos, names = _read(path)
    found = extract(descriptor, photos, progress=progress)
    if not len(found.places):
        raise UsageError(f"none of the {len(photos)} labelled photos of {path} can be read")
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


def _read(path: Path) -> tuple[list[str], list[str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [(number, line) for number, line in enumerate(csv.reader(file), 1) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as csv: {error}") from error
    photos, labels = [], []
    for number, line in lines:
        if len(line) != 2 or not line[1].strip():
            raise UsageError(f"line {number} of {path} is not of the form photo,label")
        photo = path.parent / line[0].strip()
        if not photo.is_file():
            raise UsageError(f"line {number} of {path}: there is no photo {photo}")
        photos.append(str(photo))
        labels.append(line[1].strip())
    if not photos:
        raise UsageError(f"{path} holds no labelled photos")
    return photos, labels
