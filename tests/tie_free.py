"""Which lists hold no near-equal scores: comparisons of orders across blocks, copies or permutations skip the others.

A tie ranks by row (`resight.ties`), so an order is not carried over to other rows, and a score at the border of a tie
may fall on either side of it. Nobody promises more.
"""

from __future__ import annotations

import numpy as np

from resight.ties import TOLERANCE


def tie_free(scores, scale=0.0):
    """(Q,) bool: no two of `scores` (Q, N) lie within three tolerances of each other; `scale` as for `tie_order`."""
    ordered = np.sort(np.atleast_2d(scores).astype(np.float64), axis=1)
    with np.errstate(invalid="ignore"):  # two infinities are the end of a list, and no tie
        gaps = np.diff(ordered, axis=1)
    reach = np.maximum(np.abs(ordered[:, 1:]), np.broadcast_to(scale, len(ordered))[:, None])
    return ~(gaps <= 3 * TOLERANCE * np.where(np.isfinite(reach), reach, 0)).any(axis=1)
