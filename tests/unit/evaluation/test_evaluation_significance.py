import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.evaluation.significance import compare, holm, interval


def test_equal_systems_do_not_differ() -> None:
    ap = np.random.default_rng(0).random(30)
    result = compare(ap, ap, seed=1, resamples=500)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_a_constant_gain_is_certain() -> None:
    ap = np.random.default_rng(0).random(30) / 2
    result = compare(ap + 0.25, ap, seed=1, resamples=999)
    assert result.difference == pytest.approx(0.25)
    assert (result.low, result.high) == pytest.approx((0.25, 0.25))
    assert result.p_value == pytest.approx(1 / 1000)
    assert result.mean_a - result.mean_b == pytest.approx(result.difference)


def test_p_value_matches_all_sign_flips() -> None:
    difference = np.array([0.3, -0.1, 0.2, 0.05, 0.4, -0.02])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1)
    exact = np.mean(np.abs(difference @ signs) >= abs(difference.sum()) - 1e-12)
    result = compare(difference, np.zeros(6), seed=3, resamples=40000)
    assert result.p_value == pytest.approx(exact, abs=0.01)


def test_interval_matches_the_normal_law_for_many_queries() -> None:
    difference = np.random.default_rng(5).normal(0.1, 1, 2000)
    result = compare(difference, np.zeros(2000), seed=0, resamples=4000)
    half = 1.96 * difference.std() / np.sqrt(2000)
    assert (result.low, result.high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=0.004)


def test_swapping_systems_mirrors_the_result() -> None:
    a, b = np.random.default_rng(0).random((2, 40))
    one, two = compare(a, b, seed=7, resamples=2000), compare(b, a, seed=7, resamples=2000)
    assert (one.difference, one.p_value) == pytest.approx((-two.difference, two.p_value))
    assert (one.low, one.high) == pytest.approx((-two.high, -two.low))


def test_seed_decides_everything_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = np.random.default_rng(0).random((2, 40))
    assert compare(a, b, seed=1, resamples=300) == compare(a, b, seed=1, resamples=300)
    assert compare(a, b, seed=1, resamples=300) != compare(a, b, seed=2, resamples=300)
    monkeypatch.setattr("resight.evaluation.significance._BLOCK", 400)
    blocks = compare(a, b, seed=1, resamples=305)
    assert blocks.low < blocks.difference < blocks.high


def test_queries_without_positives_are_left_out() -> None:
    result = compare([0.5, np.nan, 0.75], [0.25, np.nan, 0.5], seed=0, resamples=10)
    assert (result.queries, result.empty, result.difference) == (2, 1, 0.25)


def test_bad_input() -> None:
    with pytest.raises(ArrayError, match="2 queries have a score in one system only, the first is 0"):
        compare([np.nan, 1, 1], [1, np.nan, 1], seed=0)
    with pytest.raises(ArrayError, match="none of the 1 queries"):
        compare([np.nan], [np.nan], seed=0)
    with pytest.raises(ArrayError, match=r"ap_b has shape \(3,\), expected \(2\)"):
        compare([1, 1], [1, 1, 1], seed=0)
    with pytest.raises(UsageError, match="0 resamples"):
        compare([1], [1], seed=0, resamples=0)


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(100):
        low, high = interval(rng.beta(2, 1, 60), seed=seed, resamples=400)
        hits += low <= 2 / 3 <= high
    assert 88 <= hits <= 99
    assert interval([np.nan, 0.5, 0.5], seed=0) == (0.5, 0.5)
    assert np.isnan(interval([np.nan], seed=0)).all()


def test_hits_and_misses_have_the_interval_of_wilson():
    from scipy.stats import binomtest

    for hits, n in ((100, 100), (90, 91), (0, 7), (5, 9)):
        expected = binomtest(hits, n).proportion_ci(method="wilson")
        assert interval([1] * hits + [0] * (n - hits), seed=0) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_holm_raises_p_values_by_the_number_of_tests() -> None:
    """Holm's procedure by hand: 0.01 x 4, then 0.02 x 3, then 0.03 x 2 and what went before, never above 1."""
    assert holm([0.02, 0.01, 0.9, 0.03]).tolist() == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []
