"""Context blocks on real photos: an untrained one is plain HOW, and what is drawn of it can be drawn."""

from pathlib import Path

import numpy as np
import pytest
import torch

from resight.features.local.context import Context, ContextSettings
from resight.features.local.how_encoder import How
from resight.features.local.reduction import Moments
from resight.features.local.trunk import open_trunk
from resight.images.decode import decode
from resight.reports.inspection import inspect_photo

DATA = Path(__file__).parents[2] / "../shared/data"
NETWORK, PHOTOS = DATA / "backbones/resnet50v2_c4.onnx", DATA / "holidays/images"
pytestmark = pytest.mark.skipif(not (NETWORK.exists() and PHOTOS.exists()), reason=f"no network and photos in {DATA}")
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def encoder():
    """HOW with a reduction learnt from four photos."""
    bare, moments = How(open_trunk(NETWORK, max_side=362), None, "average"), Moments(1024)
    moments.add(bare.sample([decode(path).pixels for path in sorted(PHOTOS.iterdir())[:4]]))
    return bare.reduced(moments.whitening(64))


@pytest.mark.parametrize("reweighting", ["graph", "attention"])
def test_an_untrained_context_is_plain_how(encoder, reweighting):
    context = Context(ContextSettings(1024, reweighting))
    pixels = decode(sorted(PHOTOS.iterdir())[10]).pixels
    plain, found = (one(pixels) for one in (encoder, How(encoder.trunk, encoder.reduction, context=context)))
    np.testing.assert_array_equal(found.xy, plain.xy)
    np.testing.assert_allclose(found.strength, plain.strength, rtol=1e-5)
    off = np.abs(found.descriptors - plain.descriptors)
    assert off.max() < 1e-2 * np.abs(plain.descriptors).max()
    assert (np.sign(found.descriptors) != np.sign(plain.descriptors)).mean() < 1e-3


def test_it_can_be_drawn(encoder):
    context = How(encoder.trunk, None, context=Context(ContextSettings(1024)))
    seen = inspect_photo(sorted(PHOTOS.iterdir())[10], {"how": context})
    assert [figure.name for figure in seen.figures] == ["attention", "features", "smoothing", "edges"]
