"""Networks of local features from weight files: read as data, compared with the network, never downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from resight.errors import UsageError
from resight.extras import needed
from resight.features.checkpoints.checkpoint import COUNTER, some
from resight.features.checkpoints.files import read_file, state_of
from resight.features.fingerprint import file_sha256
from resight.features.networks.device import torch_device

Module = TypeVar("Module", bound=nn.Module)


def kornia_features() -> ModuleType:
    """`kornia.feature`. Raises `MissingExtra` where kornia is not installed."""
    with needed("these local features"):
        import kornia.feature
    module: ModuleType = kornia.feature
    return module


def read_state(path: str, what: str, inside: str = "") -> tuple[dict[str, Tensor], str]:
    """The weights in a file by name, those in its entry `inside` where it has one, and the SHA-256 of the file.

    `what`: the network, for errors.

    Raises `UsageError` when no file is named, or it cannot be read (`resight.features.checkpoints.files`).
    """
    if not path:
        raise UsageError(f"{what} is a trained network: give the file of its weights")
    place = Path(path).expanduser()
    content: dict[str, Any] = read_file(place)
    part = content.get(inside)
    return state_of(place, part if isinstance(part, dict) else content), file_sha256(place)


def fill(
    make: Callable[[], Module], path: str, state: Mapping[str, Tensor], what: str, own: str = ""
) -> tuple[Module, str]:
    """The network of `make` with the weights of the file `path`, in evaluation mode, and the torch device that it
    is on: the chosen one.

    `own`: a buffer that the network computes itself and files may lack. Raises `UsageError` when the file holds another
    network.
    """
    module = make()
    expected = module.state_dict()
    missing = [name for name in expected if name not in state and name != own and not name.endswith(COUNTER)]
    strange = [name for name in state if name not in expected]
    if missing or strange:
        reason = f"it lacks {some(missing)}" if missing else f"it also has {some(strange)}"
        raise UsageError(f"{path} holds no weights of {what}: {reason}")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            got, wanted = tuple(tensor.shape), tuple(expected[name].shape)
            raise UsageError(f"{path} holds no weights of {what}: {name} has shape {got}, expected {wanted}")
    module.load_state_dict(dict(state), strict=False)
    device = torch_device(None, torch.cuda.is_available)
    return module.eval().requires_grad_(False).to(device), device
