from __future__ import annotations

import json

import numpy as np
import pytest

from onnx_factory import STRIDE, write_network
from resight.errors import UsageError
from resight.features.fingerprint import file_sha256
from resight.features.networks.backbone import IMAGENET_MEAN
from resight.features.networks.open import open_backbone


@pytest.mark.parametrize(
    ("output", "stride", "shape"),
    [("maps", STRIDE, (2, 16, 5, 8)), ("vectors", 0, (2, 16)), ("tokens", 8, (2, 41, 16))],
)
def test_what_a_network_gives_is_found_out(tmp_path, output, stride, shape):
    path = write_network(tmp_path / "net.onnx", output=output)
    network = open_backbone(path)
    assert (network.name, network.output, network.channels, network.stride) == ("net", output, 16, stride)
    assert (network.sha256, network.side, network.mean) == (file_sha256(path), None, IMAGENET_MEAN)
    assert network.prefix == (1 if output == "tokens" else 0)
    assert network.forward(np.ones((2, 3, 40, 64), np.float32)).shape == shape


def test_a_fixed_input_side_is_kept(tmp_path):
    assert open_backbone(write_network(tmp_path / "net.onnx", side=32)).side == 32


def test_batches_give_what_single_images_give(tmp_path):
    network = open_backbone(write_network(tmp_path / "net.onnx"))
    images = np.random.default_rng(0).normal(size=(3, 3, 24, 40)).astype(np.float32)
    alone = np.concatenate([network.forward(images[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(network.forward(images), alone, atol=1e-5)


def test_files_that_are_no_network(tmp_path):
    with pytest.raises(UsageError, match=r"there is no backbone .*none\.onnx"):
        open_backbone(tmp_path / "none.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    with pytest.raises(UsageError, match=r"broken\.onnx cannot be opened"):
        open_backbone(tmp_path / "broken.onnx")
    (tmp_path / "weights.pth").write_bytes(b"")
    with pytest.raises(UsageError, match="--weights"):
        open_backbone(tmp_path / "weights.pth")
    cut = write_network(tmp_path / "cut.onnx")
    cut.write_bytes(cut.read_bytes()[:500])
    with pytest.raises(UsageError, match=r"cut\.onnx cannot be opened"):
        open_backbone(cut)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(UsageError, match="NaN or infinity"):
        open_backbone(write_network(tmp_path / "net.onnx", output="vectors", fill=float("nan")))


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("models") / "small-vit"
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = transformers.Dinov2Model(transformers.Dinov2Config(image_size=28, patch_size=14, **sizes))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    return folder


def test_a_hugging_face_model_gives_tokens_of_any_size(vit):
    network = open_backbone(vit)
    assert (network.name, network.output, network.channels, network.stride) == ("small-vit", "tokens", 16, 14)
    assert (network.prefix, network.side, network.multiple) == (1, None, 14)
    assert (network.mean, network.std) == ((0.5,) * 3, (0.25,) * 3)
    assert network.forward(np.zeros((2, 3, 42, 28), np.float32)).shape == (2, 1 + 3 * 2, 16)


def test_a_model_with_learnt_positions_interpolates_them(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.ViTConfig(image_size=32, patch_size=8, **sizes)
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    network = open_backbone(tmp_path / "vit")
    assert (network.prefix, network.side) == (1, None)
    assert network.forward(np.zeros((1, 3, 48, 32), np.float32)).shape == (1, 1 + 6 * 4, 16)


def test_a_folder_without_a_model(tmp_path, vit):
    with pytest.raises(UsageError, match="holds no vision model"):
        open_backbone(tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text((vit / "config.json").read_text())
    with pytest.raises(UsageError, match="holds no vision model"):
        open_backbone(broken)
