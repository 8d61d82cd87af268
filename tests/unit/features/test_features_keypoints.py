"""ALIKED and DISK with random weights in files of the authors' formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import photo_factory
from resight.errors import ArrayError, UsageError
from resight.features.local.encoders import open_encoder
from resight.features.local.keypoints import equal_sizes
from resight.features.local.trunk import NotFinite
from resight.types import Encoder

kornia = pytest.importorskip("kornia.feature", reason="extra kornia is not installed")
torch.set_num_threads(1)
KINDS = ("aliked", "disk")


def picture(seed):
    return photo_factory.picture(seed, 96, 128)


def make(name):
    torch.manual_seed(0)
    network = kornia.ALIKED("aliked-n16") if name == "aliked" else kornia.DISK()
    return {key: tensor for key, tensor in network.state_dict().items() if key != "dkd.hw_grid"}


def write(name, state, path):
    torch.save({"extractor": state, "epoch": 3} if name == "disk" else state, path)
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {name: write(name, make(name), folder / f"{name}.pth") for name in KINDS}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def test_features_of_a_picture(files, kind):
    encoder, image = open_encoder(kind, weights=files[kind], count=150), picture(1)
    features = encoder(image)
    assert isinstance(encoder, Encoder)
    assert 20 < len(features) <= 150
    assert features.dim == encoder.dim == 128
    assert np.linalg.norm(features.descriptors, axis=1) == pytest.approx(np.ones(len(features)), abs=1e-5)
    assert (features.xy >= 0).all()
    assert (features.xy <= (image.shape[1], image.shape[0])).all()
    assert not features.angle.any()
    more = open_encoder(kind, weights=files[kind], count=300)(image)
    assert np.array_equal(more.xy[: len(features)], features.xy)


def test_many_images_at_once_are_as_each_alone(files, kind):
    encoder = open_encoder(kind, weights=files[kind], count=60)
    images = [picture(1), picture(2), picture(1)[:90, :100], np.zeros((4, 500, 3), np.uint8), picture(3)]
    for image, features in zip(images, encoder.describe(images), strict=True):
        alone = encoder(image)
        assert len(alone) == len(features)
        for point, row in zip(features.xy, features.descriptors, strict=True):  # rounding swaps nearly equal scores
            near = np.abs(alone.xy - point).max(axis=1).argmin() if len(alone) else 0
            np.testing.assert_allclose(alone.xy[near], point, atol=1e-2)
            np.testing.assert_allclose(alone.descriptors[near], row, atol=1e-3)


def test_batches_keep_to_their_pixels_and_sizes():
    images = [np.zeros((size, 1024, 3), np.uint8) for size in (512, 512, 16, 512, 15)]
    assert list(equal_sizes(images, 16)) == [[0, 1], [3], [2]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (15, 300), (2, 3000)])
def test_images_smaller_than_a_cell_have_no_features(files, kind, shape):
    features = open_encoder(kind, weights=files[kind])(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    assert (len(features), features.dim) == (0, 128)


def test_sizes(files, kind):
    image = picture(1)
    halved = open_encoder(kind, weights=files[kind], max_side=max(image.shape) // 2)(image)
    assert halved.xy.max() > max(image.shape) / 2, "positions are those of the image given"
    assert len(open_encoder(kind, weights=files[kind], enlarge_below=1000)(image)) > len(halved)
    assert (open_encoder(kind, weights=files[kind], threshold=1e6)(image).strength > 1e6).all()


@pytest.mark.parametrize("settings", [{"count": 0}, {"max_side": 8}, {"enlarge_below": 2000}, {"threshold": np.nan}])
def test_settings_out_of_range(kind, settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        open_encoder(kind, **settings)


def test_fingerprint_follows_weights_and_settings_not_the_name_of_the_file(files, kind, tmp_path):
    encoder = open_encoder(kind, weights=files[kind])
    copy = tmp_path / "copy.pth"
    copy.write_bytes(Path(files[kind]).read_bytes())
    assert open_encoder(kind, weights=str(copy)).fingerprint == encoder.fingerprint
    assert open_encoder(kind, weights=files[kind], count=7).fingerprint != encoder.fingerprint
    other = make(kind)
    next(iter(other.values())).add_(1)
    assert open_encoder(kind, weights=write(kind, other, copy)).fingerprint != encoder.fingerprint


def test_files_that_hold_something_else(files, kind, tmp_path):
    other = files["disk" if kind == "aliked" else "aliked"]
    state = make(kind)
    first = next(iter(state))
    shaped = write(kind, {**state, first: torch.zeros(3)}, tmp_path / "shape.pth")
    lacking = write(kind, {key: state[key] for key in list(state)[1:]}, tmp_path / "lacking.pth")
    for path, message in [
        (other, "holds no weights"),
        (shaped, f"{first} has shape"),
        (lacking, f"lacks {first}"),
        ("", "give the file of its weights"),
        (str(tmp_path / "absent.pth"), "cannot open"),
    ]:
        with pytest.raises(UsageError, match=message):
            open_encoder(kind, weights=path)


def test_nan_of_the_network_loses_that_image_alone(kind, tmp_path):
    state = make(kind)
    last = [name for name in state if name.endswith("conv1.weight" if kind == "aliked" else "weight")][-1]
    state[last] = 3e38 * state[last].sign()  # finite in the file; its sums are not
    encoder = open_encoder(kind, weights=write(kind, state, tmp_path / "large.pth"))
    found = encoder.describe([picture(1), np.zeros((4, 4, 3), np.uint8)])
    assert isinstance(found[0], NotFinite)
    assert "NaN or infinity" in str(found[0])
    assert len(found[1]) == 0
    with pytest.raises(NotFinite):
        encoder(picture(1))


def test_pixels_of_another_type(files, kind):
    with pytest.raises(ArrayError, match="uint8"):
        open_encoder(kind, weights=files[kind])(np.zeros((40, 40), np.uint8))
