"""Learn how much the global descriptor counts in recipe `hybrid`, from given pairs or from what geometry proves."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resight.artifacts.descriptors import Vectors
from resight.errors import CollectionError, UsageError
from resight.index.asmk import Asmk
from resight.ranking.confidence import Confidence
from resight.ranking.fusion_weight import learn_weight
from resight.ranking.search import stack
from resight.ranking.verification import Verifier
from resight.recipes.local import WEIGHT
from resight.store.folder import derived_path, faults, write_atomic
from resight.types import Float32, Int64

FILE = "fusion.json"
SAMPLED = 20_000  # photos that are looked at
ASKED = 100  # random photos that are searched for
NEAREST = 5  # of each kind of similarity, that are verified


@dataclass(frozen=True)
class FusionWeight:
    """What one standard deviation of the global descriptor is worth, learnt from `queries` with `matches` in all."""

    weight: float
    queries: int
    matches: int
    source: str


def learn_from_geometry(
    index: Asmk, confidence: Confidence, vectors: Vectors, verifier: Verifier, *, seed: int = 0
) -> FusionWeight:
    """Without labels: random photos are searched for, and their nearest by either similarity verified.

    Photos that share no local feature are never proven, so the weight rather favours local features. Memory: 8 bytes
    for each of 100 photos and up to 20 000 others. Raises `UsageError` when geometry proves too few.
    """
    rng = np.random.default_rng(seed)
    rows = np.intersect1d(index.rows, vectors.rows)
    rows = np.sort(rng.choice(rows, min(SAMPLED, len(rows)), replace=False))
    asked = np.sort(rng.choice(rows, min(ASKED, len(rows)), replace=False))
    local, whole = _similarities(index, confidence, vectors, verifier, asked, rows)
    local[rows == asked[:, None]] = -np.inf
    whole[rows == asked[:, None]] = 0
    matching = np.zeros(local.shape, bool)
    for place, row in enumerate(asked):
        near = np.union1d(*(np.argsort(-kind[place], kind="stable")[:NEAREST] for kind in (local, whole)))
        near = near[rows[near] != row]
        query = verifier.features(np.array([row]))[0]
        matching[place, near] = [proof.verified for proof in verifier(query, rows[near])]
    return _learnt(local, whole, matching, "photos that geometry proves to match")


def learn_from_pairs(
    index: Asmk, confidence: Confidence, vectors: Vectors, verifier: Verifier, left: Int64, right: Int64
) -> FusionWeight:
    """From rows `left` and `right` (n,) of pairs that show one thing; all other photos are taken not to.

    Memory: 8 bytes for each photo that is in a pair and each of the collection.
    """
    rows = np.intersect1d(index.rows, vectors.rows)
    kept = np.isin(left, rows) & np.isin(right, rows)
    if not kept.any():
        raise UsageError("none of the pairs has both local features and a global descriptor")
    first, second = np.append(left[kept], right[kept]), np.append(right[kept], left[kept])
    asked, places = np.unique(first, return_inverse=True)
    local, whole = _similarities(index, confidence, vectors, verifier, asked, rows)
    local[rows == asked[:, None]] = -np.inf
    matching = np.zeros(local.shape, bool)
    matching[places, np.searchsorted(rows, second)] = True
    return _learnt(local, whole, matching, "given pairs")


def _learnt(local: Float32, whole: Float32, matching: NDArray[np.bool_], source: str) -> FusionWeight:
    weight = learn_weight(local, whole, matching, usual=WEIGHT)
    return FusionWeight(weight, int(matching.any(axis=1).sum()), int(matching.sum()), source)


def save_weight(folder: Path, weight: FusionWeight) -> None:
    """Keep it for the searches of the collection `folder`."""
    derived_path(folder, FILE).parent.mkdir(exist_ok=True)
    write_atomic(derived_path(folder, FILE), json.dumps(asdict(weight)).encode())


def stored_weight(folder: Path) -> float | None:
    """What `save_weight` kept, None where nothing was. Raises `CollectionError` when the file is damaged."""
    path = derived_path(folder, FILE)
    if not path.exists():
        return None
    with faults("read", path):
        text = path.read_bytes()
    try:
        weight = float(json.loads(text)["weight"])
        if not (np.isfinite(weight) and weight >= 0):
            raise ValueError(f"weight {weight}")
    except (ValueError, KeyError, TypeError) as error:
        raise CollectionError(f"{path} is damaged ({error}): run resight fit fusion again") from error
    return weight


def _similarities(
    index: Asmk, confidence: Confidence, vectors: Vectors, verifier: Verifier, asked: Int64, rows: Int64
) -> tuple[Float32, Float32]:
    """Standardised similarities (a, n) by local features and by global descriptor of rows `asked` and `rows`."""
    features = tuple(verifier.features(asked))
    dense = index.scores(*stack(features, index.codebook.dim), queries=len(features))
    local = confidence.standardise(dense[:, np.searchsorted(index.rows, rows)])
    left, right = (vectors.matrix[np.searchsorted(vectors.rows, chosen)] for chosen in (asked, rows))
    return local.astype(np.float32), vectors.confidence.standardise(left @ right.T).astype(np.float32)
