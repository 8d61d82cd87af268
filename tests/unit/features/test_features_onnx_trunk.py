"""ONNX networks as torch modules: they compute what onnxruntime computes, and refuse what they cannot follow."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from onnx_factory import write_network
from resight.errors import UsageError
from resight.features.networks.graph_trunk import GraphTrunk, Step, steps_json, steps_of
from resight.features.networks.onnx_trunk import open_onnx_trunk

RNG = np.random.default_rng(5)


def weight(*shape, name="w", dtype=np.float32):
    return numpy_helper.from_array((RNG.normal(size=shape) / 4).astype(dtype), name)


def ints(name, *values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def numbers(name, *values):
    return numpy_helper.from_array(np.array(values, np.float32).reshape(() if len(values) == 1 else -1), name)


def write(path, nodes, constants, output="out", opset=17):
    image = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, "h", "w"])
    maps = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "network", [image], [maps], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), str(path))
    return path


NODE = helper.make_node
START = NODE("Conv", ["pixels", "w"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
NETWORKS = {
    "grouped and dilated": (
        [START, NODE("Conv", ["a", "v", "b"], ["out"], strides=[2, 1], pads=[0, 1, 2, 3], dilations=[2, 1], group=2)],
        [weight(4, 3, 3, 3), weight(6, 2, 3, 3, name="v"), weight(6, name="b")],
    ),
    "batch normalisation": (
        [
            START,
            NODE("BatchNormalization", ["a", "s", "t", "m", "u"], ["b"], epsilon=1e-3),
            NODE("Relu", ["b"], ["out"]),
        ],
        [weight(4, 3, 3, 3), weight(4, name="s"), weight(4, name="t"), weight(4, name="m"), numbers("u", 1, 2, 3, 4)],
    ),
    "bounds of ReLU6": (
        [START, NODE("Clip", ["a", "low", "high"], ["out"])],
        [weight(4, 3, 3, 3), numbers("low", 0.0), numbers("high", 0.4)],
    ),
    "one bound": ([START, NODE("Clip", ["a", "", "high"], ["out"])], [weight(4, 3, 3, 3), numbers("high", 0.1)]),
    "pooling": (
        [
            START,
            NODE("MaxPool", ["a"], ["m"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1], ceil_mode=1),
            NODE("AveragePool", ["m"], ["out"], kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=0),
        ],
        [weight(4, 3, 3, 3)],
    ),
    "squeeze and excitation": (
        [
            START,
            NODE("GlobalAveragePool", ["a"], ["g"]),
            NODE("HardSigmoid", ["g"], ["e"], alpha=0.3),
            NODE("Mul", ["a", "e"], ["f"]),
            NODE("Add", ["f", "a"], ["h"]),
            NODE("Concat", ["h", "f"], ["i"], axis=1),
            NODE("HardSwish", ["i"], ["out"]),
        ],
        [weight(4, 3, 3, 3)],
    ),
    "border and part": (
        [
            START,
            NODE("Pad", ["a", "sides", "value"], ["p"]),
            NODE("Slice", ["p", "from", "to", "axes", "by"], ["out"]),
        ],
        [weight(4, 3, 3, 3), ints("sides", 0, 0, 1, 2, 0, 0, 0, 3), numbers("value", 0.5),
         ints("from", 0, 1), ints("to", 2**31, -1), ints("axes", 2, 3), ints("by", 2, 2)],
    ),
    "channels last": (
        [
            NODE("Transpose", ["pixels"], ["last"], perm=[0, 2, 3, 1]),
            NODE("Mul", ["last", "scale"], ["scaled"]),
            NODE("Transpose", ["scaled"], ["first"], perm=[0, 3, 1, 2]),
            NODE("Conv", ["first", "w"], ["a"]),
            NODE("Sub", ["a", "one"], ["b"]),
            NODE("LeakyRelu", ["b"], ["out"], alpha=0.2),
        ],
        [weight(4, 3, 3, 3), numbers("scale", 1, 2, 3), numbers("one", 1.0)],
    ),
    "constants that are computed": (
        [
            NODE("Cast", ["half"], ["w"], to=1),
            START,
            NODE("Constant", [], ["two"], value=ints("", 2)),
            NODE("ConstantOfShape", ["two"], ["zeros"], value=ints("", 0)),
            NODE("Concat", ["zeros", "zeros", "zeros", "some"], ["sides"], axis=0),
            NODE("Pad", ["a", "sides"], ["out"]),
        ],
        [weight(4, 3, 3, 3, name="half", dtype=np.float16), ints("some", 1, 2)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_operations_are_those_of_onnxruntime(tmp_path, name):
    path = write(tmp_path / "n.onnx", *NETWORKS[name])
    images = RNG.normal(size=(2, 3, 21, 26)).astype(np.float32)
    expected = onnxruntime.InferenceSession(str(path)).run(None, {"pixels": images})[0]
    trunk = open_onnx_trunk(path)
    again = GraphTrunk(steps_of(steps_json(trunk.steps)), dict(trunk.named_parameters()), dict(trunk.named_buffers()))
    for one in (trunk, again):
        found = one(torch.from_numpy(images)).detach().numpy()
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_convolutions_train_and_norms_do_not(tmp_path):
    trunk = open_onnx_trunk(write(tmp_path / "n.onnx", *NETWORKS["batch normalisation"])).train()
    images = torch.from_numpy(RNG.normal(size=(2, 3, 21, 26)).astype(np.float32))
    before = {name: tensor.clone() for name, tensor in trunk.named_buffers()}
    trunk(images).square().mean().backward()
    assert [tuple(p.shape) for p in trunk.parameters()] == [(4, 3, 3, 3)]
    assert float(next(trunk.parameters()).grad.abs().sum()) > 0
    assert len(before) == 4
    assert all(torch.equal(tensor, before[name]) for name, tensor in trunk.named_buffers())


def test_channels_and_stride_are_found(tmp_path):
    trunk = open_onnx_trunk(write_network(tmp_path / "n.onnx", channels=12))
    assert (trunk.channels, trunk.stride) == (12, 8)


def test_what_does_not_lead_to_the_output_is_left_out(tmp_path):
    path = write(tmp_path / "n.onnx", [START, NODE("Relu", ["a"], ["out"]), NODE("Sigmoid", ["a"], ["other"])],
                 [weight(4, 3, 3, 3)])  # fmt: skip
    assert [step.op for step in open_onnx_trunk(path).steps] == ["Conv", "Relu"]


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([START, NODE("Softmax", ["a"], ["out"])], "operation Softmax cannot be followed"),
        ([START, NODE("Relu", ["a"], ["b"])], "nothing gives the output 'out'"),
        ([START, NODE("Relu", ["nowhere"], ["out"])], "takes 'nowhere'"),
        ([NODE("Conv", ["pixels", "w"], ["out"], auto_pad="SAME_UPPER")], "SAME_UPPER"),
        ([NODE("Concat", ["pixels", "w"], ["out"], axis=1)], "does not run"),
        ([START, NODE("GlobalAveragePool", ["a"], ["b"]), NODE("Div", ["b", "zero"], ["out"])], "finite"),
    ],
)
def test_networks_that_cannot_be_followed_are_refused(tmp_path, nodes, said):
    path = write(tmp_path / "n.onnx", nodes, [weight(4, 3, 3, 3), numbers("zero", 0.0)])
    with pytest.raises(UsageError, match=said) as error:
        open_onnx_trunk(path)
    assert str(path) in str(error.value)


def test_files_that_are_no_networks_are_refused(tmp_path):
    bad = tmp_path / "bad.onnx"
    for content in (b"", b"\xff" * 50, b"PK\x03\x04 no network"):
        bad.write_bytes(content)
        with pytest.raises(UsageError, match=r"is no ONNX network"):
            open_onnx_trunk(bad)
    with pytest.raises(UsageError, match="cannot be read"):
        open_onnx_trunk(tmp_path / "none.onnx")


def test_weights_in_other_files_are_refused(tmp_path):
    model = onnx.load(write(tmp_path / "n.onnx", *NETWORKS["pooling"]))
    onnx.save(model, str(tmp_path / "e.onnx"), save_as_external_data=True, size_threshold=0, location="weights.bin")
    with pytest.raises(UsageError, match="lies in another file"):
        open_onnx_trunk(tmp_path / "e.onnx")


def test_constants_of_any_size_are_not_made(tmp_path):
    nodes = [START, NODE("ConstantOfShape", ["huge"], ["b"]), NODE("Add", ["a", "b"], ["out"])]
    with pytest.raises(UsageError, match="damaged"):
        open_onnx_trunk(write(tmp_path / "n.onnx", nodes, [weight(4, 3, 3, 3), ints("huge", 2**20, 2**20)]))


def test_damaged_weights_are_refused(tmp_path):
    spoilt = numpy_helper.from_array(np.full((4, 3, 3, 3), np.nan, np.float32), "w")
    with pytest.raises(UsageError, match="NaN"):
        open_onnx_trunk(write(tmp_path / "n.onnx", [START, NODE("Relu", ["a"], ["out"])], [spoilt]))


@pytest.mark.parametrize("text", ["", "[]", "[1]", '[{"op": "Relu"}]', '[{"op": "Clip", "inputs": ["image"], '
                                  '"output": "x", "attributes": {"min": "a"}}]'])  # fmt: skip
def test_damaged_lists_of_operations_are_refused(text):
    with pytest.raises(UsageError, match="operation"):
        GraphTrunk(steps_of(text), {}, {})


def test_a_list_may_miss_an_attribute():
    with pytest.raises(UsageError, match="does not run"):
        GraphTrunk((Step("Clip", ("image",), "x"),), {}, {})


@pytest.mark.parametrize("size", [(17, 22), (16, 21)])
def test_depthwise_strides_in_half_precision_are_every_other_cell(tmp_path, size):
    """In bfloat16 they are computed without the stride, which is faster: the same cells, and the same gradient."""
    nodes = [START, NODE("Conv", ["a", "v", "b"], ["out"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2],
                         group=8)]  # fmt: skip
    constants = [weight(8, 3, 3, 3), weight(8, 1, 3, 3, name="v"), weight(8, name="b")]
    trunk = open_onnx_trunk(write(tmp_path / "n.onnx", nodes, constants))
    image = torch.from_numpy(RNG.normal(size=(2, 3, *size)).astype(np.float32))
    found = []
    for halved in (False, True):
        trunk.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=halved):
            maps = trunk(image)
        maps.float().square().mean().backward()
        found.append((maps.detach().float(), *(p.grad.clone() for p in trunk.parameters())))
    assert found[0][0].shape == found[1][0].shape
    for whole, half in zip(*found, strict=True):
        assert float((whole - half).norm() / whole.norm()) < 0.02
