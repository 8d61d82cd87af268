"""Learned matchers: what a network proposes instead of nearest descriptors, and what geometry makes of it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

from onnx_factory import write_lighterglue, write_network, write_xfeat
from photo_factory import make_photos
from resight.collection import create_collection, open_collection
from resight.collection.collection import Collection
from resight.errors import ArrayError, StampMismatch, UsageError
from resight.features.local.compact import compact
from resight.features.local.encoders import open_encoder
from resight.matching.geometry import verify, verify_many
from resight.matching.lighterglue import _normalised, open_lighterglue
from resight.matching.matchers import MatchSettings
from resight.recipes.catalogue import settings_of
from resight.types import LocalFeatures

RNG = np.random.default_rng(3)
POINTS = RNG.uniform(10, 190, (30, 2)).astype(np.float32)


def features(xy, seed=0, dim=64):
    rows = np.random.default_rng(seed).normal(size=(len(xy), dim)).astype(np.float32)
    flat = np.zeros(len(xy), np.float32)
    return LocalFeatures(xy, flat + 1, flat, np.linspace(1, 0.1, len(xy), dtype=np.float32), rows)


def turned(xy):
    return (xy @ np.array([[0.9, 0.2], [-0.2, 0.9]], np.float32) + np.float32(20)).astype(np.float32)


@pytest.fixture
def matcher(tmp_path):
    pairs = np.stack([np.arange(30), np.arange(30)[::-1]], axis=1)  # b has the points in the other order
    scores = np.linspace(0.2, 1.0, 30)
    scores[4] = np.nan
    return write_lighterglue(tmp_path / "lg.onnx", pairs, scores)


def test_pairs_are_those_of_the_network_surest_first_and_above_the_score(matcher):
    a, b = features(POINTS), features(turned(POINTS)[::-1], 1)
    found = open_lighterglue(str(matcher), 0.5)(a, b)
    assert found.pairs[0].tolist() == [29, 0]
    assert (np.diff(found.distance) >= 0).all()
    assert len(found) == sum(score >= np.float32(0.5) for score in np.linspace(0.2, 1.0, 30).astype(np.float32))
    assert 4 not in open_lighterglue(str(matcher), 0.0)(a, b).pairs[:, 0]  # a score that is no number is no match
    assert np.array_equal(found.pairs, open_lighterglue(str(matcher), 0.5)(compact(a), compact(b)).pairs)


def test_geometry_proves_what_the_network_proposes_where_descriptors_say_nothing(matcher):
    a, b, learned = features(POINTS), features(turned(POINTS)[::-1], 1), open_lighterglue(str(matcher), 0.0)
    assert not verify(a, b).verified
    proof = verify(a, b, matcher=learned)
    assert proof.verified
    assert proof.tentative == 29
    assert proof.inliers >= 27  # two points on one spot count once
    many = verify_many(a, [b, features(RNG.uniform(0, 200, (30, 2)).astype(np.float32), 5)], matcher=learned, jobs=2)
    assert [one.verified for one in many] == [True, False]


def test_positions_are_brought_about_the_middle_whatever_their_size():
    found = _normalised(np.array([[100, 200], [500, 400], [300, 300]], np.float32))
    assert found.tolist() == [[-1, -0.5], [1, 0.5], [0, 0]]
    assert np.isfinite(_normalised(np.full((3, 2), 7, np.float32))).all()


def test_photos_without_features_and_other_dimensions(matcher):
    learned = open_lighterglue(str(matcher))
    assert len(learned(features(POINTS[:0]), features(POINTS))) == 0
    with pytest.raises(ArrayError, match="64 dimensions, not of 128"):
        learned(features(POINTS), features(POINTS, dim=128))


def test_files_and_settings_that_do_not_fit_are_refused(tmp_path, matcher):
    with pytest.raises(UsageError, match="is no LighterGlue"):
        open_lighterglue(str(write_network(tmp_path / "n.onnx")))
    with pytest.raises(UsageError, match="cannot be opened"):
        open_lighterglue(str(tmp_path / "none.onnx"))
    for wrong in ({"matcher": "glue"}, {"matcher": "lighterglue"}, {"matcher_weights": "a"}):
        with pytest.raises(UsageError, match="matcher"):
            MatchSettings(**wrong)
    with pytest.raises(UsageError, match="trained with xfeat and cannot match rootsift"):
        settings_of("classic", {"matcher": "lighterglue", "matcher_weights": str(matcher)})
    with pytest.raises(UsageError, match="matcher_score=2"):
        MatchSettings("lighterglue", "a", 2)


def test_a_collection_verifies_with_its_matcher_and_knows_another_file(tmp_path, matcher):
    photos = make_photos(tmp_path / "photos", objects=2, views=2)
    settings = {
        "features": "xfeat",
        "weights": str(write_xfeat(tmp_path / "x.onnx", POINTS)),
        "matcher": "lighterglue",
        "matcher_weights": str(matcher),
        "matcher_score": 0.25,
        "words": 16,
    }
    collection: Collection = create_collection(tmp_path / "c.resight", "classic", settings)
    collection.add([photos.folder])
    again = open_collection(collection.path)
    result = again.search("000-0.jpg").results[0]
    assert result.verification is not None
    assert result.verification.tentative == 27  # those of the network, of 30 points
    pairs = np.stack([np.arange(30)] * 2, axis=1)
    write_lighterglue(matcher, pairs, np.ones(30))
    with pytest.raises(StampMismatch, match="another matcher"):
        open_collection(collection.path).search("000-0.jpg")


def test_xfeat_of_a_fixed_size_sees_the_whole_photo_in_grey(tmp_path):
    points = np.array([[5, 5], [100, 40], [50, 90], [199, 99]], np.float32)
    encoder = open_encoder("xfeat", weights=str(write_xfeat(tmp_path / "x.onnx", points, side=(100, 200))))
    wide = encoder(np.zeros((200, 400, 3), np.uint8))  # half of it fits exactly
    assert wide.xy.tolist() == [[11, 11], [201, 81], [101, 181]]  # the last lies on the edge
    tall = encoder(np.zeros((400, 200, 3), np.uint8))  # a quarter, 50 pixels wide: the others lie beside it
    assert tall.xy.tolist() == [[22, 22]]
    assert np.allclose(np.linalg.norm(wide.descriptors, axis=1), 1)


def test_xfeat_of_any_size_enlarges_small_photos_and_has_no_scores(tmp_path):
    points = np.array([[10, 20], [30, 40]], np.float32)
    encoder = open_encoder("xfeat", weights=str(write_xfeat(tmp_path / "x.onnx", points, last="scales")))
    small = encoder(np.zeros((112, 224, 3), np.uint8))  # seen at twice its size
    assert np.allclose(small.xy, [[5.25, 10.25], [15.25, 20.25]])
    assert small.strength.tolist() == [1, 0.5]
    assert len(encoder(np.zeros((63, 200, 3), np.uint8))) == 0
    with pytest.raises(UsageError, match="is no XFeat"):
        open_encoder("xfeat", weights=str(write_network(tmp_path / "n.onnx")))
    with pytest.raises(UsageError, match="give its ONNX file"):
        open_encoder("xfeat")
