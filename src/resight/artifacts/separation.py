"""Separated descriptors of a collection: kept beside the originals, extended to new photos, watched for drift.

`resight.fitting.separation` trains them. The collection can be searched without them, and they can be made again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from resight.artifacts import files
from resight.artifacts.descriptors import Descriptors
from resight.errors import ArrayError, StampMismatch
from resight.extras import needed
from resight.graph.knn_graph import neighbours
from resight.ranking.confidence import Confidence, calibrate_vectors
from resight.ranking.pipeline import Pipeline
from resight.ranking.search import Filter
from resight.ranking.separation import Separation, centred
from resight.ranking.vector_database import VectorDatabase
from resight.ranking.verification import Verifier
from resight.store.tensor_file import read_tensors, write_tensors
from resight.store.writer import Writer
from resight.types import Float32, Int64, Stage

if TYPE_CHECKING:
    from pathlib import Path

    from resight.graph.separation import SimilaritySeparation

FORMAT = "resight-refined-1"
SAMPLED = 1000
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
class Separated:
    """Separated descriptors of a collection.

    `rows` (N,) ascending and `vectors` (N, D): all photos that have one. `model`: with what it needs of the `trained`
    rows (M,). `mean` (D,): taken from every descriptor first. `facts`: settings and story of the training, JSON.
    """

    rows: Int64
    vectors: Float32
    trained: Int64
    mean: Float32
    model: SimilaritySeparation
    facts: dict[str, Any]

    @cached_property
    def confidence(self) -> Confidence:
        """What unrelated photos score."""
        return calibrate_vectors(self.vectors)

    @cached_property
    def network(self) -> Separation:
        """The stage that searches with them."""
        database = VectorDatabase.over(self.model.index.inputs[0], self.trained)
        separated = VectorDatabase.over(self.vectors, self.rows)
        return Separation(self.model, database, separated, self.mean, int(self.facts["query_neighbours"]))

    def stage(
        self,
        limit: int | None = None,
        allowed: Int64 | None = None,
        *,
        k: int | None = None,
        verifier: Verifier | None = None,
        verify: int = 20,
    ) -> Stage:
        """The stage that gives the first `limit` of the `allowed` rows. `k`: neighbours of a query, None for as many as
        in the training; `verifier` and `verify` as in `Separation`.
        """
        network = replace(self.network, k=self.network.k if k is None else k, verifier=verifier, verify=verify)
        if allowed is None:
            return replace(network, limit=limit)
        found: Pipeline = network >> Filter(allowed)
        return found if limit is None else found % limit


def save_separated(writer: Writer, separated: Separated) -> None:
    """Write the descriptors of all photos, and what the network needs of those it was trained on."""
    index = separated.model.index
    tensors: dict[str, Any] = {f"input.{layer}": part for layer, part in enumerate(index.inputs)}
    tensors |= {"degrees": index.degrees, "rows": separated.rows, "vectors": separated.vectors}
    tensors |= {"trained": separated.trained, "mean": separated.mean}
    write_tensors(files.place(writer, files.SEPARATED), FORMAT, tensors, {"model": _name(separated.facts)})


def load_separated(folder: Path, descriptors: Descriptors) -> Separated | None:
    """What `resight fit separation` stored, as it is, None where there is nothing: photos that came since are not in
    it, ones that went are left out.

    Raises `CollectionError` when it is damaged, `StampMismatch` when `descriptors` are of another network or whitening.
    """
    if not files.SEPARATED.exists(folder):
        return None
    with needed("searching separated descriptors"):
        from resight.training.separation.files import load_separation

    stored_model = files.read(files.SEPARATION, folder, load_separation)
    if stored_model is None:
        return None
    model, facts = stored_model
    if facts.get("made_from") != descriptors.fingerprint:
        raise StampMismatch(
            f"the separated descriptors of {folder} were made from other descriptors than it has now: "
            f"run {files.SEPARATION.command} on it again"
        )

    def build(tensors: dict[str, Any], metadata: dict[str, str]) -> Separated:
        from resight.graph.separation import EmbeddedIndex

        if metadata["model"] != _name(facts) or tensors["rows"].shape != tensors["vectors"].shape[:1]:
            raise ArrayError("its parts do not belong together")
        inputs = tuple(tensors[f"input.{layer}"] for layer in range(model.layers))
        model.attach(EmbeddedIndex(inputs, tensors["degrees"]))
        return Separated(tensors["rows"], tensors["vectors"], tensors["trained"], tensors["mean"], model, facts)

    stored = files.read(files.SEPARATED, folder, lambda path: read_tensors(path, FORMAT, build))
    assert stored is not None
    kept = np.isin(stored.rows, descriptors.rows)
    return replace(stored, rows=stored.rows[kept], vectors=stored.vectors[kept])


def extend_separated(writer: Writer, stored: Separated, descriptors: Descriptors) -> Separated:
    """`stored` with the photos that it lacks, embedded without training, and written.

    Every new photo is treated as a query: its neighbours are photos that were trained on.
    """
    rows, raw = descriptors.rows, descriptors.matrix
    new = ~np.isin(rows, stored.rows)
    if not new.any() and len(stored.rows) == len(rows):
        return stored
    vectors = centred(raw[new], stored.mean)
    near = neighbours(vectors, stored.model.index.inputs[0], int(stored.facts["query_neighbours"]))
    every = np.concatenate([stored.rows, rows[new]])
    order = np.argsort(every)
    embedded = np.concatenate([stored.vectors, stored.model.extend(vectors, near)])[order]
    extended = replace(stored, rows=every[order], vectors=embedded)
    save_separated(writer, extended)
    return extended


def drift(stored: Separated, descriptors: Descriptors) -> Drift:
    """How far a collection has moved from what `stored` was trained on, from its descriptors alone."""
    rows, raw = descriptors.rows, descriptors.matrix
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
        why = f"the new photos are distributed differently from the old ones (distance {shift:.2f})"
    return Drift(new, gone, share, shift, why)


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
