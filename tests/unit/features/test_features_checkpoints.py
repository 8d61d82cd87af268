"""Checkpoints in the layouts of the published programs, written here, and what resight makes of them."""

import collections
import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.testing import assert_allclose
from torch import nn

from resight.errors import UsageError
from resight.features import pooling
from resight.features.checkpoints import LAYOUTS, build_trunk, load_descriptor, load_weights, read_checkpoint
from resight.features.local.delg import LocalAttention
from resight.features.local.fire import FeatureIntegration
from resight.features.networks.resnet import ResNet
from resight.features.networks.second_order import SecondOrderAttention
from resight.features.networks.vgg import Vgg16

MEAN, STD = [0.48, 0.45, 0.40], [0.23, 0.22, 0.21]
IMAGE = np.random.default_rng(0).integers(0, 256, (70, 101, 3), np.uint8)
TOLERANCE = 2e-5


def random_state(module: nn.Module, seed: int = 0) -> nn.Module:
    """Other weights everywhere, statistics of batch normalisation and zero-initialised layers included."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            spread = 0.3 if tensor.ndim == 1 else tensor[0].numel() ** -0.5
            tensor.copy_(spread * torch.randn(tensor.shape, generator=generator))
            if tensor.ndim == 1 and (name.endswith("weight") or "var" in name):
                tensor.copy_(0.5 + tensor.abs())
    return module.eval()


def trunk(architecture: str = "resnet18", **options: Any) -> ResNet:
    net = random_state(ResNet(architecture, width=4, **options))
    assert isinstance(net, ResNet)
    return net


def children(net: ResNet) -> list[nn.Module]:
    """What torchvision's network gives as its children, without average pooling and classifier."""
    return [net.conv1, net.bn1, net.relu, net.maxpool, *(getattr(net, name) for name in net.layers)]


def prefixed(module: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in module.state_dict().items()}


def linear(channels: int, out: int, seed: int = 5) -> nn.Linear:
    layer = random_state(nn.Linear(channels, out), seed)
    assert isinstance(layer, nn.Linear)
    return layer


