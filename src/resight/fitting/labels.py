"""Labelled photos of one's own, described and kept beside a collection for semi-supervised recipes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resight.artifacts.labels import save_labels
from resight.collection.collection import Collection
from resight.errors import UsageError
from resight.features.extraction import extract
from resight.fitting.examples import read_labels
from resight.graph.knn_graph import neighbours
from resight.images.scan import Problem
from resight.progress import Progress, silent
from resight.ranking.propagation import INDEX_VOTES
from resight.store.writer import writing
from resight.types import Float32, Int64


def label(
    collection: Collection, path: Path, *, verified: bool = False, progress: Progress = silent
) -> tuple[int, list[Problem]]:
    """Describe the labelled photos of a csv file (`resight.fitting.examples`) and keep them beside the collection.

    They take the place of labelled photos of an earlier call. `verified`: geometry compares every photo of the
    collection with the labelled ones that vote for its label, and the label of those it proves stands beside that of
    the vote; photos that are added later have the vote alone. Returns how many were kept, and a problem for each that
    could not be read. Raises `UsageError` without global descriptors, by which labels are followed, or, when
    `verified`, without local features; as `read_labels` does; and for fewer than five photos that can be read.
    """
    network = collection.snapshot.network
    if network is None:
        raise UsageError(
            f"{collection.path} has no network by which labels are followed: index the photos with recipe gem or hybrid"
        )
    if verified and collection.snapshot.verifier is None:
        raise UsageError(f"{collection.path} keeps no local features to verify: index it with recipe hybrid")
    photos, names = read_labels(path)
    found = extract(network, photos, progress=progress)
    if len(found.places) < INDEX_VOTES:
        raise UsageError(
            f"{len(found.places)} labelled photos of {path} can be read, but labels are decided by the {INDEX_VOTES} "
            f"nearest ones: give at least {INDEX_VOTES}"
        )
    labels = np.unique(names, return_inverse=True)[1][found.places].astype(np.int64)
    vectors = np.ascontiguousarray(found.vectors)
    proven = None
    if verified:
        proven = _proven(collection, vectors, [photos[place] for place in found.places], progress)
    with writing(collection.path, "label") as writer:
        save_labels(writer, vectors, labels, network.fingerprint, proven)
        collection.update(writer, progress=progress)
    return len(labels), [Problem(name, error.kind, str(error)) for name, error in found.problems]


def _proven(collection: Collection, vectors: Float32, photos: Sequence[str], progress: Progress) -> Int64:
    """Row of the collection, labelled photo and inliers (P, 3) of all pairs that geometry proves, of those that vote.

    Each labelled photo is read once. Memory: 24 bytes a pair, besides one photo's features.
    """
    descriptors, verifier = collection.snapshot.descriptors, collection.snapshot.verifier
    assert descriptors is not None
    assert verifier is not None
    near = neighbours(descriptors.matrix, descriptors.whiten(vectors), INDEX_VOTES).ids
    found = []
    for number, photo in enumerate(photos):
        rows = descriptors.rows[(near == number).any(axis=1)]
        if len(rows):
            proofs = verifier(collection.query(photo).local, rows)
            found += [(row, number, p.inliers) for row, p in zip(rows.tolist(), proofs, strict=True) if p.verified]
        progress("verifying labels", number + 1, len(photos))
    return np.array(found, np.int64).reshape(-1, 3)
