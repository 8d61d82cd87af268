from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from photo_factory import make_photos, picture
from resight.collection import create_collection
from resight.errors import ArrayError, UsageError
from resight.features.local.encoders import ENCODERS, Kind, open_encoder
from resight.features.local.rootsift import RootSift, root
from resight.types import Encoder


def blob(height, width, x, y, sigma, light=200.0):
    """A bright Gaussian spot at (x, y), where the centre of the top-left pixel is (0.5, 0.5)."""
    columns, rows = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    spot = 20 + light * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.repeat(np.clip(np.rint(spot), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def strongest(features, x, y):
    return np.hypot(*(features.xy[0] - (x, y))), features.scale[0]


@pytest.mark.parametrize("enlarge_below", [0, 256])
@pytest.mark.parametrize(("x", "y"), [(64.5, 48.5), (64.0, 48.0), (50.25, 70.75)])
def test_centre_of_a_blob(enlarge_below, x, y):
    features = RootSift(enlarge_below=enlarge_below)(blob(100, 128, x, y, 5))
    assert strongest(features, x, y)[0] < 0.1


def test_centre_of_a_blob_in_a_reduced_image():
    features = RootSift(max_side=256, enlarge_below=0)(blob(768, 1024, 401.5, 300.5, 24))
    distance, scale = strongest(features, 401.5, 300.5)
    assert distance < 0.5
    assert 24 < scale < 100


def test_scale_follows_the_blob():
    scales = [strongest(RootSift(enlarge_below=0)(blob(200, 200, 100, 100, s)), 100, 100)[1] for s in (4, 8, 16)]
    assert np.diff(np.log2(scales)) == pytest.approx([1, 1], abs=0.15)


def test_scale_does_not_depend_on_the_enlargement():
    image = blob(120, 160, 80.5, 60.5, 6)
    assert RootSift(enlarge_below=320)(image).scale[0] == pytest.approx(
        RootSift(enlarge_below=0)(image).scale[0], rel=0.1
    )


def test_features_of_a_picture():
    image = picture(1)
    features = RootSift(count=150)(image)
    assert len(features) == 150
    assert (features.dim, RootSift().dim) == (128, 128)
    assert np.linalg.norm(features.descriptors, axis=1) == pytest.approx(np.ones(150), abs=1e-5)
    assert (features.xy >= 0).all()
    assert (features.xy <= (image.shape[1], image.shape[0])).all()
    assert (np.diff(features.strength) <= 0).all()
    more = RootSift(count=300)(image)
    assert np.array_equal(more.xy[:150], features.xy)


def test_the_same_pixels_give_the_same_features():
    image = picture(2)
    first, second = RootSift()(image), RootSift()(image.copy())
    for name in ("xy", "scale", "angle", "strength", "descriptors"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (60, 80), (1, 3000), (3000, 2)])
def test_flat_and_tiny_images_have_no_features(shape):
    features = RootSift()(np.full((*shape, 3), 120, np.uint8))
    assert (len(features), features.dim) == (0, 128)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (5, 4000)])
def test_tiny_images_of_noise_are_read(shape):
    features = RootSift()(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    assert np.isfinite(features.xy).all()


@pytest.mark.parametrize(
    "pixels", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3), np.float32)]
)
def test_pixels_must_be_rgb_bytes(pixels):
    with pytest.raises(ArrayError, match=r"expected \(H, W, 3\) uint8"):
        RootSift()(pixels)


@pytest.mark.parametrize(
    "settings", [{"count": 0}, {"enlarge_below": 2000}, {"enlarge_below": -1}, {"max_side": 5}, {"contrast": -0.1}]
)
def test_settings_out_of_range(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        RootSift(**settings)


def test_root_is_the_root_of_the_share():
    values = np.array([[1, 3], [0, 0]], np.float32)
    assert root(values) == pytest.approx(np.array([[0.5, 0.75**0.5], [0, 0]]))


def test_the_fingerprint_names_what_extracts():
    assert RootSift().fingerprint == RootSift(count=1000).fingerprint
    changed = [RootSift(count=999), RootSift(max_side=1000), RootSift(enlarge_below=0), RootSift(contrast=0.04)]
    assert len({encoder.fingerprint for encoder in (RootSift(), *changed)}) == 5


def test_encoders_open_by_name():
    assert set(ENCODERS) >= {"rootsift", "how", "fire"}
    encoder = open_encoder("rootsift")
    assert isinstance(encoder, Encoder)
    assert encoder(picture(3)).dim == encoder.dim
    (described,) = encoder.describe([picture(3)])
    np.testing.assert_array_equal(described.descriptors, encoder(picture(3)).descriptors)
    assert open_encoder("rootsift", count=5) == RootSift(5)
    with pytest.raises(UsageError, match=r"features='surf' are unknown: choose one of rootsift"):
        open_encoder("surf")


def test_the_example_of_contributing_works(tmp_path, monkeypatch):
    """The diff that adds a local feature, as it is printed, extracts features and searches."""
    text = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()
    (diff,) = [part for part in text.split("```") if part.startswith("diff\n+# features/local/corners.py")]
    source = "\n".join(line[1:] for line in diff.splitlines()[1:])
    spec = importlib.util.spec_from_loader("resight.features.local.corners", loader=None)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    exec(compile(source, "corners.py", "exec"), module.__dict__)
    monkeypatch.setitem(ENCODERS, "corners", Kind("corners", "Corners"))
    encoder = open_encoder("corners", count=40)
    assert isinstance(encoder, Encoder)
    assert encoder(picture(3)).descriptors.shape == (40, 64)
    photos = make_photos(tmp_path / "photos", objects=4)
    collection = create_collection(tmp_path / "c.resight", "classic", {"features": "corners", "words": 16})
    collection.add([photos.folder])
    (first, second, *_), *_ = photos.groups
    assert len(collection.search(first).results) == sum(map(len, photos.groups)) - 1
    assert collection.explain(first, second).evidence
