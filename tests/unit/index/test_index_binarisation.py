import numpy as np
import pytest

from resight.errors import UsageError
from resight.index.asmk import Asmk, Codebook
from resight.index.binarisation import PLANES, STEP, binarise, levels, pack, random_rotation, turn, whitened_rotation

RNG = np.random.default_rng(3)
RESIDUALS = RNG.standard_normal((500, 40)).astype(np.float32)
ROTATION = random_rotation(40, np.random.default_rng(0))


def test_pack_puts_the_first_bit_highest_and_pads_with_zeros():
    bits = np.zeros((2, 70), bool)
    bits[0, [0, 63, 64]] = True
    np.testing.assert_array_equal(pack(bits), [[2**63 + 1, 2**63], [0, 0]])


@pytest.mark.parametrize("dim", [1, 2, 40, 128])
def test_rotations_keep_lengths_and_differ_by_seed(dim):
    a, b = (random_rotation(dim, np.random.default_rng(seed)) for seed in (0, 1))
    np.testing.assert_allclose(a @ a.T, np.eye(dim), atol=1e-4)
    assert dim == 1 or not np.array_equal(a, b)
    np.testing.assert_array_equal(a * 2**20, np.rint(a * 2**20))


def spread(values):
    """Largest over smallest variance of the directions of `values`."""
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    variances = np.linalg.eigvalsh(unit.T.astype(np.float64) @ unit)
    return variances[-1] / variances[0]


def test_whitening_narrows_the_spread_of_variances():
    uneven = RESIDUALS * np.geomspace(1, 5, 40, dtype=np.float32)
    matrix = whitened_rotation(uneven, np.random.default_rng(0))
    assert spread(uneven @ matrix) < 0.4 * spread(uneven)
    assert spread(uneven @ random_rotation(40, np.random.default_rng(0))) == pytest.approx(spread(uneven), rel=1e-3)
    np.testing.assert_array_equal(matrix * 2**20, np.rint(matrix * 2**20))
    assert np.abs(matrix).max() <= 1


def test_whitening_needs_neither_order_nor_length_nor_full_rank():
    matrix = whitened_rotation(RESIDUALS, np.random.default_rng(0))
    lengths = np.ldexp(np.float32(1), RNG.integers(-9, 9, (500, 1)))
    shuffled = (RESIDUALS * lengths)[RNG.permutation(500)]
    np.testing.assert_array_equal(whitened_rotation(shuffled, np.random.default_rng(0)), matrix)
    for few in (RESIDUALS[:3], np.zeros((5, 40), np.float32), RESIDUALS[:0]):
        found = whitened_rotation(few, np.random.default_rng(0))
        assert np.isfinite(found).all()
        assert np.linalg.matrix_rank(found) == 40


