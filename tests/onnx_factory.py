"""Small ONNX networks with random weights, for tests: a convolution of stride 8, and what makes vectors or tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDE = 8


def write_network(
    path: Path, *, channels: int = 16, output: str = "maps", side: int | None = None, seed: int = 0, fill: float = 0.0
) -> Path:
    """Write a network with `output` maps, vectors or tokens (class token first); `fill` is added to its weights."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(channels, 3, STRIDE, STRIDE)).astype(np.float32) / STRIDE + np.float32(fill)
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], kernel_shape=[STRIDE] * 2, strides=[STRIDE] * 2),
        helper.make_node("Relu", ["c"], ["maps"]),
    ]
    constants = [numpy_helper.from_array(weights, "w")]
    if output == "vectors":
        nodes += [
            helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["vectors"]),
        ]
    if output == "tokens":
        constants.append(numpy_helper.from_array(np.array([0, 0, -1], np.int64), "shape"))
        constants.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
        nodes += [
            helper.make_node("Reshape", ["maps", "shape"], ["flat"]),
            helper.make_node("Transpose", ["flat"], ["patches"], perm=[0, 2, 1]),
            helper.make_node("ReduceMean", ["patches", "axis"], ["class"], keepdims=1),
            helper.make_node("Concat", ["class", "patches"], ["tokens"], axis=1),
        ]
    sides = [side, side] if side else ["h", "w"]
    shape = {"maps": ["n", channels, "a", "b"], "vectors": ["n", channels], "tokens": ["n", "t", channels]}[output]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, *sides])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))
    return path
