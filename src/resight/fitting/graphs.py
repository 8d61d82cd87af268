"""The graphs of a collection, and options of the recipes that follow them."""

from __future__ import annotations

from resight.artifacts import files
from resight.artifacts.descriptors import Descriptors
from resight.artifacts.neighbours import GraphReport, build_graphs, load_neighbours
from resight.artifacts.options import save_tuned
from resight.artifacts.vlad import make_vlad
from resight.collection.collection import Collection
from resight.collection.snapshot import Snapshot
from resight.progress import Progress, silent
from resight.ranking.expansion_stages import Augmentation
from resight.ranking.tuning import Tuned, choose_settings
from resight.store.writer import Writer, writing


def build_graph(
    collection: Collection,
    k: int = 50,
    *,
    verified: bool = False,
    offline: bool = False,
    spectral: bool = False,
    manifold: bool = False,
    augmented: Augmentation | None = None,
    progress: Progress = silent,
) -> list[GraphReport]:
    """Build and store the kNN graph that recipes follow; see `resight.artifacts.neighbours.build_graphs`."""
    with writing(collection.path, "build the graph") as writer:
        descriptors = descriptors_of(collection, writer, progress)
        reports = build_graphs(
            writer,
            descriptors,
            collection.snapshot.verifier,
            k=k,
            verified=verified,
            offline=offline,
            spectral=spectral,
            manifold=manifold,
            augmented=augmented,
            progress=progress,
        )
        _reopen(collection, writer)
    return reports


def tune(collection: Collection, *, progress: Progress = silent) -> Tuned:
    """Choose the options of graph recipes for this collection, without labels, and keep them for its searches."""
    with writing(collection.path, "tune") as writer:
        descriptors = descriptors_of(collection, writer, progress)
        tuned = choose_settings(descriptors.matrix, load_neighbours(collection.path, files.VERIFIED_GRAPH, descriptors))
        save_tuned(writer, tuned)
        _reopen(collection, writer)
    return tuned


def descriptors_of(collection: Collection, writer: Writer, progress: Progress = silent) -> Descriptors:
    """The global descriptors of a collection; VLAD, made where it is missing, when it keeps local features alone.

    Raises `UsageError` with too few photos for VLAD.
    """
    if collection.settings.vector is None:
        return make_vlad(writer, progress)
    found = Snapshot(writer.tables, collection.snapshot.stamp).descriptors
    assert found is not None
    return found


def _reopen(collection: Collection, writer: Writer) -> None:
    collection.snapshot = Snapshot(writer.tables, collection.snapshot.stamp)
