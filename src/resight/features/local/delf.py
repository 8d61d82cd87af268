"""DELF's choice of local features: by attention, above a threshold, without those that see almost the same.

Noh, Araujo, Sim, Weyand and Han, "Large-scale image retrieval with attentive deep local features", ICCV 2017.
"""

from __future__ import annotations

import numba
import numpy as np

from resight.arrays import Float64
from resight.errors import UsageError
from resight.types import Float32, Int64, as_array


def choose(
    xy: Float32, side: Float32, scores: Float32, count: int, threshold: float = 0.0, overlap: float = 1.0
) -> Int64:
    """The cells (k,) int64 of one image that become features, strongest first; equal ones in their order.

    `xy` (n, 2) centres of their receptive fields, and `side` (n,) sides of those squares, in pixels of the image;
    `scores` (n,) attention. Left out are scores of `threshold` or less and, going down from the strongest, cells whose
    receptive field overlaps that of one already chosen by more than `overlap`, intersection over union; 1 leaves none
    out. At most `count`. Time: n times count. Raises `UsageError` on values out of range.
    """
    check_choice(count, threshold, overlap)
    scores = as_array("scores", scores, np.float32, (None,))
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > threshold]
    if overlap >= 1:
        return order[:count]
    kept: Int64 = _suppress(xy[order].astype(np.float64), side[order].astype(np.float64), count, overlap)
    return np.asarray(order[kept], np.int64)


def check_choice(count: int, threshold: float, overlap: float) -> None:
    """Raise `UsageError` unless `choose` can choose so."""
    if count < 1 or not 0 <= overlap <= 1 or not np.isfinite(threshold):
        raise UsageError(
            f"count={count} must be at least 1, overlap={overlap} between 0 and 1, and threshold={threshold} finite"
        )


@numba.njit(cache=True, nogil=True)
def _suppress(xy: Float64, side: Float64, count: int, overlap: float) -> Int64:
    kept = np.empty(min(count, len(xy)), np.int64)
    found = 0
    for i in range(len(xy)):
        if found == count:
            break
        free = True
        for k in range(found):
            j = kept[k]
            reach = (side[i] + side[j]) / 2
            least = min(side[i], side[j])
            width = min(reach - abs(xy[i, 0] - xy[j, 0]), least)
            height = min(reach - abs(xy[i, 1] - xy[j, 1]), least)
            if width > 0 and height > 0:
                shared = width * height
                if shared > overlap * (side[i] * side[i] + side[j] * side[j] - shared):
                    free = False
                    break
        if free:
            kept[found] = i
            found += 1
    return kept[:found]
