"""Guided similarity separation of one's own collection: trained without labels, kept for its searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resight.artifacts import files
from resight.artifacts.descriptors import Descriptors
from resight.artifacts.neighbours import build_verified, load_neighbours
from resight.artifacts.separation import Separated, extend_separated, load_separated, save_separated
from resight.collection.collection import Collection
from resight.collection.snapshot import Snapshot
from resight.errors import UsageError
from resight.fitting.graphs import descriptors_of
from resight.graph.knn_graph import build_knn_graph, cut
from resight.graph.listed import MOST_NEIGHBOURS, listed_pairs, standing_out
from resight.progress import Progress, silent
from resight.ranking.separation import centred
from resight.store.writer import Writer, writing
from resight.types import KnnGraph

if TYPE_CHECKING:
    from resight.training.loop import Epoch
    from resight.training.separation.fit import TrainedSeparation

FEWEST = 10  # photos below which there is nothing to learn
PATIENCE = 20
ALL_PAIRS = 30_000  # photos up to which all pairs are trained on
BATCH = 1024


def fit_separation_to(
    collection: Collection,
    *,
    k: int | None = None,
    verified: bool = False,
    epochs: int = 200,
    seed: int = 0,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] | None = None,
    progress: Progress = silent,
) -> Separated:
    """Train separated descriptors of `collection` and store them. A training of the same photos that was stopped goes
    on.

    One setting serves all collections: descriptors less their mean; `k` neighbours, None for as many as stand out
    (`standing_out`); one more for queries; beta at percentile 98; two layers; training ends when hidden neighbours are
    no longer found better. `verified`: edges are those of the verified graph, built where it is missing, and its pairs
    are what is hidden. Above 30 000 photos batches are trained on.
    Raises `UsageError` for fewer than 10 photos with descriptors, and `CollectionError` when the disk refuses.
    """
    from resight.training.separation.files import checkpoint_of, save_separation
    from resight.training.separation.fit import train_separation
    from resight.training.separation.settings import SeparationSettings

    with writing(collection.path, "fit separation") as writer:
        descriptors = descriptors_of(collection, writer, progress)
        rows, raw = descriptors.rows, descriptors.matrix
        if len(rows) < FEWEST:
            raise UsageError(f"{collection.path} has {len(rows)} photos with descriptors: at least {FEWEST} are needed")
        mean = raw.mean(axis=0)
        vectors = centred(raw, mean)
        k = min(k or standing_out(vectors), len(rows) - 1)
        graph = _verified(collection, writer, descriptors, progress) if verified else build_knn_graph(vectors, k)
        settings = SeparationSettings(
            epochs=epochs, patience=PATIENCE, batch=None if len(rows) <= ALL_PAIRS else BATCH, seed=seed
        )
        checkpoint = files.place(writer, files.SEPARATION_TRAINING)
        if checkpoint.exists() and not checkpoint_of(checkpoint, vectors, graph, settings).fits():
            files.remove(writer, files.SEPARATION_TRAINING)  # of photos or options that have changed since
        trained = train_separation(
            vectors,
            graph,
            settings,
            trusted=listed_pairs(graph) if verified else None,
            device=device,
            checkpoint=checkpoint,
            on_epoch=on_epoch,
        )
        facts = _facts(trained, graph, verified, descriptors.fingerprint)
        facts["query_neighbours"] = min(k + 1, len(rows))
        model = trained.model.to("cpu")
        separated = Separated(rows, model.embed(vectors, graph), rows, mean, model, facts)
        save_separation(files.place(writer, files.SEPARATION), model, facts)
        save_separated(writer, separated)
        files.remove(writer, files.SEPARATION_TRAINING)
        collection.snapshot = Snapshot(writer.tables, collection.snapshot.stamp)
    return separated


def extend_separation(collection: Collection) -> Separated | None:
    """Take the photos that came since into the separated descriptors, without training; None where there are none.

    Raises `StampMismatch` when the collection's descriptors are of another network or whitening by now.
    """
    with writing(collection.path, "fit separation") as writer:
        descriptors = descriptors_of(collection, writer)
        stored = load_separated(collection.path, descriptors)
        if stored is not None:
            stored = extend_separated(writer, stored, descriptors)
        collection.snapshot = Snapshot(writer.tables, collection.snapshot.stamp)
    return stored


def _verified(collection: Collection, writer: Writer, descriptors: Descriptors, progress: Progress) -> KnnGraph:
    """The graph of photos that geometry proves to show one thing, in row order; built and stored where it is missing.

    Raises `UsageError` for a collection without local features to verify.
    """
    verifier = collection.snapshot.verifier
    if verifier is None:
        raise UsageError(f"{collection.path} keeps no local features to verify: index with a recipe that has some")
    known = load_neighbours(collection.path, files.VERIFIED_GRAPH, descriptors)
    if known is None:
        graph = build_knn_graph(descriptors.matrix, min(MOST_NEIGHBOURS, len(descriptors.rows) - 1))
        known = build_verified(writer, graph, descriptors, verifier, progress)
    return cut(known, min(known.k, MOST_NEIGHBOURS, len(descriptors.rows) - 1))


def _facts(trained: TrainedSeparation, graph: KnnGraph, verified: bool, made_from: str) -> dict[str, Any]:
    return {
        "made_from": made_from,
        "photos": len(graph),
        "neighbours": float((graph.ids >= 0).sum() / len(graph)),
        "verified": verified,
        "beta": trained.beta.value,
        "beta_error": trained.beta.error,
        "best": trained.best,
        "stopped": trained.stopped,
        "epochs": [
            {"number": e.number, "loss": e.loss, "found_again": e.validation, "seconds": e.seconds}
            for e in trained.epochs[1:]
        ],
    }
