"""Labelled photos of one's own, described and kept beside a collection for semi-supervised recipes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resight.artifacts.labels import save_labels
from resight.collection.collection import Collection
from resight.errors import UsageError
from resight.features.extraction import extract
from resight.fitting.examples import read_labels
from resight.images.scan import Problem
from resight.progress import Progress, silent
from resight.ranking.propagation import INDEX_VOTES
from resight.store.writer import writing


def label(collection: Collection, path: Path, *, progress: Progress = silent) -> tuple[int, list[Problem]]:
    """Describe the labelled photos of a csv file (`resight.fitting.examples`) and keep them beside the collection.

    They take the place of labelled photos of an earlier call. Returns how many
    were kept, and a problem for each that could not be read. Raises `UsageError` without global descriptors, by which
    labels are followed, as `read_labels` does, and for fewer than five
    photos that can be read.
    """
    network = collection.snapshot.network
    if network is None:
        raise UsageError(
            f"{collection.path} has no network by which labels are followed: index the photos with a recipe that "
            "keeps a vector"
        )
    photos, names = read_labels(path)
    found = extract(network, photos, progress=progress)
    if len(found.places) < INDEX_VOTES:
        raise UsageError(
            f"{len(found.places)} labelled photos of {path} can be read, but labels are decided by the {INDEX_VOTES} "
            f"nearest ones: give at least {INDEX_VOTES}"
        )
    labels = np.unique(names, return_inverse=True)[1][found.places].astype(np.int64)
    with writing(collection.path, "label") as writer:
        save_labels(writer, np.ascontiguousarray(found.vectors), labels, network.fingerprint)
        collection.update(writer, progress=progress)
    return len(labels), [Problem(name, error.kind, str(error)) for name, error in found.problems]
