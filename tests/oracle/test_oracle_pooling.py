"""Pooling against the numbers of the authors' programs, and against plain loops."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from resight.features import pooling

REFERENCE = Path(__file__).parents[2] / "../shared/reference/cirtorch_how_dir_fire.npz"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason=f"no reference numbers at {REFERENCE}")
SIZES = ("7x7", "12x16", "3x5", "1x4")


@pytest.fixture(scope="module")
def reference():
    return dict(np.load(REFERENCE, allow_pickle=False))


@pytest.fixture(params=["numpy", "torch"])
def kind(request):
    torch.set_num_threads(1)
    return (np.asarray, np.asarray) if request.param == "numpy" else (torch.from_numpy, torch.Tensor.numpy)


def check(reference, kind, size, names, function):
    into, back = kind
    for name in names:
        expected = reference[name][..., 0, 0]
        np.testing.assert_allclose(back(function(into(reference[f"fm_{size}"]), name)), expected, atol=1e-5, rtol=1e-5)


@needs_reference
@pytest.mark.parametrize("size", SIZES)
def test_whole_map_pooling(reference, kind, size):
    check(reference, kind, size, [f"mac_{size}"], lambda x, _: pooling.mac(x))
    check(reference, kind, size, [f"spoc_{size}"], lambda x, _: pooling.spoc(x))
    names = [name for name in reference if re.fullmatch(rf"gem[\d.]+_{size}", name)]
    assert len(names) == 4
    check(reference, kind, size, names, lambda x, name: pooling.gem(x, float(name[3:].split("_")[0])))


@needs_reference
@pytest.mark.parametrize("size", SIZES)
def test_regional_pooling(reference, kind, size):
    def levels(name):
        return int(name.split("_L")[1][0])

    for method, function in (("rmac", pooling.rmac), ("roipool", pooling.roi_pool)):
        names = [f"{method}_L{level}_{size}" for level in (1, 2, 3, 4)]
        check(reference, kind, size, names, lambda x, name, function=function: function(x, levels(name)))
    check(reference, kind, size, [f"rpool_gem_{size}"], lambda x, _: pooling.regional_gem(x))


@needs_reference
@pytest.mark.parametrize("size", ["7x7", "12x16"])
def test_boxes(reference, size):
    boxes = pooling.rmac_regions(reference[f"fm_{size}"])
    assert np.array_equal(boxes, reference[f"rmacgrid_{size}_x0y0x1y1"])


@needs_reference
def test_mean_over_scales(reference):
    vectors = reference["ms_in"][:, None]
    mean = pooling.normalise(pooling.power_mean(vectors))[0]
    np.testing.assert_allclose(mean, reference["ms_msp1.0"], atol=1e-5)


@needs_reference
def test_mean_over_transforms(reference, kind):
    into, back = kind
    with np.load(REFERENCE.parent / "data_small.npz") as data:
        vectors = into(data["X"][:60].reshape(3, 20, 64))
    np.testing.assert_allclose(back(pooling.power_mean(vectors)), reference["dirpool_mean"], atol=1e-6)
    cubic = back(pooling.power_mean(vectors, 3, floor=1e-6))
    np.testing.assert_allclose(cubic, reference["dirpool_gem3"], atol=1e-6)


def test_gem_is_its_formula():
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((2, 3, 4, 5)) * 10
    p = np.array([1.5, 3.0, 7.0])
    for n in range(2):
        for c in range(3):
            values = [max(maps[n, c, y, x], 1e-6) ** p[c] for y in range(4) for x in range(5)]
            expected = (sum(values) / 20) ** (1 / p[c])
            assert pooling.gem(maps, p)[n, c] == pytest.approx(expected, rel=1e-9)


def test_smooth_regional_gem_is_its_formula():
    rng = np.random.default_rng(1)
    maps = rng.random((1, 2, 6, 4))
    got = pooling.smooth_regional_gem(maps, 2.5, 5)
    padded = np.pad(maps, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    for c in range(2):
        for y in range(6):
            for x in range(4):
                window = padded[0, c, y : y + 5, x : x + 5]
                expected = maps[0, c, y, x] / 2 + (window**2.5).mean() ** (1 / 2.5) / 2
                assert got[0, c, y, x] == pytest.approx(expected, rel=1e-12)


def test_signed_power_mean_is_its_formula():
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((3, 2, 5))
    cubes = (vectors**3).mean(axis=0)
    np.testing.assert_allclose(pooling.power_mean(vectors, 3), np.cbrt(cubes), rtol=1e-12)
