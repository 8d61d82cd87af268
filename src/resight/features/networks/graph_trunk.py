"""A convolutional trunk that follows a list of operations: what an ONNX graph becomes in torch, so that it can train.

The list is plain data (`Step`), so that a trained trunk is written as its list in JSON and its weights beside it, and
is read again without the package onnx. Batch normalisation is frozen, as retrieval models are fine-tuned: its
statistics, scale and shift never change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from resight.errors import UsageError
from resight.features.networks.resnet import check_images

PROBE = 128  # pixels of the square blank image that a trunk is asked about its channels and stride with
MOST_STEPS = 10_000
Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One operation: its name in ONNX, the tensors it takes, the one it gives, and its attributes, checked.

    Names of tensors: "image", those of weights (`GraphTrunk.state_dict`), and those that earlier steps give; "" stands
    for an optional one that is absent.
    """

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any] = field(default_factory=dict)


class GraphTrunk(nn.Module):
    """Images (N, 3, H, W) to feature maps (N, `channels`, H / `stride`, W / `stride`), by `steps`.

    `parameters`: tensors that train, `constants`: those that do not, both by name. Raises `UsageError` when an
    operation is unknown, a step takes what no earlier one gives, or the trunk gives something else than maps.
    """

    def __init__(
        self, steps: tuple[Step, ...], parameters: Mapping[str, Tensor], constants: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        _check(steps, {*parameters, *constants})
        self.steps = steps
        for name, tensor in parameters.items():
            self.register_parameter(name, nn.Parameter(tensor))
        for name, tensor in constants.items():
            self.register_buffer(name, tensor)
        self._last = {name: place for place, step in enumerate(steps) for name in step.inputs}
        self.channels, self.stride = self._probe()

    def forward(self, images: Tensor) -> Tensor:
        """Raises `ArrayError` when images are not (N, 3, H, W)."""
        check_images(images, 1)
        values: dict[str, Tensor] = {"image": images}
        for place, step in enumerate(self.steps):
            inputs = [self._value(name, values) for name in step.inputs]
            values[step.output] = OPERATIONS[step.op](step.attributes, *inputs)
            for name in step.inputs:  # without gradients, maps are freed as soon as no later step takes them
                if self._last[name] == place:
                    values.pop(name, None)
        return values[self.steps[-1].output]

    def _value(self, name: str, values: Mapping[str, Tensor]) -> Tensor | None:
        if not name:
            return None
        found: Tensor = values[name] if name in values else getattr(self, name)
        return found

    def _probe(self) -> tuple[int, int]:
        try:
            with torch.no_grad():
                maps = self(torch.zeros(1, 3, PROBE, PROBE))
        except (RuntimeError, TypeError, ValueError, LookupError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"a trunk does not run on an image of {PROBE} x {PROBE} pixels: {reason}") from error
        if maps.ndim != 4 or 0 in maps.shape or not bool(torch.isfinite(maps).all()):
            raise UsageError(f"a trunk gives {tuple(maps.shape)} for one image: finite feature maps are needed")
        return int(maps.shape[1]), round(PROBE / maps.shape[2])


def steps_json(steps: tuple[Step, ...]) -> str:
    """The steps in JSON."""
    return json.dumps([asdict(step) for step in steps])


def steps_of(text: str) -> tuple[Step, ...]:
    """The steps that `steps_json` wrote. Raises `UsageError` for any other text."""
    try:
        rows = [dict(row) for row in json.loads(text)]
        return tuple(Step(str(r["op"]), tuple(map(str, r["inputs"])), str(r["output"]), _plain(r)) for r in rows)
    except (ValueError, TypeError, LookupError) as error:
        raise UsageError(f"the list of a trunk's operations is damaged: {error}") from error


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(row["attributes"])
    for name, value in found.items():
        numbers = value if isinstance(value, list) else [value]
        if not all(isinstance(number, int | float | bool) for number in numbers):
            raise ValueError(f"attribute {name} is {value!r}")
    return found


def _check(steps: tuple[Step, ...], weights: set[str]) -> None:
    if not 1 <= len(steps) <= MOST_STEPS:
        raise UsageError(f"a trunk has {len(steps)} operations: 1 to {MOST_STEPS} can be followed")
    known = {"image", "", *weights}
    for step in steps:
        if step.op not in OPERATIONS:
            raise UsageError(f"a trunk has the operation {step.op}: of those, {', '.join(OPERATIONS)} can be followed")
        missing = [name for name in step.inputs if name not in known]
        if missing:
            raise UsageError(f"a trunk's operation {step.op} takes {missing[0]!r}, which nothing gives")
        known.add(step.output)


def _convolution(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x, padding = _padded(a, x, 0.0)
    down, across = a["strides"]
    if (
        weight.shape[1] == 1
        and (down > 1 or across > 1)
        and x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
    ):
        # In bfloat16, the gradient of a depthwise convolution with a stride takes three times that of one without.
        found = functional.conv2d(x, weight, bias, 1, padding, a["dilations"], a["group"])
        return found[:, :, ::down, ::across].contiguous(memory_format=torch.channels_last)
    return functional.conv2d(x, weight, bias, a["strides"], padding, a["dilations"], a["group"])


def _norm(a: Attributes, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, scale, shift, training=False, eps=a["epsilon"])


def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    x, padding = _padded(a, x, float("-inf"))
    ceil = bool(a["ceil_mode"])
    return functional.max_pool2d(x, a["kernel_shape"], a["strides"], padding, a["dilations"], ceil)


def _average_pool(a: Attributes, x: Tensor) -> Tensor:
    top, left, bottom, right = a["pads"]
    if (top, left) != (bottom, right):
        raise UsageError("a trunk averages over windows with uneven borders, which cannot be followed")
    ceil, borders = bool(a["ceil_mode"]), bool(a["count_include_pad"])
    return functional.avg_pool2d(x, a["kernel_shape"], a["strides"], (top, left), ceil, borders)


def _padded(a: Attributes, x: Tensor, value: float) -> tuple[Tensor, tuple[int, int]]:
    """Maps and what the operation itself pads: torch's pad both sides alike, ONNX's each its own way."""
    top, left, bottom, right = a["pads"]
    if (top, left) == (bottom, right):
        return x, (top, left)
    return functional.pad(x, (left, right, top, bottom), value=value), (0, 0)


def _pad(a: Attributes, x: Tensor) -> Tensor:
    top, left, bottom, right = a["pads"]
    return functional.pad(x, (left, right, top, bottom), value=a["value"])


def _slice(a: Attributes, x: Tensor) -> Tensor:
    taken = [slice(None)] * x.ndim
    for axis, start, end, step in zip(a["axes"], a["starts"], a["ends"], a["steps"], strict=True):
        taken[axis] = slice(start, end, step)
    return x[tuple(taken)]


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "Conv": _convolution,
    "BatchNormalization": _norm,
    "Relu": lambda _, x: functional.relu(x),
    "Clip": lambda a, x: functional.hardtanh(x, a["min"], a["max"]),  # clamp's gradient takes several passes
    "LeakyRelu": lambda a, x: functional.leaky_relu(x, a["alpha"]),
    "Sigmoid": lambda _, x: x.sigmoid(),
    "HardSigmoid": lambda a, x: (a["alpha"] * x + a["beta"]).clamp(0, 1),
    "HardSwish": lambda _, x: functional.hardswish(x),
    "Add": lambda _, x, y: x + y,
    "Sub": lambda _, x, y: x - y,
    "Mul": lambda _, x, y: x * y,
    "Div": lambda _, x, y: x / y,
    "Concat": lambda a, *parts: torch.cat(parts, a["axis"]),
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda _, x: x.mean((2, 3), keepdim=True),
    "Pad": _pad,
    "Slice": _slice,
    "Transpose": lambda a, x: x.permute(a["perm"]),
    "Identity": lambda _, x: x,
}
