"""The shortlist against full comparison, and the compact form of features."""

import numpy as np
import pytest

from photo_factory import picture
from resight.errors import ArrayError, UsageError
from resight.features.local.compact import Compact, compact, layout
from resight.features.local.packed import pack, unpack, unpack_compact
from resight.features.local.rootsift import RootSift
from resight.matching import shortlist
from resight.matching.correspond import correspond
from resight.matching.shortlist import match
from resight.types import LocalFeatures


def features(descriptors):
    n = len(descriptors)
    return LocalFeatures(np.zeros((n, 2)), np.ones(n), np.zeros(n), np.zeros(n), descriptors)


def noisy(seed, n=300, m=250, dim=128, shared=120):
    """Descriptors of which the first `shared` of b are noisy ones of a, in another order."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, dim)), rng.normal(size=(m, dim))
    b[:shared] = a[rng.permutation(n)[:shared]] + 0.4 * rng.normal(size=(shared, dim))
    return features(a), features(b)


def pairs(found):
    return {tuple(pair) for pair in found.pairs.tolist()}


@pytest.mark.parametrize("dim", [64, 100, 128, 300])
def test_finds_what_full_comparison_finds(dim):
    a, b = noisy(dim, dim=dim)
    full, short = correspond(a, b), match(compact(a), compact(b))
    assert len(full) > 90
    assert len(pairs(full) & pairs(short)) >= 0.95 * len(full)
    both = dict(zip(map(tuple, full.pairs.tolist()), full.distance, strict=True))
    for pair, distance in zip(map(tuple, short.pairs.tolist()), short.distance, strict=True):
        assert distance == pytest.approx(both.get(pair, distance), rel=0.02)
    assert (np.diff(short.distance) >= 0).all()


@pytest.mark.parametrize("ratio", [None, 0.7, 1.0])
def test_without_limits_it_is_full_comparison_of_the_bytes(monkeypatch, ratio):
    monkeypatch.setattr(shortlist, "SLACK", 1000)
    a, b = (compact(part) for part in noisy(1, 60, 50, 32, 20))
    found = match(a, b, ratio=ratio)
    values = [part.low + part.step * part.codes.astype(float) for part in (a, b)]
    distance = ((values[0][:, None] - values[1]) ** 2).sum(axis=2)
    expected = set()
    for i, row in enumerate(distance):
        j = int(row.argmin())
        column = distance[:, j]
        near = [np.sort(side)[:2] for side in (row, column)]
        distinct = ratio is None or all(first < ratio**2 * second for first, second in near)
        if column.argmin() == i and distinct:
            expected.add((i, j))
    assert pairs(found) == expected
    assert len(expected) >= 15


def test_swapping_the_images_swaps_the_pairs():
    a, b = (compact(part) for part in noisy(5))
    forth, back = match(a, b), match(b, a)
    assert pairs(forth) == {(i, j) for j, i in pairs(back)}
    np.testing.assert_array_equal(forth.distance, np.sort(back.distance))


def test_blocks_of_rows_change_nothing(monkeypatch):
    a, b = (compact(part) for part in noisy(9))
    whole = match(a, b)
    monkeypatch.setattr(shortlist, "CELLS", 7 * 256)
    np.testing.assert_array_equal(match(a, b).pairs, whole.pairs)
    assert len(whole) > 90


def test_ties_go_to_the_lower_row_and_fail_the_ratio_test():
    a, b = compact(features(np.eye(1, 4))), compact(features(np.eye(1, 4).repeat(3, axis=0)))
    assert match(a, b, ratio=None).pairs.tolist() == [[0, 0]]
    assert len(match(a, b, ratio=1.0)) == 0


def test_images_without_features_or_contrast():
    some, none, plain = features(np.eye(5)), features(np.empty((0, 128))), features(np.full((4, 5), 0.3))
    for pair in ((some, none), (none, some), (none, none)):
        assert match(*map(compact, pair)).pairs.shape == (0, 2)
    assert len(match(compact(plain), compact(plain))) == 0
    assert match(compact(plain), compact(plain), ratio=None).pairs.tolist() == [[0, 0]]
    assert compact(none).signatures.shape == (2, 0)


def test_errors_say_what_is_wrong():
    a = compact(features(np.eye(3)))
    with pytest.raises(ArrayError, match="dimension 3 and 4"):
        match(a, compact(features(np.eye(4))))
    for ratio in (0, 1.5, np.nan):
        with pytest.raises(UsageError, match="ratio"):
            match(a, a, ratio=ratio)
    with pytest.raises(ArrayError, match=r"Compact.codes has shape \(2, 3\)"):
        Compact(a.xy, a.scale, a.angle, a.codes[:2], 0.0, 1.0)
    with pytest.raises(ArrayError, match="xy holds NaN"):
        Compact(np.full((3, 2), np.nan), a.scale, a.angle, a.codes, 0.0, 1.0)
    with pytest.raises(ArrayError, match="must be finite"):
        Compact(a.xy, a.scale, a.angle, a.codes, np.inf, 1.0)


def test_compact_features_are_what_is_stored():
    stored = pack(RootSift(count=120)(picture(5)))
    plain, direct = unpack(stored), unpack_compact(stored)
    made = compact(plain)
    np.testing.assert_array_equal(direct.codes, made.codes)
    np.testing.assert_array_equal(direct.xy, plain.xy)
    np.testing.assert_array_equal(layout(plain).angle, direct.angle)
    np.testing.assert_allclose(direct.low + direct.step * direct.codes, plain.descriptors, atol=1e-6)
    np.testing.assert_allclose(direct.squares, (plain.descriptors.astype(float) ** 2).sum(axis=1), rtol=1e-5)
    assert compact(made) is made
    assert made.nbytes < 0.5 * sum(getattr(plain, name).nbytes for name in ("xy", "scale", "angle", "descriptors"))


def test_signatures_are_bits_above_the_mean():
    rng = np.random.default_rng(0)
    made = compact(features(rng.random((50, 70))))
    bits = made.codes > made.codes.mean(axis=0).astype(int)
    for k in range(70):
        np.testing.assert_array_equal((made.signatures[k // 64] >> np.uint64(k % 64)) & np.uint64(1), bits[:, k])
