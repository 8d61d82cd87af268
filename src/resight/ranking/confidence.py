"""What unrelated photos of a collection score against each other, and from which score on a result is a match.

Learnt without labels from random pairs of the collection. Pairs that geometry proves to show one thing are left out, so
that a collection full of copies still knows what chance looks like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.index.asmk import Asmk
from resight.matching.geometry import Verification
from resight.ranking.search import stack
from resight.ranking.verification import Verifier, evidence
from resight.types import Float32, Int64

QUERIES = 32  # random photos that are searched for
PAIRS = 300  # of their pairs that are verified
FEWEST = 20  # pairs below which their statistics are not worth using
PROVEN = 5.0  # significance from which a pair surely shows one thing
LEAST_THRESHOLD = 24.0  # geometry of which chance gives one in 100, or a similarity that no chance reaches
FALSE_RATE = 1e-4  # unrelated pairs that may pass the threshold


@dataclass(frozen=True)
class Confidence:
    """Scale of the similarities of unrelated pairs, and the `threshold` on the final score of a match.

    `location` and `scale`: median and robust standard deviation of their similarities; `pairs`: how many were used.
    """

    location: float
    scale: float
    threshold: float
    pairs: int

    def standardise(self, similarity: Any) -> Any:
        """Similarities in standard deviations above those of unrelated photos."""
        return (similarity - self.location) / self.scale


UNKNOWN = Confidence(location=0.0, scale=1.0, threshold=LEAST_THRESHOLD, pairs=0)


def calibrate(index: Asmk, verifier: Verifier, *, seed: int = 0) -> Confidence:
    """Learn the `Confidence` of a collection from random pairs of its photos.

    Peak memory: 32 similarities per photo. With fewer than 20 unrelated pairs only the scale of all pairs is used, and
    the threshold is the least one, which asks for geometric proof.
    """
    rng = np.random.default_rng(seed)
    rows = index.rows
    if len(rows) < 2:
        return UNKNOWN
    queries = np.sort(rng.choice(len(rows), min(QUERIES, len(rows)), replace=False))
    similarity, first, second = _similarities(index, verifier, rows, queries)
    strongest = np.argsort(-similarity, kind="stable")[:PAIRS]
    chosen = np.union1d(strongest, rng.choice(len(similarity), min(PAIRS, len(similarity)), replace=False))
    proofs = _verify(verifier, rows, first[chosen], second[chosen])
    proven = np.zeros(len(similarity), bool)
    proven[chosen] = [proof.significance > PROVEN for proof in proofs]
    geometry = np.zeros(len(similarity))
    geometry[chosen] = [evidence(proof) for proof in proofs]
    return _fit(similarity, geometry, proven)


def _similarities(index: Asmk, verifier: Verifier, rows: Int64, queries: Int64) -> tuple[Float32, Int64, Int64]:
    """Similarities of `queries` (places in `rows`) to all other photos, and the places of both."""
    local = tuple(verifier.features(rows[queries]))
    dense = index.scores(*stack(local, index.codebook.dim), queries=len(local))
    first, second = np.nonzero(queries[:, None] != np.arange(len(rows)))
    return dense[first, second].astype(np.float32), queries[first], second


def _verify(verifier: Verifier, rows: Int64, first: Int64, second: Int64) -> list[Verification]:
    proofs: dict[int, Verification] = {}
    for query in np.unique(first):
        places = np.flatnonzero(first == query)
        features = verifier.features(rows[[query]])[0]
        proofs.update(zip(places.tolist(), verifier(features, rows[second[places]]), strict=True))
    return [proofs[i] for i in range(len(first))]


def _fit(similarity: Float32, geometry: NDArray[np.float64], proven: NDArray[np.bool_]) -> Confidence:
    unrelated = similarity[~proven]
    if len(unrelated) < FEWEST:
        scale = float(similarity.mean())
        return Confidence(0.0, scale if scale > 0 else 1.0, LEAST_THRESHOLD, len(unrelated))
    location = float(np.median(unrelated))
    spread = 1.4826 * float(np.median(np.abs(unrelated - location)))
    scale = spread or float(unrelated.std()) or 1.0
    scores = (unrelated - location) / scale + geometry[~proven]
    return Confidence(location, scale, max(LEAST_THRESHOLD, _tail(scores)), len(unrelated))


def _tail(scores: NDArray[np.float64]) -> float:
    """Score that `FALSE_RATE` of unrelated pairs pass, by an exponential tail through two quantiles that a few pairs
    of one thing, should they have slipped in, do not move."""
    middle, high = np.quantile(scores, (0.75, 0.95))
    return float(high + (high - middle) / np.log(5) * np.log(0.05 / FALSE_RATE))
