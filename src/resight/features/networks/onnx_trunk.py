"""ONNX networks as torch modules that can be trained (extra `train`).

The file is read with the package onnx, the format's own reader: it parses the protobuf message in compiled code with
bounds, and runs nothing. Only files that hold their weights themselves are taken, of at most `LARGEST` bytes. What the
graph computes from constants alone (weights stored in half precision, borders put together from pieces) is computed
once; every other operation must be one of `resight.features.networks.graph_trunk.OPERATIONS`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resight.errors import UsageError
from resight.extras import needed
from resight.features.networks.graph_trunk import OPERATIONS, GraphTrunk, Step
from resight.regular_files import check_regular

LARGEST = 1 << 30  # bytes of a file
MOST_FOLDED = 1 << 22  # numbers in a constant that the graph makes
TRAINED = {"Conv": (1, 2)}  # inputs that are parameters; all other constants stay as they are
Array = NDArray[Any]


def open_onnx_trunk(path: str | os.PathLike[str]) -> GraphTrunk:
    """The trunk of an ONNX file whose first input is images (N, 3, H, W) float32 and whose first output is maps.

    Raises `UsageError` when onnx is missing, the file cannot be read, is too large, is damaged or keeps weights in
    other files, or it has an operation that cannot be followed.
    """
    place = Path(path).expanduser()
    graph = _graph(place)
    try:
        return _trunk(graph, _constants(graph))
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise UsageError(f"{place} is damaged: {error}") from error


def _graph(path: Path) -> Any:
    with needed(f"training {path}"):
        import onnx
        from google.protobuf.message import DecodeError
    try:
        check_regular(path)
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path} has {path.stat().st_size} bytes: ONNX trunks of up to {LARGEST} can be trained")
        graph = onnx.load(os.fspath(path), load_external_data=False).graph
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (DecodeError, ValueError) as error:
        raise UsageError(f"{path} is no ONNX network: {error}") from error
    inputs = [one.name for one in graph.input if one.name not in {tensor.name for tensor in graph.initializer}]
    if not inputs or not graph.output or not graph.node:
        raise UsageError(f"{path} is no ONNX network of images: it has no input, output or operation")
    for node in graph.node:  # the name of the images is the same in every trunk
        for place, name in enumerate(node.input):
            if name == inputs[0]:
                node.input[place] = "image"
    return graph


def _constants(graph: Any) -> dict[str, Array]:
    return {tensor.name: _array(tensor) for tensor in graph.initializer}


def _array(tensor: Any) -> Array:
    from onnx import TensorProto, numpy_helper

    if tensor.data_location == TensorProto.EXTERNAL:
        raise UsageError(f"weight {tensor.name} lies in another file: save the network in one file")
    return np.array(numpy_helper.to_array(tensor))


def _trunk(graph: Any, constants: dict[str, Array]) -> GraphTrunk:
    steps: list[Step] = []
    names: dict[str, str] = {}  # of constants, in torch
    trained: set[str] = set()
    for node in graph.node:
        inputs, attributes = list(node.input), _attributes(node)
        if all(name in constants for name in inputs if name) and node.op_type in FOLDED:
            constants[node.output[0]] = FOLDED[node.op_type](attributes, *(constants.get(name) for name in inputs))
            continue
        if node.op_type not in OPERATIONS:
            raise UsageError(f"operation {node.op_type} cannot be followed: known are {', '.join(OPERATIONS)}")
        known, count = _checked(node.op_type, attributes, [constants.get(name) for name in inputs])
        for place, name in enumerate(inputs[:count]):
            if name in constants:
                names.setdefault(name, f"weight{len(names)}")
                if place in TRAINED.get(node.op_type, ()):
                    trained.add(name)
        taken = tuple(names.get(name, name) for name in inputs[:count])
        steps.append(Step(node.op_type, taken, f"{node.output[0]}", known))
    steps = _needed(steps, graph.output[0].name)
    tensors = {name: _tensor(constants[name]) for name in names}
    return GraphTrunk(
        tuple(steps),
        {names[name]: tensor for name, tensor in tensors.items() if name in trained},
        {names[name]: tensor for name, tensor in tensors.items() if name not in trained},
    )


def _needed(steps: Sequence[Step], output: str) -> list[Step]:
    """The steps that lead to the output, which becomes the last one's."""
    wanted, kept = {output}, []
    for step in reversed(steps):
        if step.output in wanted:
            wanted.update(step.inputs)
            kept.append(step)
    if not kept or kept[0].output != output:
        raise UsageError(f"nothing gives the output {output!r}")
    return kept[::-1]


def _tensor(array: Array) -> Tensor:
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise UsageError(f"a weight of shape {array.shape} is {array.dtype}, or NaN or infinite: it is damaged")
    return torch.from_numpy(np.array(array, np.float32, order="C"))


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import AttributeProto, helper

    found = {}
    for one in node.attribute:
        is_tensor = one.type == AttributeProto.TENSOR
        found[one.name] = _array(one.t) if is_tensor else helper.get_attribute_value(one)
    return found


