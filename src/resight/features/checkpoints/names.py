"""How the published programs name the layers of a ResNet, in torchvision's names."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor

SEQUENCE = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
SOLAR = {"conv1.0": "conv1", "conv1.1": "bn1", "conv2_x.2": "layer1",
         "conv3_x": "layer2", "conv4_x": "layer3", "conv5_x": "layer4"}  # fmt: skip
PYCLS = re.compile(r"s([1-4])\.b(\d+)\.(proj|bn|f\.([abc])(_bn)?)\.(.+)")


def take(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Remove the weights whose name starts with `prefix` from `state`; gives them without it."""
    names = [name for name in state if name.startswith(prefix)]
    return {name[len(prefix) :]: state.pop(name) for name in names}


def renamed(state: dict[str, Tensor], rename: Callable[[str], str | None]) -> tuple[dict[str, Tensor], list[str]]:
    """`state` under other names, and the names that `rename` does not know."""
    known, unknown = {}, []
    for name, tensor in state.items():
        new = rename(name)
        if new is None:
            unknown.append(name)
        else:
            known[new] = tensor
    return known, unknown


def of_sequence(name: str) -> str | None:
    """Name of a layer of `nn.Sequential(*resnet.children())`: "4.0.conv1.weight" is "layer1.0.conv1.weight"."""
    place, _, rest = name.partition(".")
    return f"{SEQUENCE[place]}.{rest}" if place in SEQUENCE else None


def of_solar(name: str) -> str | None:
    """Name of a layer of SOLAR's ResNet: "conv2_x.2.0.bn1.bias" is "layer1.0.bn1.bias"."""
    for start, new in SOLAR.items():
        if name.startswith(f"{start}."):
            return new + name[len(start) :]
    return None


def of_pycls(name: str) -> str | None:
    """Name of a layer of pycls: "s1.b1.f.a_bn.bias" is "layer1.0.bn1.bias"."""
    if name.startswith("stem."):
        _, layer, rest = name.split(".", 2)
        return {"conv": f"conv1.{rest}", "bn": f"bn1.{rest}"}.get(layer)
    found = PYCLS.fullmatch(name)
    if found is None:
        return None
    stage, block, layer, letter, norm, rest = found.groups()
    if letter is None:
        inner = "downsample.0" if layer == "proj" else "downsample.1"
    else:
        inner = f"{'bn' if norm else 'conv'}{'abc'.index(letter) + 1}"
    return f"layer{stage}.{int(block) - 1}.{inner}.{rest}"
