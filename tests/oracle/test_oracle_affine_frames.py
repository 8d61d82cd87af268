"""Voting of affine frames and stable regions against plain loops, and verification on the reference point pairs."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from resight.matching import affine_kernels
from resight.matching.affine_frames import AffineFrames, verify_frames
from resight.matching.extremal import stable_regions

CASES = Path(__file__).parents[2] / "../shared/reference/misc.npz"
needs_cases = pytest.mark.skipif(not CASES.exists(), reason=f"no reference cases at {CASES}")


def random_frames(rng, n, words):
    shape = rng.uniform(3, 20, (n, 1, 1)) * (np.eye(2) + 0.3 * rng.uniform(-1, 1, (n, 2, 2)))
    return AffineFrames(rng.uniform(0, 100, (n, 2)), shape, rng.integers(words, size=n), np.ones(n))


def plain_vote(transform, a, b, threshold, slack=0.0, centre=(0.0, 0.0)):
    """Support and inlier pairs, by the definition, features of a in the order of their words."""
    taken, support, chosen = set(), 0.0, []
    for i in np.argsort(a.word, kind="stable"):
        x = transform[:2, :2] @ a.xy[i].astype(np.float64) + transform[:2, 2]
        limit, best = (threshold + slack * np.linalg.norm(x - centre)) ** 2, None
        for j in np.flatnonzero(b.word == a.word[i]):
            error = float(((x - b.xy[j].astype(np.float64)) ** 2).sum())
            if j not in taken and error < (limit if best is None else best[0]):
                best = error, j
        if best is not None:
            taken.add(best[1])
            support += 1 - best[0] / limit
            chosen.append((i, best[1]))
    return support, chosen


def plain_proposals(a, b, low, high):
    for i in range(len(a)):
        for j in np.flatnonzero(b.word == a.word[i]):
            linear = b.shape[j].astype(np.float64) @ np.linalg.inv(a.shape[i].astype(np.float64))
            if low <= np.sqrt(np.linalg.det(linear)) <= high:
                shift = b.xy[j] - linear @ a.xy[i].astype(np.float64)
                yield np.r_[np.c_[linear, shift], [(0, 0, 1)]], b.xy[j].astype(float)


@pytest.mark.parametrize("seed", range(8))
def test_the_answer_has_the_support_of_its_best_proposal_or_more(seed):
    rng = np.random.default_rng(seed)
    a, b = random_frames(rng, 25, 12), random_frames(rng, 30, 12)
    found = verify_frames(a, [b], threshold=15.0, scale_change=(0.5, 2.0))[0]
    words = [(int(i), int(j)) for i in range(len(a)) for j in np.flatnonzero(b.word == a.word[i])]
    assert sorted(map(tuple, found.correspondences.tolist())) == sorted(words)

    loose = [plain_vote(t, a, b, 15.0, 0.1, at)[0] for t, at in plain_proposals(a, b, 0.5, 2.0)]
    first = list(plain_proposals(a, b, 0.5, 2.0))[int(np.argmax(loose))][0]
    most = plain_vote(first, a, b, 15.0)[0]
    raw = affine_kernels.search_all(
        *packed(a), np.array([0, len(b)]), *packed(b), np.array([15.0]), np.array([[0.5, 2.0]])
    )
    support, chosen = plain_vote(raw[0][0], a, b, 15.0)
    assert support >= most - 1e-9
    assert sorted(map(tuple, raw[2][raw[3]].tolist())) == sorted(chosen)


@pytest.mark.parametrize("seed", range(4))
def test_best_proposals_are_those_of_the_loop(seed):
    rng = np.random.default_rng(seed)
    a, b = random_frames(rng, 20, 8), random_frames(rng, 20, 8)
    (_, words, xy, shapes), (_, other_words, other_xy, other_shapes) = packed(a), packed(b)
    pairs = np.array([(i, j) for i in range(20) for j in np.flatnonzero(other_words == words[i])], np.int32)
    groups = affine_kernels._groups(pairs)
    found, support, centres = affine_kernels._best_proposals(
        pairs, groups, xy, shapes, other_xy, other_shapes, 12.0, np.array([0.3, 3.0]), np.empty(20, bool),
        np.empty(len(pairs), np.int64),
    )  # fmt: skip
    plain = [plain_vote(t, a, b, 12.0, 0.1, at)[0] for t, at in plain_proposals(a, b, 0.3, 3.0)]
    plain = sorted(plain, reverse=True)
    np.testing.assert_allclose(support, plain[: len(support)], rtol=1e-9)
    assert plain_vote(found[0], a, b, 12.0, 0.1, centres[0])[0] == pytest.approx(plain[0])


def packed(frames):
    order = np.argsort(frames.word, kind="stable")
    return order, frames.word[order], frames.xy[order].astype(float), frames.shape[order].astype(float)


def plain_regions(levels, delta, max_variation, min_diversity, min_area):
    """Areas and centres of the stable regions of one map, from the sets of cells at every level."""
    regions = {}
    for level in np.unique(levels):
        labels, n = ndimage.label(levels >= level, np.ones((3, 3)))
        for number in range(1, n + 1):
            cells = frozenset(np.flatnonzero(labels == number).tolist())
            regions[cells] = level  # of the same cells at several levels, the highest
    above = {r: sorted((s for s in regions if r < s), key=len) for r in regions}

    def variation(region):
        wide = [region, *(s for s in above[region] if int(regions[s]) >= int(regions[region]) - delta)][-1]
        return (len(wide) - len(region)) / len(region)

    stable = set(regions)
    for region in regions:
        if above[region]:
            own, around = variation(region), variation(above[region][0])
            stable -= {above[region][0]} if own < around else {region} if own > around else set()
    stable = {r for r in stable if variation(r) <= max_variation and min_area * levels.size <= len(r)}
    stable = {r for r in stable if len(r) <= 0.75 * levels.size}
    for region in sorted(stable, key=lambda r: -len(r)):
        around = [s for s in above[region] if s in stable]
        if around and len(around[0]) - len(region) < min_diversity * len(around[0]):
            stable.discard(region)
    return sorted(
        (len(r), *np.mean([(c % levels.shape[1] + 0.5, c // levels.shape[1] + 0.5) for c in r], 0)) for r in stable
    )


@pytest.mark.parametrize("seed", range(12))
def test_stable_regions_are_those_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random((11, 14)), rng.uniform(0.3, 1.5))
    levels = np.clip((smooth - smooth.min()) / np.ptp(smooth) * 80 - 20, 0, 255).astype(np.uint8)
    delta = int(rng.integers(1, 13))
    found = stable_regions(levels[None], levels[None].astype(np.float32), delta, min_area=0.02)
    expected = plain_regions(levels, delta, 0.5, 0.7, 0.02)
    got = sorted(zip(found.area.tolist(), *found.mean.T.tolist(), strict=True))
    assert expected
    np.testing.assert_allclose(np.array(got), np.array(expected))


@needs_cases
@pytest.mark.parametrize("threshold", [3, 4, 6, 10])
@pytest.mark.parametrize("i", [0, 1, 2])
def test_true_inliers_of_the_reference_cases_are_found(i, threshold):
    with np.load(CASES) as data:
        src, dst, truth, inlier = (data[f"ransac{i}_{name}"] for name in ("src", "dst", "H", "inlier"))
    rng = np.random.default_rng(i)
    n = len(src)
    shape = rng.uniform(5, 20, (n, 1, 1)) * (np.eye(2) + 0.2 * rng.uniform(-1, 1, (n, 2, 2)))
    # The cases hold points only: frames follow the true transform up to a tenth, those of outliers one of their own.
    turned = truth[:2, :2] @ shape @ (np.eye(2) + 0.1 * rng.normal(size=(n, 2, 2)))
    turned[~inlier] = shape[~inlier][::-1]
    words = np.arange(n)
    a, b = AffineFrames(src, shape, words, np.ones(n)), AffineFrames(dst, turned, words, np.ones(n))
    inlier &= np.linalg.norm(src @ truth[:2, :2].T + truth[:2, 2] - dst, axis=1) < threshold
    found = verify_frames(a, [b], threshold=threshold)[0]
    mask = np.zeros(n, bool)
    mask[found.correspondences[found.mask, 0]] = True
    assert found.verified
    assert (mask & inlier).sum() >= 0.95 * inlier.sum()
    assert (mask & ~inlier).sum() <= 2
    corners = np.array([[0, 0], [800, 0], [0, 800], [800, 800]])
    assert np.abs(corners @ (found.transform - truth)[:2, :2].T + (found.transform - truth)[:2, 2]).max() < 5


@needs_cases
def test_the_reference_case_without_inliers_is_not_verified():
    with np.load(CASES) as data:
        src, dst = data["ransac3_src"], data["ransac3_dst"]
    shapes = 10 * np.eye(2) * np.random.default_rng(0).uniform(0.5, 2, (2, len(src), 1, 1))
    words = np.arange(len(src))
    a, b = (AffineFrames(p, s, words, np.ones(len(p))) for p, s in zip((src, dst), shapes, strict=True))
    assert not verify_frames(a, [b], threshold=3)[0].verified
