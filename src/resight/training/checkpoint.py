"""Unfinished trainings on disk, as safetensors: all that is needed to go on as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resight.errors import CollectionError, UsageError
from resight.store.tensor_file import read_tensors, write_tensors

FORMAT = "resight-training-2"


@dataclass(frozen=True)
class Checkpoint:
    """The file `path`, written `every` so many epochs, and within an epoch as soon as the last time is `minutes` ago;
    `key` tells its training from others, by data and settings. `writes`: of several processes that train one network,
    one writes."""

    path: Path
    key: str
    every: int = 1
    minutes: float | None = None
    writes: bool = True

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
    checkpoint: Checkpoint,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    parts: Mapping[str, Mapping[str, Tensor]],
    story: str,
) -> None:
    """Write the state of network, optimiser and torch's generators, further tensors in named `parts`, among them the
    weights "kept" so far, and a `story` in JSON.

    Raises `CollectionError` when the disk refuses; the file of before then stays.
    """
    if not checkpoint.writes:
        return
    tensors = {f"now/{name}": tensor for name, tensor in module.state_dict().items()}
    for part, state in parts.items():
        tensors |= {f"{part}/{name}": tensor for name, tensor in state.items()}
    for parameter, held in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{parameter}/{name}": value for name, value in held.items() if value is not None}
    tensors |= {f"generator/{name}": state for name, state in _generators().items()}
    arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}
    write_tensors(checkpoint.path, FORMAT, arrays, {"key": checkpoint.key, "story": story})


def read_checkpoint(
    checkpoint: Checkpoint, module: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[dict[str, dict[str, Tensor]], Any]:
    """Put network, optimiser and torch's generators back where they were; the further parts, and the story.

    Raises `UsageError` when it is of another training, `CollectionError` when it is missing or damaged.
    """

    def build(arrays: dict[str, Any], metadata: dict[str, str]) -> tuple[dict[str, dict[str, Tensor]], Any] | None:
        if metadata["key"] != checkpoint.key:
            return None
        parts: dict[str, dict[str, Tensor]] = {"kept": {}}
        for name, array in arrays.items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = torch.from_numpy(array)
        now = {name: parts["now"][name] for name in module.state_dict()}
        parts["kept"] = {name: parts["kept"][name] for name in module.state_dict()}
        try:
            module.load_state_dict(now)
            optimiser.load_state_dict({**optimiser.state_dict(), "state": _by_parameter(parts.get("optimiser", {}))})
            _set_generators(parts["generator"])
        except RuntimeError as error:  # other shapes
            raise ValueError(str(error)) from error
        return parts, json.loads(metadata["story"])

    found = read_tensors(checkpoint.path, FORMAT, build)
    if found is None:
        raise UsageError(
            f"{checkpoint.path} is of a training with other data or settings: name another file, or delete it"
        )
    return found


def _generators() -> dict[str, Tensor]:
    """The states of torch's generators: of the processor, and of every GPU."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda{place}": state for place, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _set_generators(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    for place in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda{place}" in states:  # a training may be continued on another machine
            torch.cuda.set_rng_state(states[f"cuda{place}"], place)


def _by_parameter(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """What an optimiser holds of each parameter, by its number."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parameter, _, what = name.partition("/")
        state.setdefault(int(parameter), {})[what] = tensor
    return state
