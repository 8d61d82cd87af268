"""How much the similarity of one kind should count beside another, learnt from pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from resight.errors import ArrayError, UsageError
from resight.types import as_array

FEWEST = 5  # pairs of each kind


def learn_weight(first: Any, second: Any, matching: Any) -> float:
    """The weight w >= 0 for which `first` + w · `second` separates matching pairs best from others.

    `first` and `second` (n,): standardised similarities of n pairs; `matching` (n,) bool. Fisher's linear discriminant
    with the spread of the pairs that do not match, since a ranking must rise above those. Raises `UsageError` with
    fewer than 5 pairs of a kind, or when `first` does not tell them apart at all.
    """
    columns = np.stack([as_array(name, v, np.float64, (None,)) for name, v in (("first", first), ("second", second))])
    if not np.isfinite(columns).all():
        raise ArrayError("similarities hold NaN or infinity")
    chosen = as_array("matching", matching, np.bool_, (columns.shape[1],))
    if min(chosen.sum(), (~chosen).sum()) < FEWEST:
        raise UsageError(
            f"{chosen.sum()} matching and {(~chosen).sum()} other pairs: at least {FEWEST} of each are needed"
        )
    spread = np.cov(columns[:, ~chosen]) + 1e-9 * np.eye(2)
    direction = np.linalg.solve(spread, columns[:, chosen].mean(axis=1) - columns[:, ~chosen].mean(axis=1))
    if direction[0] <= 0:
        raise UsageError("the first similarity does not tell matching pairs from others: no weight makes sense")
    return float(max(direction[1] / direction[0], 0.0))
