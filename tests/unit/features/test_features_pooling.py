import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from resight.errors import ArrayError, UsageError
from resight.features import pooling

POOLS = [pooling.mac, pooling.spoc, pooling.gem, pooling.rmac, pooling.regional_gem]


@pytest.fixture
def maps():
    return np.random.default_rng(0).random((2, 4, 6, 9)).astype(np.float32)


@pytest.mark.parametrize("pool", POOLS)
def test_same_answer_for_arrays_and_tensors(pool, maps):
    vectors = pool(maps)
    assert vectors.shape == (2, 4)
    assert vectors.dtype == np.float32
    tensors = pool(torch.from_numpy(maps))
    np.testing.assert_allclose(tensors.numpy(), vectors, rtol=1e-5)


@pytest.mark.parametrize("pool", POOLS)
def test_gradients_flow(pool, maps):
    features = torch.from_numpy(maps).double().requires_grad_()
    assert torch.autograd.gradcheck(pool, (features[:1, :2, :3, :4],))


@pytest.mark.parametrize("pool", [*POOLS, pooling.smooth_regional_gem])
def test_gradients_of_dead_channels_are_finite(pool):
    features = torch.zeros(1, 3, 4, 6, requires_grad=True)
    pool(features).sum().backward()
    assert torch.isfinite(features.grad).all()


def test_gradient_reaches_a_learned_exponent(maps):
    for p in (torch.tensor([3.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])):
        p.requires_grad_()
        pooling.gem(torch.from_numpy(maps), p).sum().backward()
        assert (p.grad > 0).all()  # a power mean of unequal values rises with p


def test_gem_between_spoc_and_mac(maps):
    np.testing.assert_allclose(pooling.gem(maps, 1), pooling.spoc(maps), rtol=1e-5)
    np.testing.assert_array_equal(pooling.gem(maps, math.inf), pooling.mac(maps))
    assert (pooling.gem(maps, 2) < pooling.gem(maps, 3)).all()


def test_gem_of_strong_channels_does_not_overflow(maps):
    np.testing.assert_allclose(pooling.gem(maps * 1e6, 10), pooling.gem(maps, 10) * 1e6, rtol=1e-4)


def test_gem_per_channel_takes_arrays_with_tensors(maps):
    p = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(pooling.gem(torch.from_numpy(maps), p).numpy(), pooling.gem(maps, p), rtol=1e-5)


def test_half_precision_is_pooled_in_single(maps):
    assert pooling.gem(maps.astype(np.float16) * 300).dtype == np.float32
    assert torch.isfinite(pooling.gem(torch.from_numpy(maps).half() * 300)).all()


def test_regions_of_one_pixel_and_panorama():
    assert pooling.rmac_regions(np.zeros((1, 1, 1, 1), np.float32)).tolist() == [[0, 0, 0, 0]] * 2
    boxes = pooling.rmac_regions(np.zeros((1, 1, 2, 50), np.float32))
    assert (boxes >= 0).all()
    assert (boxes[:, [0, 2]] < 50).all()
    assert (boxes[:, [1, 3]] < 2).all()


def test_a_tie_of_overlaps_falls_as_in_the_published_networks():
    # Five steps overlap by 3.8/11 and six by 5/11, both 0.6/11 off 40 %: rounding decides for six.
    boxes = pooling.rmac_regions(np.zeros((1, 1, 11, 47), np.float32), 1)
    assert len(boxes) == 1 + 7


def test_regions_of_a_turned_map_are_turned(maps):
    wide, tall = pooling.rmac_regions(maps), pooling.rmac_regions(maps.transpose(0, 1, 3, 2))
    assert {tuple(box) for box in wide[:, [1, 0, 3, 2]].tolist()} == {tuple(box) for box in tall.tolist()}


def test_regions_are_whitened_before_the_sum(maps):
    regions = pooling.roi_pool(maps)
    flipped = pooling.sum_regions(regions, lambda x: -2 * x)
    np.testing.assert_allclose(flipped, -pooling.rmac(maps), rtol=1e-4)


def test_superglobal_pieces(maps):
    assert pooling.relup(maps).min() == np.float32(0.014)
    constant = np.full((1, 2, 3, 1), 0.7, np.float32)
    np.testing.assert_allclose(pooling.smooth_regional_gem(constant), constant, rtol=1e-5)
    tensor = pooling.smooth_regional_gem(torch.from_numpy(maps))
    np.testing.assert_allclose(tensor.numpy(), pooling.smooth_regional_gem(maps), rtol=1e-5)
    vectors = np.array([[[3.0, 4.0]], [[10.0, 0.0]]])
    np.testing.assert_allclose(pooling.scale_gem(vectors), [[1 / np.hypot(1, 0.8), 0.8 / np.hypot(1, 0.8)]], rtol=1e-5)
    np.testing.assert_allclose(pooling.scale_gem(torch.from_numpy(vectors)).numpy(), pooling.scale_gem(vectors))


def test_power_mean_keeps_signs():
    vectors = np.array([[[-8.0, 1.0]], [[-8.0, 1.0]]])
    np.testing.assert_allclose(pooling.power_mean(vectors, 3), [[-8.0, 1.0]])
    np.testing.assert_allclose(pooling.power_mean(torch.from_numpy(vectors), 3).numpy(), [[-8.0, 1.0]])


def test_class_token():
    tokens = np.arange(24).reshape(2, 3, 4)
    assert pooling.class_token(tokens).tolist() == [[0, 1, 2, 3], [12, 13, 14, 15]]
    with pytest.raises(ArrayError, match=r"\(N, T, D\)"):
        pooling.class_token(tokens[0])


def test_zero_vectors_stay_zero():
    assert not pooling.normalise(np.zeros((2, 3))).any()


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 0, 5), (1, 0, 2, 2)])
def test_wrong_shapes_are_named(shape):
    with pytest.raises(ArrayError, match=r"expected \(N, C, H, W\)"):
        pooling.gem(np.zeros(shape, np.float32))


def test_wrong_arguments(maps):
    with pytest.raises(ArrayError, match="floating-point"):
        pooling.mac(maps.astype(np.uint8))
    with pytest.raises(ArrayError, match="floating-point"):
        pooling.mac(torch.from_numpy(maps).int())
    with pytest.raises(ArrayError, match="one per channel"):
        pooling.gem(maps, np.ones(3))
    for p in (0, -1, math.nan, np.array([1.0, 2.0, -1.0, 3.0])):
        with pytest.raises(UsageError, match="positive p"):
            pooling.gem(maps, p)
    with pytest.raises(UsageError, match="levels=0"):
        pooling.rmac(maps, 0)
    with pytest.raises(UsageError, match="odd"):
        pooling.smooth_regional_gem(maps, size=4)
    with pytest.raises(UsageError, match="positive p"):
        pooling.power_mean(maps[0], 0)
    with pytest.raises(ArrayError, match="at least one scale"):
        pooling.power_mean(np.zeros((0, 2, 3)))


def test_torch_is_not_imported():
    code = (
        "import sys, numpy, resight.features.pooling as p;"
        "p.rmac(numpy.ones((1, 2, 3, 4))); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
