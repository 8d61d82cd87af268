"""Files of networks that were trained here: read as any checkpoint, refused when they are damaged."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from onnx_factory import write_network
from resight.errors import UsageError
from resight.features.checkpoints import build_trunk, load_descriptor, read_checkpoint
from resight.features.checkpoints.trained import DESCRIPTION, FORMAT
from resight.training.networks import GlobalNetwork, open_start
from resight.training.output import write_network as write_trained
from resight.training.recipes import RECIPES


@pytest.fixture
def written(tmp_path):
    start = open_start(write_network(tmp_path / "net.onnx", channels=12), None)
    torch.manual_seed(0)
    network = GlobalNetwork(start.trunk, p=2.5, dim=6)
    with torch.no_grad():
        network.linear.weight.normal_()
        network.linear.bias.normal_()
    (path,) = write_trained(tmp_path / "n.safetensors", network, RECIPES["gem"], start, {"seed": 3})
    return path, network


def change(path, description=None, tensors=None):
    kept = load_file(path)
    told = json.loads(metadata(path)[DESCRIPTION])
    save_file(
        {**kept, **(tensors or {})}, path, {"format": FORMAT, DESCRIPTION: json.dumps({**told, **(description or {})})}
    )


def metadata(path):
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return file.metadata()


def test_everything_is_read_again(written):
    path, network = written
    found = read_checkpoint(path)
    assert (found.layout, found.pooling, float(found.p[0]), found.unknown) == ("cirtorch", "gem", 2.5, ())
    images = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        assert torch.equal(build_trunk(found)(images), network.trunk(images))
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    assert load_descriptor(path).describe([pixels])[0].shape == (6,)


def test_what_the_file_says_about_itself(written):
    told = json.loads(metadata(written[0])[DESCRIPTION])
    assert told["recipe"] == "gem"
    assert told["training"] == {"seed": 3}


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ({"layout": "none"}, "its layout is none of"),
        ({"steps": "[]"}, "has 0 operations"),
        ({"steps": "{"}, "is damaged"),
        (
            {"steps": json.dumps([{"op": "Exec", "inputs": ["image"], "output": "x", "attributes": {}}])},
            "operation Exec",
        ),
        ({"steps": json.dumps([{"op": "Relu", "inputs": ["gone"], "output": "x", "attributes": {}}])}, "'gone'"),
        ({"mean": "red"}, "mean"),
        ({"pooling": "sum"}, "pooling"),
    ],
)
def test_damaged_descriptions_are_refused(written, description, said):
    path = written[0]
    change(path, description)
    with pytest.raises(UsageError, match=said) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)


def test_damaged_weights_are_refused(written):
    path = written[0]
    change(path, tensors={"trunk/weight0": np.zeros((12, 3, 0, 8), np.float32)})
    with pytest.raises(UsageError, match="does not run"):
        read_checkpoint(path)
    change(path, tensors={"trunk/weight0": np.full((12, 3, 8, 8), np.nan, np.float32)})
    with pytest.raises(UsageError, match="NaN"):
        read_checkpoint(path)


def test_a_file_without_a_description_is_refused(written):
    path = written[0]
    save_file(load_file(path), path, {"format": FORMAT})
    with pytest.raises(UsageError, match="no JSON"):
        read_checkpoint(path)


def test_unknown_weights_are_listed(written):
    path = written[0]
    change(path, tensors={"colour": np.ones(2, np.float32)})
    assert read_checkpoint(path).unknown == ("colour",)
