"""Unfinished trainings on disk, as safetensors: all that is needed to go on as if nothing had happened."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resight.errors import CollectionError, UsageError
from resight.store.tensor_file import read_tensors, write_tensors

FORMAT = "resight-training-1"


@dataclass(frozen=True)
class Checkpoint:
    """The file `path`, written `every` so many epochs; `key` tells its training from others, by data and settings."""

    path: Path
    key: str
    every: int = 1

    def fits(self) -> bool:
        """Whether the file holds this training, so that it can go on; a damaged or missing one does not."""
        try:
            return read_tensors(self.path, FORMAT, lambda _, metadata: metadata["key"] == self.key)
        except CollectionError:
            return False


def copied(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def write_checkpoint(
    checkpoint: Checkpoint, module: nn.Module, optimiser: torch.optim.Optimizer, kept: dict[str, Tensor], story: str
) -> None:
    """Write the state of network, optimiser and torch's generator, the weights `kept` so far, and a `story` in JSON.

    Raises `CollectionError` when the disk refuses.
    """
    tensors = {f"now/{name}": tensor for name, tensor in module.state_dict().items()}
    tensors |= {f"kept/{name}": tensor for name, tensor in kept.items()}
    for parameter, held in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{parameter}/{name}": value for name, value in held.items() if value is not None}
    tensors["generator"] = torch.get_rng_state()
    arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}
    write_tensors(checkpoint.path, FORMAT, arrays, {"key": checkpoint.key, "story": story})


def read_checkpoint(
    checkpoint: Checkpoint, module: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], Any]:
    """Put network, optimiser and torch's generator back where they were; the weights kept, and the story.

    Raises `UsageError` when it is of another training, `CollectionError` when it is missing or damaged.
    """

    def build(arrays: dict[str, Any], metadata: dict[str, str]) -> tuple[dict[str, Tensor], Any] | None:
        if metadata["key"] != checkpoint.key:
            return None
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        now, kept = ({name: tensors[f"{part}/{name}"] for name in module.state_dict()} for part in ("now", "kept"))
        try:
            module.load_state_dict(now)
            optimiser.load_state_dict({**optimiser.state_dict(), "state": _by_parameter(tensors)})
            torch.set_rng_state(tensors["generator"])
        except RuntimeError as error:  # other shapes
            raise ValueError(str(error)) from error
        return kept, json.loads(metadata["story"])

    found = read_tensors(checkpoint.path, FORMAT, build)
    if found is None:
        raise UsageError(
            f"{checkpoint.path} is of a training with other data or settings: name another file, or delete it"
        )
    return found


def _by_parameter(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """What an optimiser holds of each parameter, by its number."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "optimiser":
            parameter, _, what = rest.partition("/")
            state.setdefault(int(parameter), {})[what] = tensor
    return state
