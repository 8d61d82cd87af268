"""Compiled search for the affinity that explains most pairs of affine frames (`resight.matching.affine_frames`)."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from resight.arrays import Bool, Float64
from resight.matching.frames import least_squares

Int = NDArray[Any]

PROPOSALS = 500  # at most, those of rare words first
REFINED = 5  # best proposals that are refined
# What a proposal may be off by, beyond the threshold, per pixel from its own feature: the ellipse of one feature is
# known to some ten per cent, so far from it even the true partners land beside. Refined from loose to none.
SLACK = np.array([0.1, 0.05, 0.02, 0.0, 0.0])


@numba.njit(cache=True, nogil=True)
def search_all(
    rows: Int, words: Int, xy: Float64, shapes: Float64,
    starts: Int, other_rows: Int, other_words: Int, other_xy: Float64, other_shapes: Float64,
    thresholds: Float64, ranges: Float64,
) -> tuple[Float64, Int, Int, Bool]:  # fmt: skip
    """The best transform (c, 3, 3) onto each of c candidates, the number of pairs with each, and behind each other all
    pairs (p, 2) int32 and whether they are inliers (p,).

    Frames come in the order of their words, with their `rows` before that; candidate i is `starts[i]:starts[i + 1]`.
    """
    count = len(starts) - 1
    transforms, lengths = np.empty((count, 3, 3)), np.empty(count, np.int64)
    for i in range(count):
        lengths[i] = _pairs(words, other_words[starts[i] : starts[i + 1]], np.empty((0, 2), np.int32))
    pairs, mask = np.empty((lengths.sum(), 2), np.int32), np.zeros(lengths.sum(), np.bool_)
    end = 0
    for i in range(count):
        part, first, end = slice(starts[i], starts[i + 1]), end, end + lengths[i]
        own = pairs[first:end]
        _pairs(words, other_words[part], own)
        transforms[i] = _search(
            own, xy, shapes, other_xy[part], other_shapes[part], thresholds[i], ranges[i], mask[first:end]
        )
        for k in range(len(own)):
            own[k, 0], own[k, 1] = rows[own[k, 0]], other_rows[starts[i] + own[k, 1]]
    return transforms, lengths, pairs, mask


@numba.njit(cache=True, nogil=True)
def crowding(xy: Float64, limit: float) -> float:
    """Share of pairs among points (n, 2) whose squared distance is below `limit`; 1 for fewer than two points."""
    n, close = len(xy), 0
    for i in range(n):
        for j in range(i):
            close += (xy[i, 0] - xy[j, 0]) ** 2 + (xy[i, 1] - xy[j, 1]) ** 2 < limit
    return 2.0 * close / (n * (n - 1.0)) if n > 1 else 1.0


@numba.njit(cache=True, nogil=True)
def _pairs(words: Int, other: Int, out: Int) -> int:
    """Count the pairs of places with equal words; write them, by place in the first list, to `out` if it has room."""
    count = first = 0
    for i in range(len(words)):
        while first < len(other) and other[first] < words[i]:
            first += 1
        j = first
        while j < len(other) and other[j] == words[i]:
            if len(out):
                out[count, 0], out[count, 1] = i, j
            count += 1
            j += 1
    return count


@numba.njit(cache=True, nogil=True)
def _search(
    pairs: Int, xy: Float64, shapes: Float64, other_xy: Float64, other_shapes: Float64,
    threshold: float, scales: Float64, mask: Bool,
) -> Float64:  # fmt: skip
    """The transform with most support; its inliers go to `mask`. The identity, without inliers, where there is none."""
    best, most = np.eye(3), 0.0
    groups, used, chosen = _groups(pairs), np.empty(len(other_xy), np.bool_), np.empty(len(pairs), np.int64)
    proposals, _, centres = _best_proposals(
        pairs, groups, xy, shapes, other_xy, other_shapes, threshold, scales, used, chosen
    )
    for h in range(len(proposals)):
        transform, centre = proposals[h].copy(), centres[h]
        for slack in SLACK:
            found, n = _vote(transform, pairs, groups, xy, other_xy, threshold, 0.0, centre, most, used, chosen)
            if found > most:
                best, most = transform.copy(), found
            _, n = _vote(transform, pairs, groups, xy, other_xy, threshold, slack, centre, 0.0, used, chosen)
            src, dst = _points(pairs, chosen[:n], xy, other_xy)
            if not least_squares(transform, src, dst, np.ones(n, np.bool_), True) or not _allowed(transform, scales):
                break
        else:
            found, n = _vote(transform, pairs, groups, xy, other_xy, threshold, 0.0, centre, most, used, chosen)
            if found > most:
                best, most = transform.copy(), found
    if most > 0:
        _, n = _vote(best, pairs, groups, xy, other_xy, threshold, 0.0, other_xy[0], 0.0, used, chosen)
        for k in chosen[:n]:
            mask[k] = True
    return best


@numba.njit(cache=True, nogil=True)
def _points(pairs: Int, chosen: Int, xy: Float64, other_xy: Float64) -> tuple[Float64, Float64]:
    """Positions in both images of the chosen pairs."""
    src, dst = np.empty((len(chosen), 2)), np.empty((len(chosen), 2))
    for n in range(len(chosen)):
        i, j = pairs[chosen[n]]
        src[n, 0], src[n, 1], dst[n, 0], dst[n, 1] = xy[i, 0], xy[i, 1], other_xy[j, 0], other_xy[j, 1]
    return src, dst


@numba.njit(cache=True, nogil=True)
def _best_proposals(
    pairs: Int, groups: Int, xy: Float64, shapes: Float64, other_xy: Float64, other_shapes: Float64,
    threshold: float, scales: Float64, used: Bool, chosen: Int,
) -> tuple[Float64, Float64, Float64]:  # fmt: skip
    """The proposals (r, 3, 3) with most support, best first, earlier ones first among equals; their support, and where
    their own features are in the second image (r, 2)."""
    kept, support, centres = np.empty((REFINED, 3, 3)), np.zeros(REFINED), np.empty((REFINED, 2))
    for k in _rare_first(groups)[:PROPOSALS]:
        i, j = pairs[k]
        transform = _carry(xy[i], shapes[i], other_xy[j], other_shapes[j])
        if not _allowed(transform, scales):
            continue
        found, _ = _vote(
            transform, pairs, groups, xy, other_xy, threshold, SLACK[0], other_xy[j], support[-1], used, chosen
        )
        place = REFINED
        while place > 0 and found > support[place - 1]:
            place -= 1
        if place < REFINED:
            for p in range(REFINED - 1, place, -1):
                kept[p], support[p], centres[p] = kept[p - 1], support[p - 1], centres[p - 1]
            kept[place], support[place], centres[place] = transform, found, other_xy[j]
    size = np.count_nonzero(support)
    return kept[:size], support[:size], centres[:size]


@numba.njit(cache=True, nogil=True)
def _groups(pairs: Int) -> Int:
    """Where the pairs of each left feature start, and the end of all, (g + 1,)."""
    starts = np.empty(len(pairs) + 1, np.int64)
    count = 0
    for k in range(len(pairs)):
        if k == 0 or pairs[k, 0] != pairs[k - 1, 0]:
            starts[count] = k
            count += 1
    starts[count] = len(pairs)
    return starts[: count + 1].copy()


@numba.njit(cache=True, nogil=True)
def _rare_first(groups: Int) -> Int:
    """Places of the pairs, those first whose left feature has the fewest partners."""
    partners = np.empty(groups[-1], np.int64)
    for g in range(len(groups) - 1):
        partners[groups[g] : groups[g + 1]] = groups[g + 1] - groups[g]
    return np.argsort(partners, kind="mergesort")


@numba.njit(cache=True, nogil=True)
def _carry(point: Float64, shape: Float64, target: Float64, other_shape: Float64) -> Float64:
    """The affinity (3, 3) that carries one frame onto another."""
    area = shape[0, 0] * shape[1, 1] - shape[0, 1] * shape[1, 0]
    transform = np.eye(3)
    for r in range(2):
        a, b = other_shape[r]
        transform[r, 0] = (a * shape[1, 1] - b * shape[1, 0]) / area
        transform[r, 1] = (b * shape[0, 0] - a * shape[0, 1]) / area
        transform[r, 2] = target[r] - transform[r, 0] * point[0] - transform[r, 1] * point[1]
    return transform


@numba.njit(cache=True, nogil=True)
def _allowed(transform: Float64, scales: Float64) -> bool:
    area = transform[0, 0] * transform[1, 1] - transform[0, 1] * transform[1, 0]
    return bool(area > 0 and scales[0] <= np.sqrt(area) <= scales[1])


@numba.njit(cache=True, nogil=True)
def _vote(
    transform: Float64, pairs: Int, groups: Int, xy: Float64, other_xy: Float64, threshold: float, slack: float,
    centre: Float64, needed: float, used: Bool, chosen: Int,
) -> tuple[float, int]:  # fmt: skip
    """Sum of 1 - squared error / limit over left features, each with its nearest partner that none before it took.

    The limit is the square of `threshold` plus `slack` times the distance from `centre`. The pairs that count go to
    `chosen`; their number is given too. Gives 0, 0 once `needed` is out of reach.
    """
    used[:] = False
    total, count = 0.0, 0
    for g in range(len(groups) - 1):
        if total + (len(groups) - 1 - g) <= needed:
            return 0.0, 0
        i = pairs[groups[g], 0]
        x = transform[0, 0] * xy[i, 0] + transform[0, 1] * xy[i, 1] + transform[0, 2]
        y = transform[1, 0] * xy[i, 0] + transform[1, 1] * xy[i, 1] + transform[1, 2]
        distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2)
        limit = (threshold + slack * distance) ** 2
        nearest, best = limit, -1
        for k in range(groups[g], groups[g + 1]):
            j = pairs[k, 1]
            error = (x - other_xy[j, 0]) ** 2 + (y - other_xy[j, 1]) ** 2
            if error < nearest and not used[j]:
                nearest, best = error, k
        if best >= 0:
            used[pairs[best, 1]] = True
            chosen[count] = best
            count += 1
            total += 1.0 - nearest / limit
    return total, count
