"""The networks of real photos as torch modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from resight.features.networks.onnx import open_onnx
from resight.features.networks.onnx_trunk import open_onnx_trunk

NETWORKS = Path(__file__).parents[3] / "shared" / "data" / "backbones"
pytestmark = pytest.mark.skipif(not NETWORKS.is_dir(), reason=f"no networks in {NETWORKS}")


@pytest.mark.parametrize("name", ["mobilenetv2", "resnet50v2_c4", "resnet101v2_c4"])
def test_maps_are_those_of_onnxruntime(name):
    backbone, trunk = open_onnx(NETWORKS / f"{name}.onnx"), open_onnx_trunk(NETWORKS / f"{name}.onnx")
    images = np.random.default_rng(0).normal(size=(2, 3, 97, 130)).astype(np.float32)
    expected = backbone.forward(images)
    with torch.no_grad():
        found = trunk(torch.from_numpy(images)).numpy()
    assert (trunk.channels, trunk.stride) == (backbone.channels, backbone.stride)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
