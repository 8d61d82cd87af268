import numpy as np
import pytest
import torch

from resight.errors import ArrayError, UsageError
from resight.features.local import how
from resight.features.whitening import fit_pca

torch.set_num_threads(1)


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((2, 6, h, w)).astype(np.float32) for h, w in ((5, 7), (3, 4))]


def test_attention_is_relative_to_each_image(maps):
    weights = how.relative_attention([how.attention(one) for one in maps])
    tops = np.max([one.reshape(2, -1).max(axis=1) for one in weights], axis=0)
    np.testing.assert_allclose(tops, 1)
    tensors = how.relative_attention([how.attention(torch.from_numpy(one)) for one in maps])
    for tensor, array in zip(tensors, weights, strict=True):
        np.testing.assert_allclose(tensor, array, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (2, 2), (4, 3)])
def test_smoothing_leaves_constants_and_small_maps_alone(shape):
    constant = np.full((1, 2, *shape), 3.5, np.float32)
    np.testing.assert_allclose(how.smooth(constant, 5), constant, rtol=1e-6)


def test_smoothing_does_not_touch_its_input(maps):
    before = maps[0].copy()
    how.smooth(maps[0])
    assert np.array_equal(maps[0], before)


def test_gradients_reach_the_maps(maps):
    x = torch.from_numpy(maps[1]).double().requires_grad_()

    def forward(x):
        return how.weighted_sum([how.smooth(x)], how.relative_attention([how.attention(x)]))

    assert torch.autograd.gradcheck(forward, (x[:1, :3],))


def test_convolution_is_the_whitening(maps):
    whitening = fit_pca(np.random.default_rng(1).standard_normal((50, 6)))
    weight, bias = how.whitening_convolution(whitening, 4)
    reduced = how.reduce(maps[0], weight, bias)
    expected = whitening.project(maps[0].transpose(0, 2, 3, 1).reshape(-1, 6), 4)
    np.testing.assert_allclose(reduced.transpose(0, 2, 3, 1).reshape(-1, 4), expected, atol=1e-4)
    for dim in (0, 7):
        with pytest.raises(UsageError, match="1 to 6"):
            how.whitening_convolution(whitening, dim)


def test_equal_strength_is_ordered_by_place():
    maps = [np.zeros((1, 2, 2, 2), np.float32)]
    features = how.strongest(maps, [np.ones((1, 2, 2), np.float32)], [1.0], 3)
    assert features.cells.tolist() == [[0, 0], [1, 0], [0, 1]]
    assert len(how.strongest(maps, [np.ones((1, 2, 2), np.float32)], [1.0], 99).strength) == 4


def test_features_in_pixels():
    strength = np.array([[[0.0, 0.0, 0.7]]], np.float32)
    features = how.strongest([np.ones((1, 2, 1, 3), np.float32)], [strength], [0.5], 1)
    local = features.in_pixels(16)
    assert local.xy.tolist() == [[80, 16]]  # the third cell of 32 original pixels
    assert local.scale.tolist() == [32]
    assert local.strength.tolist() == [pytest.approx(0.7)]


def test_bad_arguments(maps):
    weights = [how.attention(one) for one in maps]
    for size in (0, 2):
        with pytest.raises(UsageError, match="odd"):
            how.smooth(maps[0], size)
    with pytest.raises(ArrayError, match=r"expected \(d, 6\)"):
        how.reduce(maps[0], np.zeros((3, 5)), np.zeros(3))
    with pytest.raises(ArrayError, match=r"expected \(N, C, H, W\)"):
        how.attention(maps[0][0])
    with pytest.raises(ArrayError, match="one map per scale"):
        how.weighted_sum(maps, weights[:1])
    with pytest.raises(ArrayError, match="maps of one image"):
        how.strongest(maps, weights, [1.0, 0.5], 5)
    with pytest.raises(UsageError, match="count=0"):
        how.strongest(maps, weights, [1.0, 0.5], 0)
    with pytest.raises(ArrayError, match="at least one scale"):
        how.weighted_sum([], [])
