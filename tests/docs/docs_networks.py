"""Small networks with random weights under the file names that the pages use, each in the format of that file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from delg_factory import write_delg
from onnx_factory import write_lighterglue, write_network, write_xfeat
from resight.features.local.context import Context, ContextSettings
from resight.features.local.delg import LocalAttention
from resight.features.local.fire import FeatureIntegration
from resight.features.networks.resnet import ResNet
from resight.features.networks.second_order import SecondOrderAttention

CHANNELS = 144  # of the ONNX networks: more than the 128 dimensions that are kept
WIDTH = 4  # of the first layer of the others
COLOURS = {"mean": [0.48, 0.45, 0.40], "std": [0.23, 0.22, 0.21]}


def write_file(name: str, folder: Path) -> None:
    """Write the network that the pages call `name` into `folder`."""
    torch.manual_seed(0)
    WRITERS[name](folder / name)


def _state(module: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in module.state_dict().items()}


def _sequence(net: ResNet) -> nn.Module:
    """The layers as torchvision's network gives them as its children."""
    return nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, *(getattr(net, name) for name in net.layers))


def _trunk(path: Path, architecture: str, width: int = WIDTH) -> None:
    torch.save(ResNet(architecture, width=width).state_dict(), path)


def _features(path: Path) -> None:
    torch.save(_sequence(ResNet("resnet18", width=WIDTH)).state_dict(), path)


def _cirtorch(path: Path) -> None:
    net = ResNet("resnet18", width=WIDTH)
    meta = {"architecture": "resnet18", "local_whitening": False, "pooling": "gem", "regional": False,
            "whitening": True, "outputdim": net.channels, **COLOURS}  # fmt: skip
    state = _state(_sequence(net), "features.") | _state(nn.Linear(net.channels, net.channels), "whiten.")
    torch.save({"epoch": 30, "meta": meta, "state_dict": state | {"pool.p": torch.tensor([2.9])}}, path)


def _dir(path: Path) -> None:
    net = ResNet("resnet18", width=WIDTH)
    state = _state(net, "module.") | _state(nn.Linear(net.channels, 16), "module.fc.")
    options = {"arch": "resnet18_rmac", "out_dim": 16, "pooling": "gem", "gemp": 3}
    preprocess = {**COLOURS, "input_size": 224}
    state["module.adpool.p"] = torch.tensor([2.7])
    torch.save({"state_dict": state, "model_options": options, "preprocess": preprocess}, path)


def _solar(path: Path) -> None:
    net = ResNet("resnet50", width=WIDTH)
    conv1, bn1, relu, pool, *layers = _sequence(net)
    parts = {"conv1": nn.Sequential(conv1, bn1), "conv2_x": nn.Sequential(relu, pool, layers[0])}
    parts |= {f"conv{number}_x": layer for number, layer in enumerate(layers[1:], 3)}
    parts |= {"soa4": SecondOrderAttention(16 * WIDTH, 16), "soa5": SecondOrderAttention(32 * WIDTH, 16)}
    state = {key: tensor for name, part in parts.items() for key, tensor in _state(part, f"features.{name}.").items()}
    state |= {f"features.{name}.gamma": torch.zeros(1) for name in ("soa4", "soa5")}
    state |= _state(nn.Linear(net.channels, net.channels), "whiten.") | {"pool.p": torch.tensor([3.0])}
    meta = {"architecture": "resnet50", "pooling": "gem", "soa": True, "soa_layers": "45", **COLOURS}
    torch.save({"meta": meta, "state_dict": state}, path)


def _how(path: Path) -> None:
    net = ResNet("resnet50", "C4", width=WIDTH)
    state = _state(_sequence(net), "features.") | _state(nn.Conv2d(net.channels, 16, 1), "dim_reduction.")
    parameters = {"architecture": "resnet50", "skip_layer": 1, "runtime": {"mean_std": list(COLOURS.values())}}
    torch.save({"net_params": parameters, "state_dict": state}, path)


def _fire(path: Path) -> None:
    net = ResNet("resnet18", "C4", width=WIDTH)
    state = _state(_sequence(net), "features.") | _state(FeatureIntegration(net.channels, 6, 8, 2), "lit.")
    torch.save(state | _state(nn.Conv2d(8, 16, 1), "dim_reduction."), path)


def _context(path: Path) -> None:
    Context(ContextSettings(channels=CHANNELS, window=3), seed=0).save(path)


def _attention(path: Path) -> None:
    save_file(LocalAttention(CHANNELS, 8).state_dict(), path)


def _kornia(make: Callable[[Any], nn.Module], within: str | None = "state_dict") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import kornia.feature

        state = make(kornia.feature).state_dict()
        state = {name: one for name, one in state.items() if name != "dkd.hw_grid" and "num_batches" not in name}
        torch.save({"epoch": 1, within: state} if within else state, path)

    return write


def _hugging_face(path: Path) -> None:
    import transformers

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    transformers.Dinov2Model(transformers.Dinov2Config(image_size=28, patch_size=14, **sizes)).save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))


def _onnx(path: Path) -> None:
    write_network(path, channels=CHANNELS)


def _xfeat(path: Path) -> None:
    write_xfeat(path, np.random.default_rng(0).uniform(10, 200, (300, 2)))


def _lighterglue(path: Path) -> None:
    write_lighterglue(path, np.stack([np.arange(40)] * 2, axis=1), np.ones(40))


WRITERS: Mapping[str, Callable[[Path], object]] = {
    "resnet101.onnx": _onnx,
    "resnet101v2_c4.onnx": _onnx,
    "resnet50_c4.onnx": _onnx,
    "resnet50v2_c4.onnx": _onnx,
    "mobilenetv2.onnx": _onnx,
    "resnet18.pth": lambda path: _trunk(path, "resnet18", 34),  # 136 channels behind the fourth stage, 128 are kept
    "resnet50.pth": lambda path: _trunk(path, "resnet50", 9),  # 144
    "resnet101.pth": lambda path: _trunk(path, "resnet50"),
    "gl18-tl-resnet101-gem-w-a4d43db.pth": _cirtorch,
    "imagenet-caffe-resnet101-features-10a101d.pth": _features,
    "Resnet-101-AP-GeM.pt": _dir,
    "resnet101-solar-best.pth": _solar,
    "how_r50-.pth": _how,
    "fire.pth": _fire,
    "delg.pyth": lambda path: write_delg(path, hidden=CHANNELS, width=12),
    "context.safetensors": _context,
    "attention.safetensors": _attention,
    "xfeat.onnx": _xfeat,
    "lighterglue.onnx": _lighterglue,
    "aliked-n16.pth": _kornia(lambda kornia: kornia.ALIKED("aliked-n16"), None),
    "depth-save.pth": _kornia(lambda kornia: kornia.DISK(), "extractor"),
    "HardNet++.pth": _kornia(lambda kornia: kornia.HardNet(pretrained=False)),
    "AffNet.pth": _kornia(lambda kornia: kornia.LAFAffNetShapeEstimator(pretrained=False)),
    "keynet_pytorch.pth": _kornia(lambda kornia: kornia.KeyNet(pretrained=False)),
    "dinov2-base": _hugging_face,
}
