"""How much the similarity of one kind should count beside another, learnt from what matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from resight.errors import ArrayError, UsageError
from resight.precision import average_precision
from resight.types import Float32, as_array

FEWEST = 5  # queries with a match
ROUNDS = 4  # of coordinate ascent; two are usually enough
WEIGHTS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)


def learn_weight(first: Any, second: Any, matching: Any, usual: float = 1.0) -> float:
    """The weight w among `WEIGHTS` for which `first` + w · `second` ranks matching photos best, by mAP.

    `first` and `second` (Q, N): standardised similarities of Q queries to N photos, -inf for photos that do not count;
    `matching` (Q, N) bool. Of weights within one standard error of the best, the one nearest to `usual` is taken, so
    that a few matches do not decide. Raises `UsageError` with fewer than 5 queries that have a match.
    """
    one = as_array("first", first, np.float32, (None, None))
    other = as_array("second", second, np.float32, one.shape)
    chosen = as_array("matching", matching, np.bool_, one.shape)
    if np.isnan(one).any() or np.isnan(other).any():
        raise ArrayError("similarities hold NaN")
    asked = chosen.any(axis=1)
    if asked.sum() < FEWEST:
        raise UsageError(f"{asked.sum()} photos with a match: at least {FEWEST} are needed to learn from")
    sums = (one[asked] + np.float32(w) * other[asked] for w in WEIGHTS)
    precision = np.stack([_average_precision(scores, chosen[asked]) for scores in sums])
    best = precision.mean(axis=1).argmax()
    worse = precision[best] - precision
    error = worse.std(axis=1) / np.sqrt(asked.sum())
    good = [w for w, less, noise in zip(WEIGHTS, worse.mean(axis=1), error, strict=True) if less <= noise]
    return float(min(good, key=lambda w: abs(np.log((w + 0.05) / (usual + 0.05)))))


def learn_weights(parts: Sequence[Any], matching: Any, usual: Sequence[float]) -> list[float]:
    """The weight of each of `parts`, the first of which keeps weight 1: one after the other is learnt by `learn_weight`
    beside the weighted sum of all others, until none changes.

    Each part (Q, N) holds standardised similarities. Only their order in the sum counts, so that a few photos that are
    hundreds of standard deviations off, as in kernels whose unrelated pairs score nearly 0, do not decide. Raises as
    `learn_weight` does.
    """
    weights = [1.0, *map(float, usual[1:])]
    for _ in range(ROUNDS):
        before = list(weights)
        for place in range(1, len(parts)):
            others = sum(w * part for k, (w, part) in enumerate(zip(weights, parts, strict=True)) if k != place and w)
            weights[place] = learn_weight(others, parts[place], matching, usual=float(usual[place]))
        if weights == before:
            break
    return weights


def _average_precision(scores: Float32, matching: Any) -> Any:
    """Average precision of each query, (Q,); equal scores by column."""
    order = np.argsort(-scores, axis=1, kind="stable")
    return average_precision(np.take_along_axis(matching, order, axis=1))
