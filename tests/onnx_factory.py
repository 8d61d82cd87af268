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


def write_xfeat(
    path: Path, points: np.ndarray, *, side: tuple[int, int] | None = None, last: str = "scores", dim: int = 64
) -> Path:
    """Write a network that finds the same `points` (n, 2) in every photo, with the outputs of XFeat: descriptors are
    rows of a random matrix, scores fall; `side`: height and width that it takes, None for any.
    """
    rng = np.random.default_rng(0)
    known = {
        "k": points.astype(np.float32),
        "d": rng.normal(size=(len(points), dim)).astype(np.float32),
        "s": np.linspace(0.9, 0.1, len(points), dtype=np.float32),
    }
    outputs = {"keypoints": ("k", [None, 2]), "descriptors": ("d", [None, dim]), last: ("s", [None])}
    graph = helper.make_graph(
        [helper.make_node("Identity", [constant], [name]) for name, (constant, _) in outputs.items()],
        "xfeat",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *(side or ("h", "w"))])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, (_, shape) in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in known.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path


def write_lighterglue(path: Path, pairs: np.ndarray, scores: np.ndarray, dim: int = 64) -> Path:
    """Write a network that matches `pairs` (m, 2) with `scores` (m,) in whatever photos it is given."""
    inputs = {"kpts0": 2, "kpts1": 2, "desc0": dim, "desc1": dim}
    graph = helper.make_graph(
        [helper.make_node("Identity", [short], [name]) for short, name in (("p", "matches"), ("s", "scores"))],
        "lighterglue",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, f"n{name}", n]) for name, n in inputs.items()],
        [
            helper.make_tensor_value_info("matches", TensorProto.INT64, [None, 2]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None]),
        ],
        [
            numpy_helper.from_array(pairs.astype(np.int64), "p"),
            numpy_helper.from_array(scores.astype(np.float32), "s"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path
