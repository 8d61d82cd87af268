"""What unrelated photos of a collection score against each other, and from which score on a result is a match.

Learned without labels from random pairs of the collection. Pairs that geometry proves to show one thing, directly or
through other photos, are left out, so that a collection full of copies still knows what chance looks like. Where too
few unrelated photos are left, as in a dozen photos or in views of one object, geometry alone says what is a match.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from resight.arrays import Bool
from resight.graph.components import components
from resight.index.asmk import Asmk
from resight.matching.geometry import Verification
from resight.ranking.search import stack
from resight.ranking.verification import MOST_EVIDENCE, FeatureSource, Verifier
from resight.types import Float32, Int64

Bonus: TypeAlias = Callable[[Int64, Int64], Float32]

SAMPLED = 1000  # vectors whose pairs are looked at
QUERIES = 32  # random photos that are searched for
PAIRS = 300  # of their pairs that are verified
FEWEST = 20  # pairs below which their statistics are not worth using
THINGS = 12  # different things below which photos do not tell what chance looks like
CROWDED = 0.05  # share of related pairs beyond which pairs that were not verified may be related, too
PROVEN = 5.0  # significance from which a pair surely shows one thing
LEAST_THRESHOLD = 24.0  # geometry of which chance gives one in 100, or a similarity that no chance reaches
MOST_THRESHOLD = MOST_EVIDENCE  # a full proof is a match where the similarity is not below that of unrelated photos
CHANGE = 0.1  # share of photos that may come or go before it is learnt anew
FALSE_RATE = 1e-4  # unrelated pairs that may pass the threshold


@dataclass(frozen=True)
class Confidence:
    """Scale of the similarities of unrelated pairs, and the `threshold` on the final score of a match.

    `location` and `scale`: median and robust standard deviation of their similarities; `pairs`: how many were used.
    `photos` and `made_from`: size of the collection, and fingerprint of what similarities depend on, when learnt.
    """

    location: float
    scale: float
    threshold: float
    pairs: int
    photos: int = 0
    made_from: str = ""

    def fits(self, photos: int, made_from: str) -> bool:
        """Whether it is still good for a collection of so many photos: up to a tenth came or went."""
        return self.made_from == made_from and abs(photos - self.photos) <= CHANGE * self.photos

    def standardise(self, similarity: Any) -> Any:
        """Similarities in standard deviations above those of unrelated photos."""
        return (similarity - self.location) / self.scale


UNKNOWN = Confidence(location=0.0, scale=1.0, threshold=LEAST_THRESHOLD, pairs=0)


def calibrate(
    index: Asmk,
    verifier: Verifier,
    features: FeatureSource | None = None,
    *,
    seed: int = 0,
    bonus: Bonus | None = None,
) -> Confidence:
    """Learn the `Confidence` of a collection from random pairs of its photos.

    `features`: source of those in the index, where the verifier has others. `bonus` gives what else than local features
    adds to their standardised similarity: of query rows (n,) and all rows of the index (N,), (n, N) float32. Peak
    memory: 32 similarities per photo. Where fewer than 20 unrelated pairs, or 12 unrelated things, are found, only the
    scale of all pairs is used, and the threshold is the least one, which asks for geometric proof.
    """
    rng = np.random.default_rng(seed)
    rows = index.rows
    known = replace(UNKNOWN, photos=len(rows), made_from=index.codebook.fingerprint)
    if len(rows) < 2:
        return known
    queries = np.sort(rng.choice(len(rows), min(QUERIES, len(rows)), replace=False))
    similarity, first, second = _similarities(index, features or verifier.features, rows, queries)
    more = np.zeros(len(similarity))
    if bonus is not None:
        more = bonus(rows[queries], rows)[np.searchsorted(queries, first), second].astype(np.float64)
    strongest = np.argsort(-similarity, kind="stable")[:PAIRS]
    drawn = rng.choice(len(similarity), min(PAIRS, len(similarity)), replace=False)
    chosen = np.union1d(strongest, drawn)
    proofs = _verify(verifier, rows, first[chosen], second[chosen])
    more[chosen] += [verifier.worth(proof) for proof in proofs]
    proven = chosen[[proof.significance > PROVEN for proof in proofs]]
    thing = components(np.stack((first[proven], second[proven]), axis=1), len(rows))
    unrelated = _unrelated(thing[first] == thing[second], drawn)
    if unrelated.sum() < FEWEST or len(np.union1d(thing[first[unrelated]], thing[second[unrelated]])) < THINGS:
        return replace(known, scale=float(similarity.mean()) or 1.0, pairs=int(unrelated.sum()))
    location, scale = _location_and_scale(similarity[unrelated])
    tail = _tail((similarity[unrelated] - location) / scale + more[unrelated])
    threshold = min(max(LEAST_THRESHOLD, tail), MOST_THRESHOLD)
    return replace(known, location=location, scale=scale, threshold=threshold, pairs=int(unrelated.sum()))


def calibrate_vectors(vectors: Float32, made_from: str = "", *, seed: int = 0) -> Confidence:
    """Learn the `Confidence` of global descriptors (N, D), L2-normalised, from random pairs.

    No geometry proves these pairs, but few of a collection's pairs show one thing, and statistics of ranks do not see
    them. The threshold is one that chance passes once in 10 000 pairs.
    """
    rng = np.random.default_rng(seed)
    known = replace(UNKNOWN, photos=len(vectors), made_from=made_from)
    if len(vectors) < FEWEST:
        return known
    first = np.sort(rng.choice(len(vectors), min(SAMPLED, len(vectors)), replace=False))
    products = vectors[first] @ vectors[np.sort(rng.choice(len(vectors), min(SAMPLED, len(vectors)), replace=False))].T
    cosines = products[products < 1 - 1e-6].astype(np.float64)  # without photos and copies of themselves
    if len(cosines) < FEWEST:
        return known
    location, scale = _location_and_scale(cosines)
    threshold = _tail((cosines - location) / scale)
    return replace(known, location=location, scale=scale, threshold=threshold, pairs=len(cosines))


def _similarities(index: Asmk, features: FeatureSource, rows: Int64, queries: Int64) -> tuple[Float32, Int64, Int64]:
    """Similarities of `queries` (places in `rows`) to all other photos, and the places of both."""
    local = tuple(features(rows[queries]))
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


def _unrelated(related: Bool, drawn: Int64) -> Bool:
    """Pairs (P,) to take for unrelated, of `related` ones that were proven. Where the random pairs `drawn` hold many of
    these, others than they may be related without anyone having looked.
    """
    if related[drawn].mean() <= CROWDED:
        return ~related
    looked_at = np.zeros_like(related)
    looked_at[drawn] = True
    return looked_at & ~related


def _location_and_scale(values: NDArray[Any]) -> tuple[float, float]:
    location = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - location)))
    return location, spread or float(values.std()) or 1.0


def _tail(scores: NDArray[np.float64]) -> float:
    """Score that `FALSE_RATE` of unrelated pairs pass, by an exponential tail through two quantiles that a few pairs
    of one thing, should they have slipped in, do not move."""
    middle, high = np.quantile(scores, (0.75, 0.95))
    return float(high + (high - middle) / np.log(5) * np.log(0.05 / FALSE_RATE))
