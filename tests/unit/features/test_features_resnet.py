import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.nn import functional

from resight.errors import ArrayError, UsageError
from resight.features.networks.resnet import BLOCKS, ResNet, fold_norms, trunk_backbone
from resight.features.networks.vgg import Vgg16
from resight.features.pooling import gem, normalise


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random statistics and parameters of batch normalisation: those of a new network hide what they do."""
    generator = torch.Generator().manual_seed(seed)
    for inner in module.modules():
        if isinstance(inner, nn.Conv2d):
            fan = inner.weight[0].numel()
            inner.weight.data = torch.randn(inner.weight.shape, generator=generator) * (2 / fan) ** 0.5
        if isinstance(inner, nn.BatchNorm2d):
            for name, low, high in (("weight", 0.5, 1), ("bias", -0.1, 0.1), ("running_var", 0.5, 1.5)):
                tensor = getattr(inner, name)
                tensor.data = low + (high - low) * torch.rand(tensor.shape, generator=generator)
            inner.running_mean.data = 0.1 * torch.randn(inner.running_mean.shape, generator=generator)
    return module.eval()


def plain_resnet(state: dict[str, torch.Tensor], x: torch.Tensor, layers: int) -> torch.Tensor:
    """A ResNet as its paper draws it, from a state dict alone."""

    def convolve(name: str, norm: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)
        mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        scale = state[f"{norm}.weight"] / (variance + 1e-5).sqrt()
        return x * scale[:, None, None] + (state[f"{norm}.bias"] - mean * scale)[:, None, None]

    x = functional.max_pool2d(convolve("conv1", "bn1", x, 2).relu(), 3, 2, 1)
    for layer in range(1, layers + 1):
        block = 0
        while f"layer{layer}.{block}.conv1.weight" in state:
            here = f"layer{layer}.{block}"
            stride = 2 if layer > 1 and block == 0 else 1
            bottleneck = f"{here}.conv3.weight" in state
            y = convolve(f"{here}.conv1", f"{here}.bn1", x, 1 if bottleneck else stride).relu()
            y = convolve(f"{here}.conv2", f"{here}.bn2", y, stride if bottleneck else 1)
            if bottleneck:
                y = convolve(f"{here}.conv3", f"{here}.bn3", y.relu())
            if f"{here}.downsample.0.weight" in state:
                x = convolve(f"{here}.downsample.0", f"{here}.downsample.1", x, stride)
            x = (x + y).relu()
            block += 1
    return x


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
@pytest.mark.parametrize("stage", ["C4", "C5"])
def test_it_is_the_network_of_the_paper(architecture: str, stage: str) -> None:
    net = lively(ResNet(architecture, stage, width=8))
    x = torch.randn(2, 3, 65, 97, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = plain_resnet(net.state_dict(), x, 3 if stage == "C4" else 4)
        got = net(x)
    assert got.shape == expected.shape
    assert got.shape[1] == net.channels
    assert got.shape[2:] == tuple(-(-side // net.stride) for side in (65, 97))
    assert_allclose(got, expected, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize(("architecture", "parameters"), [
    ("resnet18", 11_689_512), ("resnet50", 25_557_032), ("resnet101", 44_549_160), ("resnet152", 60_192_808)
])  # fmt: skip
def test_sizes_are_those_of_torchvision(architecture: str, parameters: int) -> None:
    """The published numbers of parameters, less those of the classifier."""
    with torch.device("meta"):
        net = ResNet(architecture)
    classifier = 1000 * (net.channels + 1)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters - classifier
    assert net.channels == (512 if architecture == "resnet18" else 2048)


def test_names_are_those_of_torchvision() -> None:
    with torch.device("meta"):
        names = set(ResNet("resnet50").state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.downsample.0.weight", "layer1.0.downsample.1.bias"} <= names
    assert {"layer4.2.conv3.weight", "layer4.2.bn3.num_batches_tracked", "layer3.5.conv2.weight"} <= names
    assert len(names) == 318  # 53 convolutions, each with five tensors of batch normalisation


def test_last_stride_and_dilation() -> None:
    plain = lively(ResNet("resnet18", width=4))
    fine = ResNet("resnet18", width=4, last_stride=1, dilation=2).eval()
    fine.load_state_dict(plain.state_dict())
    dense = ResNet("resnet18", width=4, last_stride=1).eval()
    dense.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 128, 96, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        shapes = [tuple(net(x).shape[2:]) for net in (plain, fine, dense)]
        assert (fine(x) - dense(x)).abs().max() > 1e-3
    assert shapes == [(4, 3), (8, 6), (8, 6)]
    assert (plain.stride, fine.stride, dense.stride) == (32, 16, 16)
    assert [block.conv2.dilation for block in fine.layer4] == [(1, 1), (2, 2)]


def test_frozen_normalisation_stays_frozen_in_training() -> None:
    net = ResNet("resnet18", width=4, frozen_norm=True).train()
    norms = [inner for inner in net.modules() if isinstance(inner, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    net(torch.randn(2, 3, 64, 64)).sum().backward()
    assert net.conv1.weight.grad is not None
    assert all(norm.weight.grad is None and not norm.training for norm in norms)
    assert all(torch.equal(old, norm.running_mean) for old, norm in zip(before, norms, strict=True))
    free = ResNet("resnet18", width=4).train()
    free(torch.randn(2, 3, 64, 64))
    assert free.bn1.training
    assert free.bn1.running_mean.abs().max() > 0


def test_attention_sits_behind_the_layers_named() -> None:
    net = lively(ResNet("resnet18", width=4, attention={"layer3": 2, "layer4": 4}))
    bare = ResNet("resnet18", width=4).eval()
    bare.load_state_dict({name: t for name, t in net.state_dict().items() if not name.startswith("attention.")})
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        maps = bare.maxpool(bare.relu(bare.bn1(bare.conv1(x))))
        third = net.attention["layer3"](bare.layer3(bare.layer2(bare.layer1(maps))))
        expected = net.attention["layer4"](bare.layer4(third))
        assert_allclose(net(x), expected, atol=1e-5)
        assert (net(x) - bare(x)).abs().max() > 1e-3
    fresh = ResNet("resnet18", width=4, attention={"layer4": 4})
    assert not fresh.attention["layer4"].v.weight.any()  # it starts as nothing


@pytest.mark.parametrize("options", [
    {"architecture": "resnet34"}, {"stage": "C3"}, {"last_stride": 4}, {"dilation": 0}, {"width": 0},
    {"stage": "C4", "last_stride": 1}, {"stage": "C4", "dilation": 2}, {"stage": "C4", "attention": {"layer4": 8}},
    {"attention": {"layer9": 8}},
])  # fmt: skip
def test_bad_options_are_refused(options: dict) -> None:
    with pytest.raises(UsageError):
        ResNet(**{"width": 4, **options})


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 0, 64)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArrayError, match="expected"):
        ResNet("resnet18", width=4)(torch.zeros(shape))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (33, 7)])
def test_tiny_and_thin_images_pass(size: tuple[int, int]) -> None:
    net = lively(ResNet("resnet18", width=4))
    maps = trunk_backbone(net, "tiny").forward(np.ones((1, 3, *size), np.float32))
    assert maps.shape == (1, 32, -(-size[0] // 32), -(-size[1] // 32))
    assert np.isfinite(maps).all()


@pytest.mark.parametrize("net", [
    ResNet("resnet50", width=8, attention={"layer3": 4}), ResNet("resnet18", "C4", width=8), Vgg16(width=4)
], ids=["resnet50", "resnet18", "vgg16"])  # fmt: skip
def test_a_backbone_gives_the_maps_of_its_trunk(net: nn.Module) -> None:
    lively(net)
    x = np.random.default_rng(0).normal(size=(2, 3, 96, 67)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    backbone = trunk_backbone(net, "mine", sha256="ab", licence="MIT", device="cpu")
    got = backbone.forward(x)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert_allclose(got, expected, atol=2e-5 * expected.max())
    assert (backbone.name, backbone.sha256, backbone.licence, backbone.output) == ("mine", "ab", "MIT", "maps")
    assert (backbone.channels, backbone.stride) == (expected.shape[1], net.stride)
    after = net.state_dict()
    assert before.keys() == after.keys()  # the caller's network is left as it was
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_folding_leaves_no_normalisation() -> None:
    net = fold_norms(lively(ResNet("resnet50", width=4, attention={"layer4": 4})))
    assert not any(isinstance(inner, nn.BatchNorm2d) for inner in net.modules())


@pytest.mark.parametrize(
    ("precision", "least", "most"), [("bfloat16", 0.999, 1 - 1e-9), ("float16", 0.9999, 1 - 1e-11)]
)
def test_drift_of_half_precision(precision: str, least: float, most: float) -> None:
    """What the docstring of `trunk_backbone` says of GeM descriptors."""
    net = lively(ResNet("resnet50"))
    x = np.random.default_rng(0).normal(size=(2, 3, 96, 128)).astype(np.float32)
    whole, half = (
        normalise(gem(trunk_backbone(net, "r", precision=p, device="cpu").forward(x)).astype(np.float64))
        for p in ("float32", precision)
    )
    cosine = (whole * half).sum(axis=1)
    assert least < cosine.min() < most


def test_another_precision_is_refused() -> None:
    with pytest.raises(UsageError, match="precision"):
        trunk_backbone(ResNet("resnet18", width=4), "r", precision="int8")  # type: ignore[arg-type]


def test_every_architecture_is_built() -> None:
    with torch.device("meta"):
        assert [ResNet(name, "C4").channels for name in BLOCKS] == [256, 1024, 1024, 1024]
