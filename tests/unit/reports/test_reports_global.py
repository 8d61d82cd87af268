"""Pictures of why photos are alike as wholes, from a collection with global descriptors."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from onnx_factory import write_network
from photo_factory import make_photos
from resight.cli import app
from resight.collection import create_collection, open_collection
from resight.errors import ImageError, UsageError
from resight.features.global_descriptor import GlobalDescriptor, TooSmall
from resight.features.networks.open import open_backbone
from resight.features.pooling import class_token, gem, normalise
from resight.fitting.whitening import fit_whitening_to, use_whitening
from resight.images.decode import decode
from resight.reports.pictures import match_picture
from resight.types import Box
from resight.viz import activations


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("reports") / "photos", objects=3)


@pytest.fixture
def collection(world, tmp_path):
    return world.copy("gem", tmp_path)


def drawn(monkeypatch, collection, *args) -> activations.Contributions:
    """What `match_picture` of two photos of the collection drew."""
    seen = []
    real = activations.draw_contributions

    def remember(query, result, found, **options):
        seen.append(found)
        return real(query, result, found, **options)

    monkeypatch.setattr("resight.reports.pictures.draw_contributions", remember)
    explanation = collection.explain(*args)
    assert match_picture(collection, explanation.query, explanation.result).width > 200
    return seen[0]


def test_the_picture_adds_up_to_the_cosine_of_the_search(collection, monkeypatch):
    ids = sorted(collection.ids)
    _, vectors = collection.vectors()
    found = drawn(monkeypatch, collection, ids[0], ids[4])
    expected = vectors[collection.snapshot.row_of(ids[0])] @ vectors[collection.snapshot.row_of(ids[4])]
    np.testing.assert_allclose([found.cosine, found.query.sum(), found.result.sum()], expected, atol=1e-4)


def test_a_whitening_is_part_of_the_picture(collection, monkeypatch):
    use_whitening(collection, fit_whitening_to(collection, "zca"))
    ids = sorted(collection.ids)
    _, vectors = collection.vectors()
    found = drawn(monkeypatch, collection, ids[1], ids[2])
    expected = vectors[collection.snapshot.row_of(ids[1])] @ vectors[collection.snapshot.row_of(ids[2])]
    np.testing.assert_allclose([found.cosine, found.result.sum()], expected, atol=1e-4)


def test_a_box_is_all_that_is_drawn_of_the_query(collection, monkeypatch):
    ids = sorted(collection.ids)
    found = drawn(monkeypatch, collection, ids[0], ids[1], Box(10, 10, 100, 60))
    assert found.query.shape == (6, 10)  # of 320 x 240 pixels, seen at 256 x 192
    assert found.result.size > 100


def test_the_command_writes_it(collection, tmp_path):
    ids = sorted(collection.ids)
    out = tmp_path / "why.png"
    done = CliRunner().invoke(app, ["explain", str(collection.path), ids[0], ids[1], "--out", str(out)])
    assert done.exit_code == 0, done.output
    with Image.open(out) as picture:
        pixels = np.asarray(picture)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1000


def test_a_photo_that_is_gone_is_named(collection):
    ids = sorted(collection.ids)
    explanation = collection.explain(ids[0], ids[1])
    result = type(explanation.result)(**{**vars(explanation.result), "path": "nowhere.jpg"})
    with pytest.raises(ImageError, match=r"nowhere\.jpg"):
        match_picture(collection, explanation.query, result)


def test_poolings_that_are_no_sums_are_refused(photos, tmp_path):
    network = write_network(tmp_path / "net.onnx")
    made = create_collection(tmp_path / "mac.resight", "gem", {"backbone": str(network), "pool": "mac"})
    made.add([photos.folder])
    ids = sorted(made.ids)
    explanation = open_collection(made.path).explain(ids[0], ids[1])
    with pytest.raises(UsageError, match="gem or spoc"):
        match_picture(made, explanation.query, explanation.result)


def test_spoc_of_tokens_is_drawn(photos, tmp_path, monkeypatch):
    network = write_network(tmp_path / "net.onnx", output="tokens", side=64)
    made = create_collection(tmp_path / "t.resight", "frozen", {"backbone": str(network), "pool": "spoc"})
    made.add([photos.folder])
    ids = sorted(made.ids)
    _, vectors = made.vectors()
    found = drawn(monkeypatch, made, ids[0], ids[3])
    assert found.query.shape == (8, 8)
    assert found.result.sum() == pytest.approx(
        vectors[made.snapshot.row_of(ids[0])] @ vectors[made.snapshot.row_of(ids[3])], abs=1e-4
    )


def test_maps_are_what_is_pooled(photos, tmp_path):
    pixels = decode(sorted(photos.folder.iterdir())[0]).pixels
    backbone = open_backbone(write_network(tmp_path / "net.onnx"))
    descriptor = GlobalDescriptor(backbone, gem, "gem", scales=(1.0, 0.5))
    maps = descriptor.maps(pixels)
    assert maps.shape == (16, pixels.shape[0] // 8, pixels.shape[1] // 8)
    one = GlobalDescriptor(backbone, gem, "gem")
    np.testing.assert_allclose(normalise(gem(maps[None]))[0], one(pixels), atol=1e-5)
    with pytest.raises(TooSmall):
        descriptor.maps(pixels[:5])
    tokens = open_backbone(write_network(tmp_path / "tokens.onnx", output="tokens", side=64))
    with pytest.raises(UsageError, match="no maps"):
        GlobalDescriptor(tokens, class_token, "class-token").maps(pixels)
    vectors = open_backbone(write_network(tmp_path / "vectors.onnx", output="vectors"))
    with pytest.raises(UsageError, match="no maps"):
        GlobalDescriptor(vectors).maps(pixels)