def save(content: Any, path: Path, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def maps_of(net: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net(torch.from_numpy(images)).numpy()


def photo(mean: Any = MEAN, std: Any = STD) -> np.ndarray:
    """`IMAGE` as a network takes it at its own size, (1, 3, H, W)."""
    pixels = (IMAGE / 255 - np.asarray(mean)) / np.asarray(std)
    return pixels.transpose(2, 0, 1)[None].astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def cirtorch(net: ResNet | Vgg16, **extra: Any) -> dict[str, Any]:
    """A file of cnnimageretrieval: GeM with p = 2.9."""
    sequence = net.features if isinstance(net, Vgg16) else nn.Sequential(*children(net))
    architecture = "vgg16" if isinstance(net, Vgg16) else "resnet18"
    meta = {"architecture": architecture, "local_whitening": False, "pooling": "gem", "regional": False,
            "whitening": False, "mean": MEAN, "std": STD, "outputdim": net.channels}  # fmt: skip
    state = {**prefixed(sequence, "features."), "pool.p": torch.tensor([2.9])}
    content = {"epoch": 30, "meta": meta, "state_dict": collections.OrderedDict(state), "min_loss": np.float64(0.2)}
    meta.update(extra.pop("meta", {}))
    content["state_dict"].update(extra.pop("state_dict", {}))
    return content | extra


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_cirtorch_resnet(tmp_path: Path, legacy: bool) -> None:
    net, layer = trunk(), linear(32, 32)
    content = cirtorch(net, meta={"whitening": True}, state_dict=prefixed(layer, "whiten."))
    found = read_checkpoint(save(content, tmp_path / "net.pth", legacy))
    assert (found.layout, found.architecture, found.stage, found.width) == ("cirtorch", "resnet18", "C5", 4)
    assert (found.mean, found.std, found.pooling, found.regional) == (tuple(MEAN), tuple(STD), "gem", False)
    assert found.unknown == found.missing == ()
    assert found.p.tolist() == pytest.approx([2.9])
    assert_allclose(found.linear.weight, layer.weight.detach())
    assert found.linear.normalise
    assert found.trunk.keys() == net.state_dict().keys()
    assert_allclose(maps_of(build_trunk(found), photo()), maps_of(net, photo()), atol=1e-6)


def test_cirtorch_descriptor_with_its_whitening_layer(tmp_path: Path) -> None:
    """Features, GeM, L2, fully connected, L2 at each scale; the mean of the scales, L2."""
    net, layer = trunk(), linear(32, 16)
    content = cirtorch(net, meta={"whitening": True}, state_dict=prefixed(layer, "whiten."))
    path = save(content, tmp_path / "net.pth")
    described = load_descriptor(path, scales=(1,))(IMAGE)
    pooled = unit((np.maximum(maps_of(net, photo()), 1e-6) ** 2.9).mean(axis=(2, 3)) ** (1 / 2.9))
    expected = unit(pooled @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
    assert_allclose(described, expected[0], atol=TOLERANCE)
    usual = load_descriptor(path)
    assert usual.scales == pytest.approx((1, 2**0.5, 2**-0.5))
    assert (usual.power, usual.whitening, usual.max_side, usual.dim) == (1, None, 1024, 16)
    assert usual.backbone.mean == tuple(MEAN)


def learned(channels: int, seed: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"m": rng.normal(size=(channels, 1)) / 9, "P": np.asfortranarray(rng.normal(size=(channels, channels)))}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_cirtorch_vgg_with_learned_whitening(tmp_path: Path, legacy: bool) -> None:
    net = random_state(Vgg16(width=4))
    many, one = learned(32), learned(32, 4)
    both = {"retrieval-SfM-120k": {"ms": many, "ss": one}, "retrieval-SfM-30k": {"ms": one, "ss": one}}
    path = save(cirtorch(net, meta={"Lw": both}), tmp_path / "vgg.pth", legacy)
    found = read_checkpoint(path)
    assert found.architecture == "vgg16"
    assert set(found.whitenings) == {f"{name}/{scales}" for name in both for scales in ("ms", "ss")}
    usual = load_descriptor(path)
    assert usual.scales == pytest.approx((1, 2**-0.5, 0.5))
    assert usual.power == pytest.approx(2.9)  # the scales of plain GeM are averaged with its own exponent
    assert_allclose(usual.whitening.mean, many["m"][:, 0])
    single = load_descriptor(path, scales=(1,))
    pooled = unit((np.maximum(maps_of(net, photo()), 1e-6) ** 2.9).mean(axis=(2, 3)) ** (1 / 2.9))
    assert_allclose(single(IMAGE), unit((pooled - one["m"].T) @ one["P"].T)[0], atol=TOLERANCE)
    assert load_descriptor(path, whitening="none").whitening is None
    named = load_descriptor(path, whitening="retrieval-SfM-30k/ms").whitening
    assert_allclose(named.mean, one["m"][:, 0])
    with pytest.raises(UsageError, match="no whitening 'other'"):
        load_descriptor(path, whitening="other")
    again = load_descriptor(path, whitening=named)
    assert again.whitening is named


def test_two_learned_whitenings_of_unknown_data(tmp_path: Path) -> None:
    content = cirtorch(trunk(), meta={"Lw": {"mine": {"ms": learned(32)}, "yours": {"ms": learned(32)}}})
    path = save(content, tmp_path / "net.pth")
    with pytest.raises(UsageError, match="mine/ms, yours/ms: name one"):
        load_descriptor(path)
    del content["meta"]["Lw"]["yours"]
    assert load_descriptor(save(content, path)).whitening is not None
    assert load_descriptor(path, scales=(1,)).whitening is None  # it has none for a single scale


def test_cirtorch_regional_and_local_whitening(tmp_path: Path) -> None:
    net, region, local = trunk(), linear(32, 32, 6), linear(32, 32, 7)
    content = cirtorch(net, meta={"regional": True, "local_whitening": True})
    state = content["state_dict"]
    state["pool.rpool.p"] = state.pop("pool.p")
    state |= {**prefixed(region, "pool.whiten."), **prefixed(local, "lwhiten.")}
    path = save(content, tmp_path / "net.pth")
    assert read_checkpoint(path).unknown == ()
    maps = torch.from_numpy(maps_of(net, photo()))
    with torch.no_grad():
        turned = local(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).numpy()
        boxes = pooling.rmac_regions(turned).tolist()
        rows = [pooling.gem(turned[:, :, y0 : y1 + 1, x0 : x1 + 1], 2.9) for x0, y0, x1, y1 in boxes]
        whitened = region(torch.from_numpy(unit(np.concatenate(rows)))).numpy()
    expected = unit(unit(whitened).sum(axis=0))
    assert_allclose(load_descriptor(path, scales=(1,))(IMAGE), expected, atol=TOLERANCE)
    assert load_descriptor(path).power == 1
    state["lwhiten.weight"] = torch.zeros(16, 32)
    with pytest.raises(UsageError, match="local_whitening has"):
        load_descriptor(save(content, path))


@pytest.mark.parametrize(("name", "pool"), [("mac", pooling.mac), ("spoc", pooling.spoc), ("rmac", pooling.rmac)])
def test_cirtorch_poolings_without_parameters(tmp_path: Path, name: str, pool: Any) -> None:
    net = trunk()
    content = cirtorch(net, meta={"pooling": name})
    del content["state_dict"]["pool.p"]
    descriptor = load_descriptor(save(content, tmp_path / "net.pth"))
    assert (descriptor.pool_name, descriptor.scales) == (name, (1,))
    assert_allclose(descriptor(IMAGE), unit(pool(maps_of(net, photo())))[0], atol=TOLERANCE)


def test_one_exponent_per_channel(tmp_path: Path) -> None:
    net, p = trunk(), np.linspace(1, 5, 32, dtype=np.float32)
    content = cirtorch(net, meta={"pooling": "gemmp"}, state_dict={"pool.p": torch.from_numpy(p)})
    descriptor = load_descriptor(save(content, tmp_path / "net.pth"), scales=(1,))
    expected = (np.maximum(maps_of(net, photo()), 1e-6) ** p[:, None, None]).mean(axis=(2, 3)) ** (1 / p)
    assert_allclose(descriptor(IMAGE), unit(expected)[0], atol=TOLERANCE)
    assert load_descriptor(tmp_path / "net.pth").power == 1
    content["state_dict"]["pool.p"] = torch.ones(5)
    with pytest.raises(UsageError, match="5 exponents of GeM for 32 channels"):
        load_descriptor(save(content, tmp_path / "net.pth"))


@pytest.mark.parametrize("net", [trunk("resnet50"), random_state(Vgg16(width=2))], ids=["resnet50", "vgg16"])
def test_bare_imagenet_features(tmp_path: Path, net: Any) -> None:
    sequence = net.features if isinstance(net, Vgg16) else nn.Sequential(*children(net))
    found = read_checkpoint(save(sequence.state_dict(), tmp_path / "imagenet-caffe.pth"))
    assert (found.layout, found.unknown, found.linear, found.p) == ("cirtorch-features", (), None, None)
    assert_allclose(maps_of(build_trunk(found), photo()), maps_of(net, photo()), atol=1e-6)
    plain = load_descriptor(tmp_path / "imagenet-caffe.pth")
    assert (plain.pool_name, plain.power, len(plain.scales)) == ("gem(p=3)", 3, 3)


class Solar(nn.Module):
    """The parts of SOLAR's network under its names; what runs is the formula."""

    def __init__(self, net: ResNet, fourth: nn.Module, fifth: nn.Module) -> None:
        super().__init__()
        parts = children(net)
        self.conv1 = nn.Sequential(*parts[:2])
        self.conv2_x = nn.Sequential(*parts[2:5])
        self.conv3_x, self.conv4_x, self.conv5_x = parts[5:]
        self.soa4, self.soa5 = fourth, fifth
        for block in (fourth, fifth):
            block.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.soa4(self.conv4_x(self.conv3_x(self.conv2_x(self.conv1(x)))))
        return self.soa5(self.conv5_x(x))


def test_solar(tmp_path: Path) -> None:
    blocks = [
        random_state(SecondOrderAttention(channels, hidden), hidden) for channels, hidden in ((64, 16), (128, 64))
    ]
    net, layer = Solar(trunk("resnet50"), *blocks).eval(), linear(128, 128)
    meta = {"architecture": "resnet50", "pooling": "gem", "mean": MEAN, "std": STD, "soa": True, "soa_layers": "45"}
    state = {**prefixed(net, "features."), **prefixed(layer, "whiten."), "pool.p": torch.tensor([3.1])}
    path = save({"meta": meta, "state_dict": state}, tmp_path / "solar.pth")
    found = read_checkpoint(path)
    assert (found.layout, found.unknown, found.missing) == ("solar", (), ())
    assert set(found.parts) == {"attention.layer3", "attention.layer4"}
    assert_allclose(maps_of(build_trunk(found), photo()), maps_of(net, photo()), atol=1e-5)
    descriptor = load_descriptor(path, scales=(1,))
    pooled = unit(pooling.gem(maps_of(net, photo()), 3.1))
    expected = unit(pooled @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
    assert_allclose(descriptor(IMAGE), expected[0], atol=TOLERANCE)
    assert load_descriptor(path, recipe="solar").scales == pytest.approx((1, 2**0.5, 2**-0.5))
    with pytest.raises(UsageError, match=r"layout solar, recipe ap-gem takes dir"):
        load_descriptor(path, recipe="ap-gem")
    for lost, message in (
        ("h.weight", "lacks attention.layer4.h.weight"),
        ("f.0.bias", "lacks attention.layer4.f.0.bias"),
    ):
        less = {name: tensor for name, tensor in state.items() if name != f"features.soa5.{lost}"}
        with pytest.raises(UsageError, match=message):
            load_descriptor(save({"meta": meta, "state_dict": less}, tmp_path / "less.pth"))


@pytest.fixture
def removed_pca() -> Any:
    """The class that old scikit-learn pickled, in its module that is gone, for as long as a file is written."""
    module = types.ModuleType("sklearn.decomposition.pca")
    module.PCA = type("PCA", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module

    def make(mean: np.ndarray, components: np.ndarray, variances: np.ndarray) -> Any:
        pca = module.PCA()  # type: ignore[attr-defined]
        facts = {"mean_": mean, "components_": components, "explained_variance_": variances, "whiten": True,
                 "n_components": None, "svd_solver": "full", "noise_variance_": np.float32(0),
                 "n_components_": np.int64(9), "_sklearn_version": "0.20.3"}  # fmt: skip
        pca.__dict__.update(facts)
        return pca

    yield make
    del sys.modules[module.__name__]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("normalise", [False, True])
def test_dir(tmp_path: Path, removed_pca: Any, legacy: bool, normalise: bool) -> None:
    net, layer, rng = trunk(), linear(32, 16), np.random.default_rng(0)
    mean, components, variances = rng.normal(size=16) / 9, rng.normal(size=(9, 16)), np.linspace(2, 0.1, 9)
    state = {**prefixed(net, "module."), **prefixed(layer, "module.fc."), "module.adpool.p": torch.tensor([2.7])}
    options = {"arch": "resnet18_rmac", "out_dim": 16, "pooling": "gem", "gemp": 3, "norm_features": normalise}
    pca = {"Landmarks_clean": removed_pca(*(a.astype(np.float32) for a in (mean, components, variances)))}
    content = {"state_dict": collections.OrderedDict(state), "model_options": options, "pca": pca,
               "preprocess": {"mean": MEAN, "std": STD, "input_size": 224}}  # fmt: skip
    path = save(content, tmp_path / "Resnet18-AP-GeM.pt", legacy)
    del sys.modules["sklearn.decomposition.pca"]
    descriptor = load_descriptor(path)
    sys.modules["sklearn.decomposition.pca"] = types.ModuleType("gone")
    found = read_checkpoint(path)
    assert (found.layout, found.unknown, found.missing) == ("dir", (), ())
    pooled = pooling.gem(maps_of(net, photo()), 2.7)
    pooled = unit(pooled) if normalise else pooled
    x = unit(pooled @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
    expected = unit((x - mean) @ components.T / variances**0.25)
    assert_allclose(descriptor(IMAGE), expected[0], atol=5e-5)
    assert (descriptor.scales, descriptor.power, descriptor.dim) == ((1,), 1, 9)


@pytest.mark.parametrize(("options", "message"), [
    ({"arch": "resnet18_fpn_rmac"}, "only plain resnet"),
    ({"arch": "resnet18_rmac", "center_bias": 1}, "center_bias"),
    ({"arch": "resnet18_rmac", "pooling": "fancy"}, "pooling 'fancy'"),
    ({"arch": "resnet50_rmac"}, "says it is a resnet50, and its weights are those of a resnet18"),
])  # fmt: skip
def test_dir_that_cannot_be_read(tmp_path: Path, options: dict, message: str) -> None:
    path = save({"state_dict": trunk().state_dict(), "model_options": options}, tmp_path / "net.pt")
    with pytest.raises(UsageError, match=message):
        read_checkpoint(path)


def how(net: ResNet, reduction: nn.Module, name: str) -> dict[str, torch.Tensor]:
    return {**prefixed(nn.Sequential(*children(net)), "features."), **prefixed(reduction, f"{name}.")}


def scores() -> Any:
    table = collections.defaultdict(list)
    table["local_descriptor"] = collections.defaultdict(list, {"val_eccv20": [(5, np.float64(0.85))]})
    return table


def test_how(tmp_path: Path) -> None:
    net, reduction = trunk("resnet50", stage="C4"), random_state(nn.Conv2d(64, 8, 1))
    parameters = {"architecture": "resnet50", "skip_layer": 1, "runtime": {"mean_std": [MEAN, STD]}}
    content = {"epoch": 20, "meta": {"architecture": "resnet50"}, "scores": scores(), "_version": "how/2020",
               "state_dict": how(net, reduction, "dim_reduction"), "net_params": parameters}  # fmt: skip
    path = save(content, tmp_path / "how.pth")
    found = read_checkpoint(path)
    assert (found.layout, found.architecture, found.stage, found.mean) == ("how", "resnet50", "C4", tuple(MEAN))
    assert found.unknown == ()
    assert_allclose(found.parts["dim_reduction"]["weight"], reduction.weight.detach())
    assert_allclose(maps_of(build_trunk(found), photo()), maps_of(net, photo()), atol=1e-6)
    with pytest.raises(UsageError, match="how model, of local features"):
        load_descriptor(path)


def test_how_before_2020(tmp_path: Path) -> None:
    net, reduction = trunk(), random_state(nn.Conv2d(32, 8, 1))
    meta = {"architecture": "resnet18", "skip_layer": 0, "dim": 8, "feat_pool_k": 3, "mean": MEAN, "std": STD}
    found = read_checkpoint(save({"meta": meta, "state_dict": how(net, reduction, "whiten")}, tmp_path / "how.pth"))
    assert (found.layout, found.mean, found.std, found.unknown) == ("how", tuple(MEAN), tuple(STD), ())
    assert_allclose(found.parts["dim_reduction"]["bias"], reduction.bias.detach())


def test_fire(tmp_path: Path) -> None:
    net, lit = trunk("resnet50", stage="C4"), random_state(FeatureIntegration(64, 4, 8))
    state = {**how(net, random_state(nn.Conv2d(8, 4, 1)), "dim_reduction"), **prefixed(lit, "lit.")}
    state |= {"fc.weight": torch.zeros(10, 8), "odd.weight": torch.zeros(1)}
    found = read_checkpoint(save({"state_dict": state}, tmp_path / "fire.pth"))
    assert (found.layout, found.unknown) == ("fire", ("odd.weight",))
    fresh = FeatureIntegration(64, 4, 8)
    assert load_weights(fresh, found.parts["lit"], found.path) == ()
    maps = torch.from_numpy(maps_of(net, photo()))
    torch.testing.assert_close(fresh(maps), lit(maps))
    with pytest.raises(UsageError, match=r"fire\.pth: templates_init has shape \(1, 4, 8\), expected \(1, 5, 8\)"):
        load_weights(FeatureIntegration(64, 5, 8), found.parts["lit"], found.path)


class PyclsBlock(nn.Module):
    """A bottleneck under the names of pycls."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        if stride != 1 or inputs != 4 * width:
            self.proj = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
            self.bn = nn.BatchNorm2d(4 * width)
        self.f = nn.Sequential(collections.OrderedDict(
            a=nn.Conv2d(inputs, width, 1, bias=False), a_bn=nn.BatchNorm2d(width), a_relu=nn.ReLU(),
            b=nn.Conv2d(width, width, 3, stride, 1, bias=False), b_bn=nn.BatchNorm2d(width), b_relu=nn.ReLU(),
            c=nn.Conv2d(width, 4 * width, 1, bias=False), c_bn=nn.BatchNorm2d(4 * width),
        ))  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((self.bn(self.proj(x)) if hasattr(self, "proj") else x) + self.f(x)).relu()


class Pycls(nn.Module):
    """ResNet-50 of a width under the names of pycls, with DELG's head."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        parts = {"conv": nn.Conv2d(3, width, 7, 2, 3, bias=False), "bn": nn.BatchNorm2d(width), "relu": nn.ReLU(),
                 "pool": nn.MaxPool2d(3, 2, 1)}  # fmt: skip
        self.stem = nn.Sequential(collections.OrderedDict(parts))
        inputs = width
        for stage, count in enumerate((3, 4, 6, 3), 1):
            inner = width * 2 ** (stage - 1)
            blocks = nn.Sequential()
            for block in range(count):
                blocks.add_module(f"b{block + 1}", PyclsBlock(inputs, inner, 2 if stage > 1 and block == 0 else 1))
                inputs = 4 * inner
            self.add_module(f"s{stage}", blocks)
        self.head = nn.Module()
        self.head.pool = nn.Module()
        self.head.pool.p = nn.Parameter(torch.tensor([3.0]))
        self.head.fc = nn.Linear(inputs, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.s4(self.s3(self.s2(self.s1(self.stem(x)))))


def pycls() -> Pycls:
    net = random_state(Pycls(4, 16))
    net.head.pool.p.data.fill_(3.3)
    return net


@pytest.mark.parametrize("layout", ["delg", "cvnet"])
def test_delg_and_cvnet(tmp_path: Path, layout: str) -> None:
    """Networks of images in BGR order; no normalisation between pooling and fully connected layer."""
    net, local = pycls(), random_state(LocalAttention(64, 8))
    state = prefixed(net, {"delg": "globalmodel.", "cvnet": "encoder_q."}[layout])
    if layout == "delg":
        state |= {**prefixed(local, "localmodel."), "desc_cls.weight": torch.ones(9, 16), "desc_cls.t": torch.ones(1)}
        state |= {"att_cls.fc.weight": torch.ones(9, 8), "att_cls.fc.bias": torch.ones(9)}
    else:
        state |= {"conv2ds.0.weight": torch.ones(2, 2, 3, 3), "cv_learner.block1.0.0.weight": torch.ones(2)}
    path = save({"epoch": 100, "model_state": state}, tmp_path / "model.pyth")
    found = read_checkpoint(path)
    assert (found.layout, found.architecture, found.unknown, found.missing) == (layout, "resnet50", (), ())
    assert not found.linear.normalise
    images = photo(found.mean, found.std)
    maps = maps_of(net, np.ascontiguousarray(images[:, ::-1]))
    assert_allclose(maps_of(build_trunk(found), images), maps, atol=1e-5)
    pooled = pooling.gem(maps, 3.3)
    expected = unit(pooled @ net.head.fc.weight.detach().numpy().T + net.head.fc.bias.detach().numpy())
    assert_allclose(load_descriptor(path, scales=(1,))(IMAGE), expected[0], atol=TOLERANCE)
    assert sorted(load_descriptor(path).scales) == pytest.approx([2**-0.5, 1, 2**0.5])
    if layout == "delg":
        fresh = LocalAttention(64, 8).eval()
        assert load_weights(fresh, found.parts["local_attention"], path) == ()
        torch.testing.assert_close(fresh(torch.ones(1, 64, 2, 2)), local(torch.ones(1, 64, 2, 2)))


def classifier(net: nn.Module, name: str = "fc") -> dict[str, torch.Tensor]:
    return {**net.state_dict(), f"{name}.weight": torch.zeros(10, 4), f"{name}.bias": torch.zeros(10)}


@pytest.mark.parametrize("kind", ["pth", "legacy", "safetensors", "wrapped", "half"])
def test_torchvision_and_timm(tmp_path: Path, kind: str) -> None:
    net, path = trunk("resnet50"), tmp_path / "net.weights"
    state = classifier(net)
    if kind == "half":
        state = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    if kind in ("safetensors", "half"):
        safetensors.torch.save_file(state, path)
    else:
        save({"state_dict": state, "arch": "resnet50"} if kind == "wrapped" else state, path, legacy=kind == "legacy")
    found = read_checkpoint(path)
    assert (found.layout, found.architecture, found.unknown, found.missing) == ("torchvision", "resnet50", (), ())
    expected = maps_of(net, photo())
    assert_allclose(maps_of(build_trunk(found), photo()), expected, atol=5e-2 if kind == "half" else 1e-6)
    assert load_descriptor(path, recipe="rmac").pool_name == "rmac"


def test_torchvision_vgg_and_old_files_without_counters(tmp_path: Path) -> None:
    net = random_state(Vgg16(width=2))
    found = read_checkpoint(save(classifier(net, "classifier.0"), tmp_path / "vgg.pth"))
    assert (found.layout, found.architecture, found.unknown) == ("torchvision", "vgg16", ())
    old = {name: tensor for name, tensor in trunk().state_dict().items() if "num_batches" not in name}
    found = read_checkpoint(save(old, tmp_path / "old.pth"))
    assert found.missing == ()
    assert_allclose(maps_of(build_trunk(found), photo()), maps_of(trunk(), photo()), atol=1e-6)


def test_parameters_are_weights_too(tmp_path: Path) -> None:
    """Some files hold `nn.Parameter`s, which want gradients."""
    content = cirtorch(trunk(), state_dict={f"whiten.{name}": p for name, p in linear(32, 8).named_parameters()})
    content["state_dict"]["features.0.weight"] = nn.Parameter(content["state_dict"]["features.0.weight"])
    assert load_descriptor(save(content, tmp_path / "net.pth")).dim == 8


def test_options_of_the_trunk_reach_it(tmp_path: Path) -> None:
    found = read_checkpoint(save(trunk().state_dict(), tmp_path / "net.pth"))
    net = build_trunk(found, last_stride=1, dilation=2)
    assert net.stride == 16
    assert all(parameter.requires_grad for parameter in net.parameters())
    with torch.no_grad():
        net.conv1.weight.zero_()  # training changes the network, not what was read
    assert found.trunk["conv1.weight"].any()


def test_missing_and_unknown_weights_are_listed(tmp_path: Path) -> None:
    state = classifier(trunk())
    del state["layer2.1.bn2.running_var"], state["layer3.0.conv1.weight"]
    state["extra.weight"] = torch.zeros(1)
    path = save(state, tmp_path / "net.pth")
    found = read_checkpoint(path)
    assert set(found.missing) == {"layer2.1.bn2.running_var", "layer3.0.conv1.weight"}
    assert found.unknown == ("extra.weight",)
    with pytest.raises(UsageError, match=r"net\.pth lacks layer2\.1\.bn2\.running_var, layer3\.0\.conv1\.weight of a"):
        load_descriptor(path)


def broken(change: str) -> dict[str, torch.Tensor]:
    """Weights of a ResNet-18 in which one thing is wrong."""
    state = classifier(trunk())
    if change == "nan":
        state["layer3.1.conv2.weight"][0, 0, 0, 0] = torch.nan
    elif change == "infinity":
        state["bn1.running_var"][0] = torch.inf
    elif change == "channels":
        state["conv1.weight"] = torch.zeros(4, 4, 7, 7)
    elif change == "wide":  # a wide or grouped convolution, as in ResNeXt
        state["layer1.0.conv2.weight"] = torch.zeros(4, 8, 3, 3)
    elif change == "blocks":
        state = {name: tensor for name, tensor in state.items() if not name.startswith("layer2.1.")}
    elif change == "stretched":
        state["layer1.0.conv1.weight"] = torch.zeros(1).expand(4, 4, 3, 3)
    elif change == "deep stem":
        state["conv1.0.weight"] = state.pop("conv1.weight")
    else:
        state = {"encoder.layer.0.weight": torch.zeros(2)}
    return state


@pytest.mark.parametrize(("change", "message"), [
    ("nan", r"layer3\.1\.conv2\.weight of shape \(16, 16, 3, 3\) holds NaN"),
    ("infinity", r"bn1\.running_var of shape \(4,\) holds NaN or infinity"),
    ("channels", r"conv1\.weight has shape \(4, 4, 7, 7\), and in a resnet18 of width 4 it has \(4, 3, 7, 7\)"),
    ("wide", r"layer1\.0\.conv2\.weight has shape \(4, 8, 3, 3\).* another architecture"),
    ("blocks", r"a network of \(2, 1, 2, 2\) basic blocks"),
    ("stretched", "fewer numbers than that"),
    ("deep stem", "first layers are not those of a plain ResNet"),
    ("another", r"no known layout: its weights are called encoder\.layer\.0\.weight"),
])  # fmt: skip
def test_weights_of_another_network_are_refused(tmp_path: Path, change: str, message: str) -> None:
    path = save(broken(change), tmp_path / "net.pth")
    with pytest.raises(UsageError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("meta", "message"), [
    ({"pooling": "attention"}, "pooling 'attention'"),
    ({"pooling": ["gem"]}, "does not know"),
    ({"mean": [0.5, 0.5]}, "mean of colours"),
    ({"mean": "grey"}, "mean of colours"),
    ({"std": [0.2, 0.2, 0]}, "std of colours"),
    ({"architecture": "resnet101"}, "says it is a resnet101"),
    ({"Lw": {"a": {"ms": {"m": np.zeros((32, 1))}}}}, "Lw"),
    ({"Lw": {"a": {"ms": {"m": np.zeros((3, 1)), "P": np.zeros((32, 32))}}}}, "Lw"),
    ({"Lw": ["a"]}, "Lw"),
])  # fmt: skip
def test_damaged_descriptions_are_refused(tmp_path: Path, meta: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_checkpoint(save(cirtorch(trunk(), meta=meta), tmp_path / "net.pth"))


@pytest.mark.parametrize(("state", "message"), [
    ({"pool.p": torch.tensor([-1.0])}, "exponent of GeM"),
    ({"whiten.weight": torch.zeros(8, 32), "whiten.bias": torch.zeros(7)}, "Linear.bias"),
])  # fmt: skip
def test_damaged_layers_are_refused(tmp_path: Path, state: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_checkpoint(save(cirtorch(trunk(), state_dict=state), tmp_path / "net.pth"))


def test_a_layer_of_other_width_is_refused(tmp_path: Path) -> None:
    path = save(cirtorch(trunk(), state_dict=prefixed(linear(16, 8), "whiten.")), tmp_path / "net.pth")
    with pytest.raises(UsageError, match=r"net\.pth: the fully connected layer takes 16 channels, .* gives 32"):
        load_descriptor(path)


class Evil:
    """A pickle that would run a command."""

    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool) -> None:
    monkeypatch.chdir(tmp_path)
    path = save({"state_dict": trunk().state_dict(), "extra": Evil()}, tmp_path / "net.pth", legacy)
    with pytest.raises(UsageError, match=r"names \w+\.system, which weights do not need"):
        read_checkpoint(path)
    assert not (tmp_path / "pwned").exists()


def test_arrays_made_from_nothing_are_refused(tmp_path: Path) -> None:
    """A file of a few bytes may not ask for terabytes."""

    class Huge:
        def __reduce__(self) -> Any:
            return np.empty(0).__reduce__()[0], (np.ndarray, (2**40,), b"b")

    with pytest.raises(UsageError, match="made from nothing"):
        read_checkpoint(save({"a": Huge()}, tmp_path / "net.pth"))


@pytest.mark.parametrize("keep", [0, 1, 7, 40, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated_files_are_refused(tmp_path: Path, kind: str, keep: float) -> None:
    path = tmp_path / "net"
    if kind == "safetensors":
        safetensors.torch.save_file(trunk().state_dict(), path)
    else:
        save(trunk().state_dict(), path, legacy=kind == "legacy")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(UsageError, match="net"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"hello, this is a text", pickle.dumps([1, 2]), pickle.dumps({1: 2})])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(UsageError, match=r"net\.pth"):
        read_checkpoint(tmp_path / "net.pth")


def test_files_without_weights_and_without_being_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no weights: its entries are epoch"):
        read_checkpoint(save({"epoch": 3}, tmp_path / "net.pth"))
    with pytest.raises(UsageError, match="holds list"):
        read_checkpoint(save([torch.zeros(2)], tmp_path / "net.pth"))
    with pytest.raises(UsageError, match="cannot open"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(UsageError, match="cannot open"):
        read_checkpoint(tmp_path)


def test_recipes_are_named(tmp_path: Path) -> None:
    path = save(trunk().state_dict(), tmp_path / "net.pth")
    with pytest.raises(UsageError, match="recipe 'fisher' is not known: give one of mac, spoc, rmac, gem"):
        load_descriptor(path, recipe="fisher")
    with pytest.raises(UsageError, match="layout torchvision, recipe delg takes"):
        load_descriptor(path, recipe="delg")
    assert read_checkpoint(path).layout in LAYOUTS


def test_fingerprints_tell_descriptors_apart(tmp_path: Path) -> None:
    path = save(trunk().state_dict(), tmp_path / "net.pth")
    options: list[dict[str, Any]] = [
        {},
        {"recipe": "rmac"},
        {"scales": (1,)},
        {"max_side": 512},
        {"precision": "bfloat16"},
    ]
    assert len({load_descriptor(path, **one).fingerprint for one in options}) == len(options)
    assert load_descriptor(path).fingerprint == load_descriptor(path).fingerprint


def test_a_known_file_brings_its_licence(tmp_path: Path) -> None:
    path = save(trunk().state_dict(), tmp_path / "fire.pth")
    assert load_descriptor(path).backbone.licence == "CC BY-NC-SA 4.0"
    assert load_descriptor(path.rename(tmp_path / "mine.pth")).backbone.licence == "unknown"
