"""HardNet with three detectors, AffNet and OriNet: random weights in files of the authors' formats."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import photo_factory
from resight.errors import UsageError
from resight.features.local.encoders import open_encoder
from resight.features.local.trunk import NotFinite
from resight.types import Encoder

kornia = pytest.importorskip("kornia.feature", reason="extra kornia is not installed")
from resight.features.local import patch_networks  # noqa: E402 - it needs kornia

torch.set_num_threads(1)
KINDS = ("hessian-hardnet", "sift-hardnet", "keynet-hardnet")
MAKE = {
    "weights": lambda: kornia.HardNet(pretrained=False),
    "affine": lambda: kornia.LAFAffNetShapeEstimator(pretrained=False),
    "orientation": lambda: kornia.OriNet(pretrained=False),
    "keynet": lambda: kornia.KeyNet(pretrained=False),
}


def picture(seed):
    return photo_factory.picture(seed, 120, 160)


def state_of(name):
    torch.manual_seed(1)
    return {key: value for key, value in MAKE[name]().state_dict().items() if not key.endswith("num_batches_tracked")}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name in MAKE:
        torch.save({"epoch": 1, "state_dict": state_of(name)}, folder / f"{name}.pth")
    return {name: str(folder / f"{name}.pth") for name in MAKE}


def options(files, kind, *names):
    wanted = {"weights", *names, *(["keynet"] if kind == "keynet-hardnet" else [])}
    return {name: files[name] for name in wanted}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.mark.parametrize("names", [(), ("affine",), ("affine", "orientation")])
def test_features_of_a_picture(files, kind, names):
    encoder, image = open_encoder(kind, **options(files, kind, *names), count=60), picture(1)
    features = encoder(image)
    assert isinstance(encoder, Encoder)
    assert 15 < len(features) <= 60
    assert features.dim == encoder.dim == 128
    assert np.linalg.norm(features.descriptors, axis=1) == pytest.approx(np.ones(len(features)), abs=1e-5)
    assert (features.xy >= 0).all()
    assert (features.xy <= (160, 120)).all()
    assert (features.scale > 0).all()
    assert encoder.traits.oriented
    (again,) = encoder.describe([image])
    np.testing.assert_array_equal(again.descriptors, features.descriptors)


@pytest.mark.parametrize("kind", KINDS[:2])  # Key.Net with random weights does not find the same points
def test_directions_turn_with_the_photo(files, kind):
    """The same points, a quarter turn further, with the same descriptors: what the network sees does not turn."""
    encoder, image = open_encoder(kind, **options(files, kind), count=40, enlarge_below=0), picture(2)
    height = image.shape[0]
    upright, turned = encoder(image), encoder(np.rot90(image, -1).copy())
    expected = np.stack([height - upright.xy[:, 1], upright.xy[:, 0]], axis=1)
    distance = np.abs(expected[:, None] - turned.xy).max(axis=2)
    same = np.flatnonzero(distance.min(axis=1) < 0.05)
    partner = distance.argmin(axis=1)[same]
    assert len(same) > 0.5 * len(upright)
    turn = np.angle(np.exp(1j * (turned.angle[partner] - upright.angle[same] - np.pi / 2)))
    assert np.median(np.abs(turn)) < 0.02
    cosine = (turned.descriptors[partner] * upright.descriptors[same]).sum(axis=1)
    assert np.median(cosine) > 0.99


def test_upright_photos_have_no_angle(files, kind):
    encoder = open_encoder(kind, **options(files, kind), upright=True, count=20)
    assert not encoder(picture(1)).angle.any()
    assert not encoder.traits.oriented
    with pytest.raises(UsageError, match="upright"):
        open_encoder(kind, **options(files, kind, "orientation"), upright=True)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (2, 3), (10, 80), (1, 3000)])
def test_flat_and_tiny_images_have_no_features(files, kind, shape):
    features = open_encoder(kind, **options(files, kind))(np.full((*shape, 3), 120, np.uint8))
    assert (len(features), features.dim) == (0, 128)


def test_fingerprint_follows_every_file(files, kind, tmp_path):
    chosen = options(files, kind, "affine", "orientation")
    prints = {open_encoder(kind, **chosen).fingerprint}
    for name in chosen:
        state = state_of(name)
        first = next(iter(state))
        torch.save({first: state.pop(first) * 0.5, **state}, tmp_path / f"{name}.pth")
        prints.add(open_encoder(kind, **{**chosen, name: str(tmp_path / f"{name}.pth")}).fingerprint)
    assert len(prints) == 1 + len(chosen)
    assert open_encoder(kind, **chosen, count=7).fingerprint not in prints


def test_files_of_another_network_are_named(files):
    networks = {"weights": "HardNet", "affine": "AffNet", "orientation": "OriNet", "keynet": r"Key\.Net"}
    for name, network in networks.items():
        other = files["keynet" if name != "keynet" else "affine"]
        with pytest.raises(UsageError, match=f"{other} holds no weights of {network}"):
            open_encoder("keynet-hardnet", **{**files, name: other})
    with pytest.raises(UsageError, match=r"Key\.Net is a trained network: give the file of its weights"):
        open_encoder("keynet-hardnet", weights=files["weights"])


def test_nan_of_a_network_loses_that_photo_alone(files, tmp_path):
    for name in MAKE:
        state = state_of(name)
        for layer in [key for key, value in state.items() if value.ndim == 4][1:]:
            state[layer] = 3e38 * state[layer].sign()  # finite in the file; its sums are not
        torch.save(state, tmp_path / f"{name}.pth")
        encoder = open_encoder("keynet-hardnet", **{**files, name: str(tmp_path / f"{name}.pth")}, count=10)
        nan, nothing = encoder.describe([picture(1), np.zeros((4, 4, 3), np.uint8)])
        assert isinstance(nan, NotFinite), name
        assert len(nothing) == 0


def test_hardnet_is_the_network_of_kornia(files):
    patches = np.random.default_rng(0).uniform(0, 255, (5, 32, 32)).astype(np.float32)
    network = MAKE["weights"]()
    network.load_state_dict(state_of("weights"), strict=False)
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(patches[:, None])).numpy()
    np.testing.assert_allclose(patch_networks.descriptor(files["weights"])(patches), expected, atol=1e-5)


def test_affnet_gives_the_shapes_of_kornia(files):
    """Of circles in an image that is one patch."""
    image = np.random.default_rng(0).uniform(0, 255, (1, 32, 32)).astype(np.float32)
    network = MAKE["affine"]()
    network.load_state_dict(state_of("affine"), strict=False)
    frame = torch.tensor([[[[16.0, 0, 15.5], [0, 16.0, 15.5]]]])
    with torch.no_grad():
        expected = network.eval()(frame, torch.from_numpy(image[None]))[0, 0, :, :2].numpy() / 16
    found = patch_networks.affine_shape(files["affine"])(image)[0]
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)


def test_hardtfeat_is_told_by_its_first_layer(tmp_path):
    network = patch_networks.HardTFeat()
    torch.save({"state_dict": {**network.state_dict(), "SIFT.gx.0.weight": torch.ones(1, 1, 1, 3)}}, tmp_path / "t.pth")
    patches = np.random.default_rng(0).uniform(0, 255, (700, 32, 32)).astype(np.float32)
    found = patch_networks.descriptor(str(tmp_path / "t.pth"))(patches)
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(patches[-3:, None])).numpy()
    np.testing.assert_allclose(found[-3:], expected, atol=1e-5)
    assert found.shape == (700, 128)
