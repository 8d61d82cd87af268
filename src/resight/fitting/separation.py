"""Refined descriptors of a collection: trained, kept beside the originals, extended to new photos, watched for drift.

They are derived files: the collection can be searched without them, and they can be made again at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from resight.artifacts.similarity import describe_collection
from resight.collection.collection import Collection
from resight.errors import ArrayError, CollectionError, StampMismatch, UsageError
from resight.fitting.separation_graph import MOST_NEIGHBOURS, listed_pairs, standing_out
from resight.graph.knn_graph import build_knn_graph, cut, neighbours
from resight.ranking.confidence import calibrate_vectors
from resight.ranking.pipeline import Pipeline
from resight.ranking.search import Standardised
from resight.ranking.separation import Separation, centred
from resight.ranking.vector_database import VectorDatabase
from resight.store.folder import derived_path
from resight.store.tensor_file import read_tensors, write_tensors
from resight.types import Float32, Int64, KnnGraph

if TYPE_CHECKING:
    from resight.graph.separation import SimilaritySeparation
    from resight.training.separation.fit import Epoch, Trained

MODEL, REFINED, CHECKPOINT = "separation.safetensors", "refined.safetensors", "separation_training.safetensors"
FORMAT = "resight-refined-1"
FEWEST = 10  # photos below which there is nothing to learn
SAMPLED = 1000
PATIENCE = 20
WHOLE = 30_000  # photos up to which all pairs are trained on
BATCH = 1024
GROWN = 1 / 3  # share of new photos from which training anew is advised
SHIFTED = 0.3  # distance of the distributions of nearest similarities, old and new, from which it is advised
FEWEST_NEW = 20  # photos below which their distribution says nothing


@dataclass(frozen=True)
class Drift:
    """How far a collection has moved from what its model was trained on.

    `new` and `gone`: photos since. `share`: of new ones in the collection. `shift`: largest difference, 0 to 1, between
    the distributions of similarity to the nearest photo of old and of new photos. `retrain`: why, or empty.
    """

    new: int
    gone: int
    share: float
    shift: float
    retrain: str


@dataclass(frozen=True, eq=False)
class Refinement:
    """Refined descriptors of a collection.

    `rows` (N,) ascending and `vectors` (N, D): all photos that have one. `model`: with what it needs of the `trained`
    rows (M,). `mean` (D,): taken from every descriptor first. `facts`: settings and story of the training, JSON.
    """

    rows: Int64
    vectors: Float32
    trained: Int64
    mean: Float32
    model: SimilaritySeparation
    facts: dict[str, Any]

    def stage(self, limit: int | None = None) -> Separation:
        """The stage that searches with them."""
        database = VectorDatabase.over(self.model.index.inputs[0], self.trained)
        refined = VectorDatabase.over(self.vectors, self.rows)
        return Separation(self.model, database, refined, self.mean, int(self.facts["query_neighbours"]), limit)


def refine(
    collection: Collection,
    *,
    k: int | None = None,
    verified: KnnGraph | None = None,
    epochs: int = 200,
    seed: int = 0,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Refinement:
    """Train refined descriptors of `collection` and store them. A training of the same photos that was stopped goes on.

    One setting serves all collections: descriptors less their mean; `k` neighbours, None for as many as stand out
    (`standing_out`); one more for queries; beta at percentile 98; two layers; training ends when hidden neighbours are
    no longer found better. `verified`: a graph of photos proven to show one thing, over the same photos in row order,
    whose edges are used instead, and whose pairs are what is hidden. Above 30 000 photos batches are trained on.
    Raises `UsageError` for fewer than 10 photos with descriptors, or a recipe without, and `CollectionError` when the
    disk refuses.
    """
    from resight.training.separation.files import checkpoint_fits, save_separation
    from resight.training.separation.files import fingerprint as training_data
    from resight.training.separation.fit import SeparationSettings, train_separation

    described = describe_collection(collection)
    rows, raw = described.rows, described.vectors
    if len(rows) < FEWEST:
        raise UsageError(f"{collection.path} has {len(rows)} photos with descriptors: at least {FEWEST} are needed")
    mean = raw.mean(axis=0)
    vectors = centred(raw, mean)
    k = min(k or standing_out(vectors), len(rows) - 1)
    graph = build_knn_graph(vectors, k) if verified is None else _checked(verified, len(rows))
    settings = SeparationSettings(
        epochs=epochs, patience=PATIENCE, batch=None if len(rows) <= WHOLE else BATCH, seed=seed
    )
    checkpoint = derived_path(collection.path, CHECKPOINT)
    if checkpoint.exists() and not checkpoint_fits(checkpoint, training_data(vectors, graph, settings)):
        checkpoint.unlink()  # of photos or options that have changed since it was stopped
    trained = train_separation(
        vectors,
        graph,
        settings,
        trusted=None if verified is None else listed_pairs(graph),
        device=device,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
    )
    facts = _facts(trained, graph, verified is not None, describe_collection(collection).fingerprint)
    facts["query_neighbours"] = min(k + 1, len(rows))
    model = trained.model.to("cpu")
    refinement = Refinement(rows, model.embed(vectors, graph), rows, mean, model, facts)
    save_separation(derived_path(collection.path, MODEL), model, facts)
    _save(collection, refinement)
    checkpoint.unlink(missing_ok=True)
    return refinement


def refinement_exists(collection: Collection) -> bool:
    """Whether `refine` has stored something for this collection."""
    return derived_path(collection.path, REFINED).exists()


def load_refinement(collection: Collection) -> Refinement:
    """Read what `refine` stored, as it is: photos that came since are not in it, ones that went are left out.

    Raises `CollectionError` when there is none or it is damaged, `StampMismatch` when the collection's descriptors are
    of another network or whitening by now.
    """
    from resight.graph.separation import EmbeddedIndex
    from resight.training.separation.files import load_separation

    path = derived_path(collection.path, REFINED)
    if not refinement_exists(collection):
        raise CollectionError(
            f"{collection.path} has no refined descriptors: run resight fit separation {collection.path}"
        )
    model, facts = load_separation(derived_path(collection.path, MODEL))
    if facts.get("made_from") != describe_collection(collection).fingerprint:
        raise StampMismatch(
            f"the refined descriptors of {collection.path} were made from other descriptors than it has now: "
            f"run resight fit separation {collection.path} --retrain"
        )

    def build(tensors: dict[str, Any], metadata: dict[str, str]) -> Refinement:
        if metadata["model"] != _name(facts) or tensors["rows"].shape != tensors["vectors"].shape[:1]:
            raise ArrayError("its parts do not belong together")
        inputs = tuple(tensors[f"input.{layer}"] for layer in range(model.layers))
        model.attach(EmbeddedIndex(inputs, tensors["degrees"]))
        return Refinement(tensors["rows"], tensors["vectors"], tensors["trained"], tensors["mean"], model, facts)

    stored = read_tensors(path, FORMAT, build)
    kept = np.isin(stored.rows, describe_collection(collection).rows)
    return replace(stored, rows=stored.rows[kept], vectors=stored.vectors[kept])


def refined_pipeline(stored: Refinement, *, limit: int | None = None) -> Pipeline:
    """Search by refined descriptors, scored in standard deviations above unrelated photos, as other recipes score."""
    return Pipeline((stored.stage(limit), Standardised(calibrate_vectors(stored.vectors))))


def extend_refinement(collection: Collection, stored: Refinement) -> Refinement:
    """`stored` with the photos of the collection that it lacks, embedded without training, and stored.

    Every new photo is treated as a query: its neighbours are photos that were trained on.
    """
    described = describe_collection(collection)
    rows, raw = described.rows, described.vectors
    new = ~np.isin(rows, stored.rows)
    if not new.any() and len(stored.rows) == len(rows):
        return stored
    vectors = centred(raw[new], stored.mean)
    near = neighbours(vectors, stored.model.index.inputs[0], int(stored.facts["query_neighbours"]))
    every = np.concatenate([stored.rows, rows[new]])
    order = np.argsort(every)
    embedded = np.concatenate([stored.vectors, stored.model.extend(vectors, near)])[order]
    extended = replace(stored, rows=every[order], vectors=embedded)
    _save(collection, extended)
    return extended


def drift(collection: Collection, stored: Refinement) -> Drift:
    """How far `collection` has moved from what `stored` was trained on, from its descriptors alone."""
    described = describe_collection(collection)
    rows, raw = described.rows, described.vectors
    fresh = ~np.isin(rows, stored.trained)
    gone = int((~np.isin(stored.trained, rows)).sum())
    new, share = int(fresh.sum()), float(fresh.mean()) if len(rows) else 0.0
    shift = 0.0
    if new >= FEWEST_NEW:
        rng = np.random.default_rng(0)
        known = stored.model.index.inputs[0]
        old = rng.choice(len(known), min(SAMPLED, len(known)), replace=False)
        young = rng.choice(np.flatnonzero(fresh), min(SAMPLED, new), replace=False)
        # the second nearest of an old photo, as the nearest is itself
        near_old = neighbours(known[old], known, 2).weights[:, 1]
        near_new = neighbours(centred(raw[young], stored.mean), known, 1).weights[:, 0]
        shift = _distance(near_old, near_new)
    why = ""
    if share > GROWN:
        why = f"{share:.0%} of the photos came after the training"
    elif shift > SHIFTED:
        why = f"new photos are less like the old ones than those among each other, or more (difference {shift:.2f})"
    return Drift(new, gone, share, shift, why)


def _checked(verified: KnnGraph, count: int) -> KnnGraph:
    if len(verified) != count:
        raise UsageError(f"the verified graph has {len(verified)} nodes for {count} photos with descriptors")
    return cut(verified, min(verified.k, MOST_NEIGHBOURS, count - 1))


def _facts(trained: Trained, graph: KnnGraph, verified: bool, made_from: str) -> dict[str, Any]:
    return {
        "made_from": made_from,
        "photos": len(graph),
        "neighbours": float((graph.ids >= 0).sum() / len(graph)),
        "verified": verified,
        "beta": trained.beta.value,
        "beta_error": trained.beta.error,
        "best": trained.best,
        "stopped": trained.stopped,
        "epochs": [epoch.__dict__ for epoch in trained.epochs],
    }


def _save(collection: Collection, refinement: Refinement) -> None:
    index = refinement.model.index
    tensors: dict[str, Any] = {f"input.{layer}": part for layer, part in enumerate(index.inputs)}
    tensors |= {"degrees": index.degrees, "rows": refinement.rows, "vectors": refinement.vectors}
    tensors |= {"trained": refinement.trained, "mean": refinement.mean}
    path = derived_path(collection.path, REFINED)
    write_tensors(path, FORMAT, tensors, {"model": _name(refinement.facts)})


def _name(facts: dict[str, Any]) -> str:
    """Tells one training from another: model and vectors lie in two files."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _distance(a: Float32, b: Float32) -> float:
    """Largest difference of the distribution functions of two samples (Kolmogorov and Smirnov)."""
    every = np.sort(np.concatenate([a, b]))
    return float(
        np.abs(
            np.searchsorted(np.sort(a), every, side="right") / len(a)
            - np.searchsorted(np.sort(b), every, side="right") / len(b)
        ).max()
    )
