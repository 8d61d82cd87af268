"""HOW against the numbers of the authors' program, and against plain loops."""

from pathlib import Path

import numpy as np
import pytest
import torch

from resight.features.local import how
from resight.features.whitening import Whitening, fit_pca

REFERENCE = Path(__file__).parents[2] / "../shared/reference/cirtorch_how_dir_fire.npz"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason=f"no reference numbers at {REFERENCE}")
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def reference():
    return dict(np.load(REFERENCE, allow_pickle=False))


@pytest.fixture(params=["numpy", "torch"])
def into(request):
    return np.asarray if request.param == "numpy" else torch.from_numpy


@pytest.fixture
def forward(reference, into):
    """Attention and reduced maps of both scales."""
    maps = [into(reference[f"how_f{scale}"]) for scale in (1, 2)]
    weight, bias = into(reference["how_conv_w"][:, :, 0, 0]), into(reference["how_conv_b"])
    attention = how.relative_attention([how.attention(one) for one in maps])
    return attention, [how.reduce(how.smooth(one), weight, bias) for one in maps]


@needs_reference
def test_attention_and_smoothing(reference, into, forward):
    attention, reduced = forward
    for scale in (1, 2):
        smoothed = how.smooth(into(reference[f"how_f{scale}"]))
        np.testing.assert_allclose(smoothed, reference[f"how_smooth{scale}"], atol=1e-5)
        np.testing.assert_allclose(attention[scale - 1][0], reference[f"how_att{scale}"], atol=1e-5)
    np.testing.assert_allclose(reduced[0], reference["how_red1"], atol=1e-5)


@needs_reference
def test_whitening_convolution(reference):
    given = Whitening(reference["how_wh_m"][0], reference["how_wh_P"].T)
    weight, bias = how.whitening_convolution(given, 6)
    np.testing.assert_allclose(weight, reference["how_conv_w"][:, :, 0, 0], atol=1e-6)
    np.testing.assert_allclose(bias, reference["how_conv_b"], atol=1e-6)
    fitted, _ = how.whitening_convolution(fit_pca(reference["how_wh_des"]), 6)
    np.testing.assert_allclose(fitted.T @ fitted, weight.T @ weight, atol=1e-4)


@needs_reference
def test_global_descriptor(reference, forward):
    attention, reduced = forward
    np.testing.assert_allclose(how.weighted_sum(reduced, attention), reference["how_global"], atol=1e-5)


@needs_reference
def test_strongest_local_features(reference, forward):
    attention, reduced = forward
    features = how.strongest(reduced, attention, [1.0, 0.5], 20)
    np.testing.assert_allclose(features.descriptors, reference["how_loc20_desc"], atol=1e-5)
    np.testing.assert_allclose(features.strength, reference["how_loc20_att"], atol=1e-5)
    assert np.array_equal(features.cells, reference["how_loc20_xy"])
    assert np.array_equal(features.scale, reference["how_loc20_scale"])


@pytest.mark.parametrize("size", [1, 3, 5])
def test_smoothing_is_its_formula(size):
    maps = np.random.default_rng(0).standard_normal((1, 1, 4, 6))
    got, reach = how.smooth(maps, size), size // 2
    for y in range(4):
        for x in range(6):
            window = [
                maps[0, 0, j, i]
                for j in range(max(0, y - reach), min(4, y + reach + 1))
                for i in range(max(0, x - reach), min(6, x + reach + 1))
            ]
            assert got[0, 0, y, x] == pytest.approx(np.mean(window))
