"""DELF's suppression of features that see almost the same, against plain loops over boxes."""

from __future__ import annotations

import numpy as np
import pytest

from resight.features.local.delf import choose


def box(centre, side):
    return centre[0] - side / 2, centre[1] - side / 2, centre[0] + side / 2, centre[1] + side / 2


def intersection_over_union(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return shared / (areas[0] + areas[1] - shared)


def by_loops(xy, side, scores, count, threshold, overlap):
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if len(kept) == count or scores[i] <= threshold:
            break
        boxes = [box(xy[j], side[j]) for j in kept]
        if all(intersection_over_union(box(xy[i], side[i]), other) <= overlap for other in boxes):
            kept.append(i)
    return kept


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.8, 0.92, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_suppression(seed, overlap):
    rng = np.random.default_rng(seed)
    cells = np.stack(np.meshgrid(np.arange(12), np.arange(9)), axis=-1).reshape(-1, 2)
    xy = np.concatenate([16.0 * cells, 22.5 * cells[:40], 32.0 * cells[:20]]).astype(np.float32)
    side = np.repeat([291.0, 411.5, 582.0], [108, 40, 20]).astype(np.float32) / (1 + seed)
    scores = rng.choice(np.linspace(0, 1, 60), len(xy)).astype(np.float32)  # some are equal
    for count, threshold in ((1000, 0.0), (7, 0.0), (1000, 0.5)):
        expected = by_loops(xy, side, scores, count, threshold, overlap)
        assert choose(xy, side, scores, count, threshold, overlap).tolist() == expected
