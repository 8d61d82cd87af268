"""Global descriptors of real photos by real networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resight.features.global_descriptor import GlobalDescriptor
from resight.features.networks.open import open_backbone
from resight.features.pooling import gem
from resight.images.decode import decode

DATA = Path(__file__).parents[3] / "shared" / "data"
NETWORKS = DATA / "backbones"
PHOTOS = DATA / "holidays" / "images"

pytestmark = [
    pytest.mark.skipif(not NETWORKS.is_dir(), reason=f"no networks in {NETWORKS}"),
    pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"no photos in {PHOTOS}"),
]


@pytest.mark.parametrize(
    ("name", "channels", "stride"),
    [("mobilenetv2", 1280, 32), ("resnet50v2_c4", 1024, 16), ("resnet101v2_c4", 1024, 16)],
)
def test_networks_are_recognised(name, channels, stride):
    network = open_backbone(NETWORKS / f"{name}.onnx")
    assert (network.output, network.channels, network.stride, network.side) == ("maps", channels, stride, None)


def test_descriptors_are_those_that_others_computed():
    descriptor = GlobalDescriptor(open_backbone(NETWORKS / "resnet101v2_c4.onnx"), gem, "gem")
    given = np.load(DATA / "descriptors" / "holidays_resnet101v2_c4_gem.npy")
    names = (DATA / "descriptors" / "holidays_ids.txt").read_text().split()
    chosen = [0, 100, 300, 519]
    found = descriptor.describe([decode(PHOTOS / f"{names[row]}.jpg").pixels for row in chosen])
    cosines = (np.stack(found) * given[chosen]).sum(axis=1)
    assert cosines.min() > 0.998  # another decoder of JPEG