def _checked(op: str, found: Mapping[str, Any], constants: Sequence[Array | None]) -> tuple[dict[str, Any], int]:
    """What torch needs to know of an operation, and how many of its inputs are tensors: bounds become attributes."""
    if op in ("Conv", "MaxPool", "AveragePool"):
        return _window(op, found, constants), 3 if op == "Conv" else 1
    if op == "Clip":
        low, high = ([*constants, None, None])[1:3]
        bounds = (found.get("min", -math.inf), found.get("max", math.inf))
        given = [_number(array, other) for array, other in zip((low, high), bounds, strict=True)]
        return {"min": max(given[0], -3.4e38), "max": min(given[1], 3.4e38)}, 1
    if op == "Pad":
        return _border(found, constants), 1
    if op == "Slice":
        return _range(constants), 1
    defaults: dict[str, dict[str, Any]] = {
        "BatchNormalization": {"epsilon": 1e-5},
        "LeakyRelu": {"alpha": 0.01},
        "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
        "Transpose": {"perm": [3, 2, 1, 0]},
        "Concat": {"axis": 1},
    }
    return {name: found.get(name, value) for name, value in defaults.get(op, {}).items()}, len(constants)


def _window(op: str, found: Mapping[str, Any], constants: Sequence[Array | None]) -> dict[str, Any]:
    weight = constants[1] if op == "Conv" else None
    kernel = list(found.get("kernel_shape", () if weight is None else weight.shape[2:]))
    auto = found.get("auto_pad", b"NOTSET")
    if len(kernel) != 2 or auto not in (b"NOTSET", b"VALID"):
        raise UsageError(f"{op} has a window of {kernel} and auto_pad {auto!r}: give two sides, and explicit pads")
    made = {"strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1]}
    made = {name: list(found.get(name, default)) for name, default in made.items()}
    if op == "Conv":
        return {**made, "group": int(found.get("group", 1))}
    flags = {name: int(found.get(name, 0)) for name in ("ceil_mode", "count_include_pad")}
    return {**made, **flags, "kernel_shape": kernel}


def _border(found: Mapping[str, Any], constants: Sequence[Array | None]) -> dict[str, Any]:
    pads = found.get("pads") if len(constants) < 2 else constants[1]
    if found.get("mode", b"constant") != b"constant" or pads is None or len(pads) != 8:
        raise UsageError("Pad must add a constant border of fixed width to maps")
    sides = [int(side) for side in pads]
    if any(sides[place] for place in (0, 1, 4, 5)):
        raise UsageError(f"Pad adds images or channels: {sides}")
    value = constants[2] if len(constants) > 2 else None
    return {"pads": [sides[2], sides[3], sides[6], sides[7]], "value": _number(value, found.get("value", 0.0))}


def _range(constants: Sequence[Array | None]) -> dict[str, Any]:
    if len(constants) < 3 or any(array is None for array in constants[1:]):
        raise UsageError("Slice takes its range from the image: only constant ones can be followed")
    starts, ends, *rest = ([int(one) for one in array] for array in constants[1:] if array is not None)
    axes = rest[0] if rest else list(range(len(starts)))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    if min(steps, default=1) < 1:
        raise UsageError("Slice turns maps around, which cannot be followed")
    return {"starts": starts, "ends": ends, "axes": axes, "steps": steps}


def _number(array: Array | None, default: float) -> float:
    return float(default if array is None else array.ravel()[0])


def _filled(a: Mapping[str, Any], shape: Array) -> Array:
    value = a.get("value", np.zeros(1, np.float32))
    sides = tuple(int(side) for side in shape)
    if min(sides, default=0) < 0 or math.prod(sides) > MOST_FOLDED:
        raise UsageError(f"a constant of shape {sides} is to be made: it is damaged")
    return np.full(sides, value.ravel()[0], value.dtype)


def _cut(_: Mapping[str, Any], x: Array, starts: Array, ends: Array, axes: Array, steps: Array | None = None) -> Array:
    taken = [slice(None)] * x.ndim
    strides = np.ones(len(starts), np.int64) if steps is None else steps
    for axis, start, end, step in zip(axes, starts, ends, strides, strict=True):
        stop = int(end) if int(step) > 0 or int(end) >= -x.shape[int(axis)] else None
        taken[int(axis)] = slice(int(start), stop, int(step))
    return x[tuple(taken)]


def _cast(a: Mapping[str, Any], x: Array) -> Array:
    from onnx import helper

    return x.astype(helper.tensor_dtype_to_np_dtype(a["to"]))


FOLDED: Mapping[str, Callable[..., Array]] = {
    "Constant": lambda a: a["value"] if "value" in a else np.array(a.get("value_float", a.get("value_int"))),
    "Cast": _cast,
    "Identity": lambda _, x: x,
    "ConstantOfShape": _filled,
    "Concat": lambda a, *parts: np.concatenate(parts, a["axis"]),
    "Reshape": lambda _, x, shape: x.reshape([int(side) for side in shape]),
    "Slice": _cut,
    "Transpose": lambda a, x: x.transpose(a.get("perm")),
    "Unsqueeze": lambda a, x, axes=None: np.expand_dims(
        x, tuple(int(i) for i in (a["axes"] if axes is None else axes))
    ),
    "Squeeze": lambda a, x, axes=None: np.squeeze(x, tuple(int(i) for i in (a["axes"] if axes is None else axes))),
}
