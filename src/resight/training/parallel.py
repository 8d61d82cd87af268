"""Several processes, each with its part of a batch, as torchrun starts them: `torch.distributed`, gloo or NCCL.

Gradients of the parts are added up before each step, so the step is that of one process with the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed as distributed
from torch import nn

from resight.types import Float32


@contextmanager
def processes(device: str) -> Iterator[torch.device]:
    """Join the processes that torchrun has started, if it has; the device of this one. A GPU each, where `device` is
    cuda. They part at the end."""
    if "LOCAL_RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield torch.device(device)
        return
    place = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" else device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield place
    finally:
        distributed.destroy_process_group()


def together() -> bool:
    """Whether there are other processes."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Number of this process; 0 writes files and speaks."""
    return distributed.get_rank() if together() else 0


def size() -> int:
    """Number of processes."""
    return distributed.get_world_size() if together() else 1


def add_up(module: nn.Module, value: float) -> float:
    """Add the gradients of all processes, in place, and give the sum of their `value`s."""
    if not together():
        return value
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:  # a process may have had nothing to do
            parameter.grad = torch.zeros_like(parameter)
    device = trained[0].device
    flat = torch.cat([parameter.grad.flatten() for parameter in trained if parameter.grad is not None])
    distributed.all_reduce(flat)
    start = 0
    for parameter in trained:
        assert parameter.grad is not None
        parameter.grad.copy_(flat[start : start + parameter.numel()].view_as(parameter))
        start += parameter.numel()
    total = torch.tensor([value], dtype=torch.float64, device="cpu" if device.type == "cpu" else device)
    distributed.all_reduce(total)
    return float(total)


def gathered(rows: Float32, count: int) -> Float32:
    """The rows of all processes in one array (count, D): process r of n has those of places r, r + n, ..."""
    if not together():
        return rows
    parts: list[Float32 | None] = [None] * size()
    distributed.all_gather_object(parts, rows)
    whole = np.empty((count, rows.shape[1]), np.float32)
    for place, part in enumerate(parts):
        assert part is not None
        whole[place :: size()] = part
    return whole


def outermost() -> bool:
    """Whether this process speaks and writes for all: torchrun's first, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0
