"""Checkpoints as DELG-PyTorch writes them, with small networks and random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from resight.features.local.delg import LocalAttention
from resight.features.networks.resnet import ResNet

WIDTH, HIDDEN = 4, 8  # channels of the first layer, and of the attention


def write_delg(path: Path, hidden: int = HIDDEN, width: int = WIDTH) -> str:
    """A ResNet-50 of `width` under the names of pycls, with a global head of 16 dimensions and the attention."""
    torch.manual_seed(0)
    trunk = ResNet("resnet50", "C5", width=width)
    state = {f"globalmodel.{name}": tensor for name, tensor in _pycls(trunk).items()}
    state |= {
        "globalmodel.head.pool.p": torch.tensor([3.0]),
        "globalmodel.head.fc.weight": torch.randn(16, trunk.channels),
        "globalmodel.head.fc.bias": torch.zeros(16),
    }
    state |= {f"localmodel.{name}": tensor for name, tensor in LocalAttention(16 * width, hidden).state_dict().items()}
    torch.save({"model_state": state}, path)
    return str(path)


def _pycls(trunk: ResNet) -> dict[str, Tensor]:
    state = {}
    for name, tensor in trunk.state_dict().items():
        parts = name.split(".")
        if parts[0] in ("conv1", "bn1"):
            state[f"stem.{'conv' if parts[0] == 'conv1' else 'bn'}.{parts[1]}"] = tensor
            continue
        start = f"s{parts[0][-1]}.b{int(parts[1]) + 1}"
        if parts[2] == "downsample":
            state[f"{start}.{'proj' if parts[3] == '0' else 'bn'}.{parts[4]}"] = tensor
        else:
            norm = "_bn" if parts[2].startswith("bn") else ""
            state[f"{start}.f.{'abc'[int(parts[2][-1]) - 1]}{norm}.{parts[3]}"] = tensor
    return state
