import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.nn import functional

from resight.errors import ArrayError, UsageError
from resight.features.networks.resnet import trunk_backbone
from resight.features.networks.vgg import Vgg16

CONVOLUTIONS = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]  # their places in torchvision's `features`
POOLED_AFTER = {2, 7, 14, 21, 28}


def test_names_and_shapes_are_those_of_torchvision() -> None:
    with torch.device("meta"):
        state = Vgg16().state_dict()
    assert [int(name.split(".")[1]) for name in state if name.endswith("weight")] == CONVOLUTIONS
    shapes = [tuple(state[f"features.{place}.weight"].shape[:2]) for place in CONVOLUTIONS]
    assert shapes == [(64, 3), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256), (256, 256),
                      (512, 256), (512, 512), (512, 512), (512, 512), (512, 512), (512, 512)]  # fmt: skip
    assert sum(tensor.numel() for tensor in state.values()) == 14_714_688


@pytest.mark.parametrize("pool5", [False, True])
def test_it_is_the_network_of_the_paper(pool5: bool) -> None:
    torch.manual_seed(0)
    net = Vgg16(pool5=pool5, width=4).eval()
    x = torch.randn(2, 3, 70, 97)
    expected, state = x, net.state_dict()
    for place in CONVOLUTIONS:
        weight, bias = state[f"features.{place}.weight"], state[f"features.{place}.bias"]
        expected = functional.conv2d(expected, weight, bias, padding=1).relu()
        if place in POOLED_AFTER and (pool5 or place != 28):
            expected = functional.max_pool2d(expected, 2)
    with torch.no_grad():
        assert_allclose(net(x), expected, atol=1e-5)
    assert expected.shape == (2, net.channels, 70 // net.stride, 97 // net.stride)


@pytest.mark.parametrize(("pool5", "least"), [(False, 16), (True, 32)])
def test_images_smaller_than_a_cell_are_refused(pool5: bool, least: int) -> None:
    backbone = trunk_backbone(Vgg16(pool5=pool5, width=2), "v")
    assert backbone.forward(np.zeros((1, 3, least, 200), np.float32)).shape[2] == 1
    with pytest.raises(ArrayError, match=f"at least {least} pixels"):
        backbone.forward(np.zeros((1, 3, 200, least - 1), np.float32))


def test_a_width_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="width"):
        Vgg16(width=0)