def test_turned_sums_are_exact_in_any_order():
    turned = turn(RESIDUALS, ROTATION)
    order = RNG.permutation(40)
    np.testing.assert_array_equal(turn(RESIDUALS[:, order], ROTATION[order]), turned)
    scale = np.linalg.norm(turned, axis=1, keepdims=True)
    expected = RESIDUALS.astype(np.float64) @ ROTATION
    np.testing.assert_allclose(turned / scale, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def test_signs_do_not_depend_on_the_length_of_a_residual():
    lengths = np.ldexp(np.float32(1), RNG.integers(-60, 60, (500, 1)))
    np.testing.assert_array_equal(binarise(RESIDUALS * lengths, ROTATION, 3), binarise(RESIDUALS, ROTATION, 3))


@pytest.mark.parametrize("rotation", [None, ROTATION])
def test_the_highest_plane_is_the_sign_and_a_zero_residual_has_no_bit(rotation):
    residuals = np.concatenate([RESIDUALS, np.zeros((1, 40), np.float32)])
    signs, planes = binarise(residuals, rotation), binarise(residuals, rotation, 3)
    assert signs.shape == (501, 1)
    assert planes.shape == (501, 3)
    np.testing.assert_array_equal(planes[:, 0], signs[:, 0])
    assert signs[500, 0] == 0
    assert binarise(residuals[:0], rotation, 3).shape == (0, 3)


def test_blocks_do_not_change_the_bits(monkeypatch):
    whole = binarise(RESIDUALS, ROTATION, 3)
    monkeypatch.setattr("resight.index.binarisation.BLOCK", 64)
    np.testing.assert_array_equal(binarise(RESIDUALS, ROTATION, 3), whole)


def test_levels_are_the_nearest_of_eight():
    scaled = RESIDUALS / np.sqrt((RESIDUALS**2).mean(axis=1, keepdims=True))
    values = (2 * np.arange(8) - 7) * STEP / 2
    nearest = np.abs(scaled[..., None] - values).argmin(axis=2)
    np.testing.assert_array_equal(levels(RESIDUALS.astype(np.float64), PLANES), nearest)


def test_asymmetric_comparison_is_closer_to_the_cosine_than_signatures():
    dim = 128
    codebook = Codebook(np.zeros((1, dim)), random_rotation(dim, np.random.default_rng(2)))
    query = RNG.standard_normal(dim).astype(np.float32)
    images = (query + 2 * RNG.standard_normal((4000, dim))).astype(np.float32)
    cosine = images @ query / np.linalg.norm(images, axis=1) / np.linalg.norm(query)
    found = {}
    for asymmetric in (False, True):
        index = Asmk(codebook, alpha=1, tau=-1, query_multiple=1, asymmetric=asymmetric)
        index.add(np.arange(4000), images)
        score = index.scores(np.zeros(1, int), query[None])[0]
        found[asymmetric] = np.corrcoef(score, cosine)[0, 1]
    assert found[True] > found[False] + 0.03


def test_fewer_bits_keep_the_strongest_directions():
    uneven = RESIDUALS * np.geomspace(1, 30, 40, dtype=np.float32)[::-1]
    matrix = whitened_rotation(uneven, np.random.default_rng(0), 8)
    assert matrix.shape == (40, 8)
    np.testing.assert_array_equal(matrix * 2**20, np.rint(matrix * 2**20))
    assert np.linalg.norm(matrix[:8]) > 10 * np.linalg.norm(matrix[20:])
    projected = uneven @ matrix
    strongest = uneven @ np.linalg.eigh(np.cov((uneven / np.linalg.norm(uneven, axis=1, keepdims=True)).T))[1][:, -8:]
    assert spread(projected) < spread(strongest)
    for few in (RESIDUALS[:3], RESIDUALS[:0]):
        assert whitened_rotation(few, np.random.default_rng(0), 8).shape == (40, 8)


def test_fewer_bits_do_not_depend_on_the_signs_of_eigenvectors(monkeypatch):
    matrix = whitened_rotation(RESIDUALS, np.random.default_rng(0), 24)
    eigh = np.linalg.eigh

    def flipped(covariance):
        variances, axes = eigh(covariance)
        return variances, axes * np.where(np.arange(40) % 3, 1, -1)

    monkeypatch.setattr("numpy.linalg.eigh", flipped)
    np.testing.assert_array_equal(whitened_rotation(RESIDUALS, np.random.default_rng(0), 24), matrix)


def test_a_codebook_of_fewer_bits_makes_shorter_signatures():
    points = RESIDUALS
    codebook = Codebook.fit(points, 8, bits=32)
    assert (codebook.dim, codebook.bits, Codebook.fit(points, 8).bits) == (40, 32, 40)
    index = Asmk(codebook, query_multiple=1)
    index.add(np.repeat(np.arange(50), 10), points)
    ranking = index.search(np.repeat(np.arange(50), 10), points, 1)
    np.testing.assert_array_equal(ranking.ids[:, 0], np.arange(50))
    assert ranking.scores.max() < 1.1
    with pytest.raises(UsageError, match="41 bits were asked of 40 dimensions"):
        Codebook.fit(points, 8, bits=41)
