"""What can be learnt about a collection after its photos are in: whitening, graphs, their options, labels, fusion.

Each function writes what it learns into the collection, which searches with it from then on.
"""

from __future__ import annotations

from pathlib import Path

from resight.artifacts.descriptors import given
from resight.artifacts.labels import keep_labelled
from resight.artifacts.neighbours import GraphReport, build_graphs
from resight.artifacts.neighbours import tune as tune_options
from resight.collection.collection import Collection
from resight.errors import UsageError
from resight.features.whitening import Whitening
from resight.fitting.examples import matching_pairs, read_labels
from resight.fitting.fusion import FusionWeight, learn_from_geometry, learn_from_pairs, save_weight
from resight.images.scan import Problem
from resight.progress import Progress, silent
from resight.ranking.tuning import Automatic
from resight.store.writer import writing


def use_whitening(collection: Collection, whitening: Whitening, *, progress: Progress = silent) -> None:
    """Whiten the global descriptors so from now on; the collection does not learn a whitening by itself any more.

    Raises `UsageError` when the recipe has none, or the whitening is of another dimension.
    """
    if collection.tables.dim != len(whitening.mean):
        have = collection.tables.dim or "no"
        what = f"a whitening of {len(whitening.mean)} dimensions does not fit {collection.path}"
        raise UsageError(f"{what}: its descriptors have {have}")
    with writing(collection.path, "whiten") as writer:
        collection.sync(writer, progress, whitening=given(whitening))


def build_graph(
    collection: Collection, k: int = 50, *, verified: bool = False, offline: bool = False, progress: Progress = silent
) -> list[GraphReport]:
    """Build and store the kNN graph that recipes follow; see `resight.artifacts.neighbours.build_graphs`."""
    verifier = collection.verifier if collection.settings.local is not None else None
    with writing(collection.path, "build the graph"):
        return build_graphs(
            collection.path, collection.whole, verifier, k=k, verified=verified, offline=offline, progress=progress
        )


def tune(collection: Collection) -> Automatic:
    """Choose the options of graph recipes for this collection, without labels."""
    with writing(collection.path, "tune"):
        return tune_options(collection.path, collection.whole)


def add_labels(collection: Collection, path: Path, *, progress: Progress = silent) -> tuple[int, list[Problem]]:
    """Keep the labelled photos of a csv file beside the collection, for semi-supervised recipes.

    Returns how many, and a problem for each that could not be read. Raises `UsageError` without global descriptors, by
    which labels are followed, and as `read_labels` and `keep_labelled` do.
    """
    descriptor = collection.descriptor
    if descriptor is None:
        raise UsageError(f"{collection.path} has no global descriptors, by which labels are followed: see recipe gem")
    photos, labels = read_labels(path)
    return keep_labelled(collection.path, descriptor, photos, labels, progress=progress)


def learn_fusion(collection: Collection, pairs: Path | None = None, groups: Path | None = None) -> FusionWeight:
    """Learn the weight of the global descriptor in recipe hybrid.

    `pairs` or `groups`: a csv file (`resight.fitting.examples`); neither: pairs that geometry proves. Raises
    `UsageError` for another recipe, and when there are too few pairs.
    """
    index, whole = collection.derived.index, collection.whole
    if index is None or collection.settings.local is None:
        raise UsageError(f"{collection.path} has no local features to fuse with: see recipe hybrid")
    parts = (index, collection.derived.confidence, whole, collection.verifier)
    if pairs is None and groups is None:
        learnt = learn_from_geometry(*parts)
    else:
        learnt = learn_from_pairs(*parts, *matching_pairs(collection.ids, whole.rows, pairs=pairs, groups=groups))
    with writing(collection.path, "fuse"):
        save_weight(collection.path, learnt)
    return learnt
