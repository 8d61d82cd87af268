"""Learn how much the global descriptor counts in recipe `hybrid`, from given pairs or from what geometry proves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resight.artifacts.descriptors import Descriptors
from resight.artifacts.fusion import FusionWeight, save_weight
from resight.collection.collection import Collection
from resight.collection.snapshot import Snapshot
from resight.errors import UsageError
from resight.fitting.examples import matching_pairs
from resight.index.asmk import Asmk
from resight.ranking.confidence import Confidence
from resight.ranking.fusion_weight import learn_weight
from resight.ranking.search import stack
from resight.ranking.verification import Verifier
from resight.recipes.local import WEIGHT
from resight.store.writer import writing
from resight.types import Float32, Int64

SAMPLED = 20_000  # photos that are looked at
ASKED = 100  # random photos that are searched for
NEAREST = 5  # of each kind of similarity, that are verified


def fit_fusion(collection: Collection, pairs: Path | None = None, groups: Path | None = None) -> FusionWeight:
    """Learn the weight of the global descriptor in recipe hybrid, and keep it for searches.

    `pairs` or `groups`: a csv file (`resight.fitting.examples`); neither: pairs that geometry proves. Raises
    `UsageError` for another recipe, and when there are too few pairs.
    """
    snapshot = collection.snapshot
    index, descriptors, verifier = snapshot.index, snapshot.descriptors, snapshot.verifier
    if index is None or verifier is None or descriptors is None or collection.settings.vector is None:
        raise UsageError(f"{collection.path} does not keep both local features and a vector: see recipe hybrid")
    parts = (index, snapshot.confidence, descriptors, verifier)
    if pairs is None and groups is None:
        learned = learn_from_geometry(*parts)
    else:
        learned = learn_from_pairs(
            *parts, *matching_pairs(collection.ids, descriptors.rows, pairs=pairs, groups=groups)
        )
    with writing(collection.path, "fit fusion") as writer:
        save_weight(writer, learned)
        collection.snapshot = Snapshot(writer.tables, snapshot.stamp)
    return learned


def learn_from_geometry(
    index: Asmk, confidence: Confidence, descriptors: Descriptors, verifier: Verifier, *, seed: int = 0
) -> FusionWeight:
    """Without labels: random photos are searched for, and their nearest by either similarity verified.

    Photos that share no local feature are never proven, so the weight rather favours local features. Memory: 8 bytes
    for each of 100 photos and up to 20 000 others. Raises `UsageError` when geometry proves too few.
    """
    rng = np.random.default_rng(seed)
    rows = np.intersect1d(index.rows, descriptors.rows)
    rows = np.sort(rng.choice(rows, min(SAMPLED, len(rows)), replace=False))
    asked = np.sort(rng.choice(rows, min(ASKED, len(rows)), replace=False))
    local, vector = _similarities(index, confidence, descriptors, verifier, asked, rows)
    local[rows == asked[:, None]] = -np.inf
    vector[rows == asked[:, None]] = 0
    matching = np.zeros(local.shape, bool)
    for place, row in enumerate(asked):
        near = np.union1d(*(np.argsort(-kind[place], kind="stable")[:NEAREST] for kind in (local, vector)))
        near = near[rows[near] != row]
        query = verifier.features(np.array([row]))[0]
        matching[place, near] = [found.verified for found in verifier(query, rows[near])]
    return _learned(local, vector, matching, "photos that geometry proves to match")


def learn_from_pairs(
    index: Asmk, confidence: Confidence, descriptors: Descriptors, verifier: Verifier, left: Int64, right: Int64
) -> FusionWeight:
    """From rows `left` and `right` (n,) of pairs that show one thing; all other photos are taken not to.

    Memory: 8 bytes for each photo that is in a pair and each of the collection.
    """
    rows = np.intersect1d(index.rows, descriptors.rows)
    kept = np.isin(left, rows) & np.isin(right, rows)
    if not kept.any():
        raise UsageError("none of the pairs has both local features and a global descriptor")
    first, second = np.append(left[kept], right[kept]), np.append(right[kept], left[kept])
    asked, places = np.unique(first, return_inverse=True)
    local, vector = _similarities(index, confidence, descriptors, verifier, asked, rows)
    local[rows == asked[:, None]] = -np.inf
    matching = np.zeros(local.shape, bool)
    matching[places, np.searchsorted(rows, second)] = True
    return _learned(local, vector, matching, "given pairs")


def _learned(local: Float32, vector: Float32, matching: NDArray[np.bool_], source: str) -> FusionWeight:
    weight = learn_weight(local, vector, matching, usual=WEIGHT)
    return FusionWeight(weight, int(matching.any(axis=1).sum()), int(matching.sum()), source)


def _similarities(
    index: Asmk, confidence: Confidence, descriptors: Descriptors, verifier: Verifier, asked: Int64, rows: Int64
) -> tuple[Float32, Float32]:
    """Standardised similarities (a, n) by local features and by global descriptor of rows `asked` and `rows`."""
    features = tuple(verifier.features(asked))
    dense = index.scores(*stack(features, index.codebook.dim), queries=len(features))
    local = confidence.standardise(dense[:, np.searchsorted(index.rows, rows)])
    left, right = (descriptors.matrix[np.searchsorted(descriptors.rows, chosen)] for chosen in (asked, rows))
    return local.astype(np.float32), descriptors.confidence.standardise(left @ right.T).astype(np.float32)
