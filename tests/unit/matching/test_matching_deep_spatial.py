"""Regions of made activation maps: where they are found, which are kept, and that they verify a known view."""

import numpy as np
import pytest

from onnx_factory import write_network
from resight.errors import ArrayError, UsageError
from resight.features.networks.open import open_backbone
from resight.matching.affine_frames import AffineFrames
from resight.matching.deep_spatial import DeepRegions, describe, regions_of_maps, verify_regions
from resight.matching.extremal import stable_regions

SIZE = (640, 480)  # a photo of 40 x 30 cells of 16 pixels
VIEW = np.array([[1.1, 0.0, -40.0], [0.1, 0.9, 30.0], [0, 0, 1]])


def blobs(points, shape=(30, 40), width=1.6, height=50.0):
    """Maps with a blob in each channel at its point (x, y) in cells."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    points = np.asarray(points, np.float32)[:, :, None, None]
    far = ((x - points[:, 0]) ** 2 + (y - points[:, 1]) ** 2) / (2 * width**2)
    return (height * np.exp(-far)).astype(np.float32)


def seen(points, transform=VIEW, cell=16.0):
    """Points in cells after a view in pixels."""
    return (points * cell @ transform[:2, :2].T + transform[:2, 2]) / cell


def two_views(channels=80, seed=0):
    points = np.random.default_rng(seed).uniform((5, 4), (35, 26), (channels, 2))
    return blobs(points), blobs(seen(points))


def test_a_blob_becomes_an_ellipse_in_pixels():
    regions = regions_of_maps([blobs([(12.5, 9.5)])], SIZE, query=True)
    assert len(regions) >= 1
    np.testing.assert_allclose(regions.frames.xy, np.tile([(200.0, 152.0)], (len(regions), 1)), atol=1)
    np.testing.assert_array_equal(regions.frames.word, 0)
    np.testing.assert_allclose(regions.frames.strength, 50.0, rtol=1e-3)
    np.testing.assert_array_equal(regions.frames.shape[:, 0, 1], 0)
    assert regions.cells == pytest.approx([16.0])


def test_a_single_cell_is_a_circle_of_its_own_size():
    maps = np.zeros((1, 5, 6), np.float32)
    maps[0, 2, 3] = 7
    regions = regions_of_maps([maps], (60, 50), query=True)
    assert len(regions) == 1
    np.testing.assert_allclose(regions.frames.xy, [(35, 25)])
    np.testing.assert_allclose(regions.frames.shape[0], 10 * np.eye(2) / np.sqrt(3), rtol=1e-5)


def test_cells_that_are_no_squares():
    maps = np.zeros((1, 5, 6), np.float32)
    maps[0, 2, 3] = 7
    regions = regions_of_maps([maps], (120, 50), query=True)
    np.testing.assert_allclose(regions.frames.xy, [(70, 25)])
    np.testing.assert_allclose(regions.frames.shape[0], np.diag([20, 10]) / np.sqrt(3), rtol=1e-5)


def test_a_known_view_is_recovered():
    a, b = two_views()
    query, candidate = regions_of_maps([a], SIZE, query=True), regions_of_maps([b], SIZE, query=False)
    found = verify_regions(query, [candidate])[0]
    assert found.verified
    channels = np.unique(query.frames.word[found.correspondences[found.mask, 0]])
    assert len(channels) >= 76
    np.testing.assert_allclose(found.transform[:2, :2], VIEW[:2, :2], atol=0.05)
    np.testing.assert_allclose(found.transform[:2, 2], VIEW[:2, 2], atol=16)
    np.testing.assert_array_equal(
        *(f.frames.word[found.correspondences[:, s]] for s, f in enumerate((query, candidate)))
    )


def test_the_best_pair_of_scales_counts():
    points = np.random.default_rng(0).uniform((5, 4), (35, 26), (60, 2))
    noise = [blobs(np.random.default_rng(s).uniform((5, 4), (35, 26), (60, 2))) for s in (1, 2, 3)]
    query = regions_of_maps([noise[0], blobs(points)], SIZE, query=True)
    candidates = [regions_of_maps([noise[1], noise[2], blobs(seen(points))], SIZE, query=False)] * 2
    both = verify_regions(query, candidates, jobs=2)
    for found in both:
        i, j = found.correspondences[found.mask].T
        assert found.verified
        assert set(query.scale[i]) == {1}
        assert set(candidates[0].scale[j]) == {2}
    assert both[0].significance == both[1].significance


def test_maps_of_different_things_do_not_verify():
    rng = np.random.default_rng(3)
    maps = [blobs(rng.uniform((2, 2), (38, 28), (80, 2))) for _ in range(6)]
    query = regions_of_maps(maps[:1], SIZE, query=True)
    found = verify_regions(query, [regions_of_maps([m], SIZE, query=False) for m in maps[1:]])
    assert not any(one.verified for one in found)


def test_the_database_side_keeps_ten_a_channel_and_the_query_side_twenty():
    field = np.zeros((1, 40, 50), np.float32)
    corners = [(x, y) for x in range(2, 48, 8) for y in range(2, 38, 9)][:24]
    for strength, (x, y) in enumerate(corners):
        field[0, y : y + 3, x : x + 3] = 100 + strength
    query, database = (regions_of_maps([field], (500, 400), query=q, gain=1.0) for q in (True, False))
    np.testing.assert_array_equal(query.frames.strength, np.arange(123, 103, -1))
    np.testing.assert_array_equal(database.frames.strength, np.arange(123, 113, -1))
    np.testing.assert_allclose(query.frames.xy, [(10 * x + 15, 10 * y + 15) for x, y in corners[::-1][:20]])


def test_the_database_side_drops_overlapping_regions():
    field = np.zeros((2, 30, 40), np.float32)
    for channel in range(2):
        field[channel, 4:8, 4:8] = 60  # a quarter of this box is the inner one's: overlap 0.25
        field[channel, 5:7, 5:7] = 120
        field[channel, 20:25, 20:25] = 50  # 4 of 25 cells are the inner one's: overlap 0.16
        field[channel, 21:23, 21:23] = 100
    query, database = (regions_of_maps([field], SIZE, query=q, gain=1.0) for q in (True, False))
    assert [len(query.frames.select(query.frames.word == c)) for c in range(2)] == [4, 4]
    assert [len(database.frames.select(database.frames.word == c)) for c in range(2)] == [3, 3]
    lost = query.frames.xy[(query.frames.strength == 120)]
    np.testing.assert_allclose(lost, np.full((4, 2), 96.0))
    assert (database.frames.strength == 120).sum() == 2
    size = np.linalg.det(database.frames.shape[database.frames.strength == 120])
    assert size.max() < 4**2 * 16**2 / 3


def test_the_strongest_of_the_photo_are_kept():
    a, b = two_views()
    b = b * 3
    whole = regions_of_maps([a, b], SIZE, query=True)
    few = regions_of_maps([a, b], SIZE, query=True, per_image=30)
    assert len(few) == 30
    np.testing.assert_array_equal(np.sort(few.frames.strength), np.sort(whole.frames.strength)[-30:])
    assert (np.diff(few.scale) >= 0).all()
    np.testing.assert_array_equal(few.starts(), [0, (few.scale == 0).sum(), 30])


def test_without_gain_the_size_of_activations_does_not_matter():
    a, _ = two_views()
    one, other = (regions_of_maps([a * factor], SIZE, query=True) for factor in (1.0, 4.0))
    np.testing.assert_array_equal(one.frames.xy, other.frames.xy)
    weak = regions_of_maps([a / 100], SIZE, query=True, gain=1.0)  # all below half a level
    assert len(weak) == 0
    assert len(regions_of_maps([a], SIZE, query=True, gain=1.0)) > 0


def test_a_channel_with_too_many_regions_is_noise():
    levels = np.zeros((2, 40, 40), np.uint8)
    levels[0, ::4, ::4] = 90  # 100 of them
    levels[1, ::8, ::8] = 90  # 25 of them
    found = stable_regions(levels, levels.astype(np.float32), 5, min_area=0)
    assert set(found.channel) == {1}
    assert len(found) == 25
    np.testing.assert_array_equal(found.box[:, 2:] - found.box[:, :2], 1)
    np.testing.assert_array_equal(found.area, 1)


@pytest.mark.parametrize("shape", [(0, 5, 5), (4, 0, 0), (4, 1, 1), (4, 1, 9), (4, 2, 2)])
def test_maps_with_hardly_a_cell(shape):
    for value in (0.0, 3.0):
        regions = regions_of_maps([np.full(shape, value, np.float32)], SIZE, query=True)
        assert len(regions) == 0  # one blob that fills the map is no region
        found = verify_regions(regions, [regions])[0]
        assert not found.verified
        assert found.inliers == found.tentative == 0


def test_no_scales_and_one_region_are_not_verified():
    a, b = two_views()
    full = regions_of_maps([b], SIZE, query=False)
    nothing = regions_of_maps([], SIZE, query=True)
    one = regions_of_maps([a[:1]], SIZE, query=True)
    for query, candidate in ((nothing, full), (full, nothing), (nothing, nothing), (one, full), (one, one)):
        found = verify_regions(query, [candidate])[0]
        assert not found.verified
        assert found.transform is None
    assert verify_regions(full, []) == []


def test_negative_activations_are_silence():
    a, _ = two_views()
    np.testing.assert_array_equal(
        regions_of_maps([a - 5], SIZE, query=True).frames.xy,
        regions_of_maps([np.maximum(a - 5, 0)], SIZE, query=True).frames.xy,
    )


def test_a_photo_through_a_network(tmp_path):
    network = open_backbone(write_network(tmp_path / "net.onnx", channels=32, seed=1))
    photo = np.random.default_rng(0).integers(0, 255, (15, 20, 3)).astype(np.uint8).repeat(12, 0).repeat(12, 1)
    regions = describe(network, photo, query=True)
    assert len(regions) > 50
    np.testing.assert_allclose(regions.cells, [8, 8 * 2**0.5, 16], rtol=0.05)
    assert (regions.frames.xy > 0).all()
    assert (regions.frames.xy < (240, 180)).all()
    same = verify_regions(regions, [describe(network, photo, query=False)])[0]
    assert same.inliers > 0.5 * len(regions) / 3
    np.testing.assert_allclose(same.transform, np.eye(3), atol=2)
    assert len(describe(network, photo[:9, :9], query=True).cells) == 3  # no cell at the smallest scale
    larger = describe(network, photo, query=True, max_side=480, enlarge=True, scales=(1.0,))
    assert larger.cells == pytest.approx([4], rel=0.02)
    assert describe(network, photo, query=True, max_side=480, scales=(1.0,)).cells == pytest.approx([8], rel=0.02)


def test_errors_say_what_is_wrong(tmp_path):
    a, _ = two_views(5)
    for bad in (np.nan, np.inf):
        with pytest.raises(ArrayError, match="scale 1 hold NaN"):
            regions_of_maps([a, np.where(a > 20, bad, a)], SIZE, query=True)
    with pytest.raises(ArrayError, match="maps of scale 0"):
        regions_of_maps([a[0]], SIZE, query=True)
    with pytest.raises(UsageError, match="gain"):
        regions_of_maps([a], SIZE, query=True, gain=0.0)
    with pytest.raises(UsageError, match="per_image"):
        regions_of_maps([a], SIZE, query=True, per_image=0)
    with pytest.raises(UsageError, match="delta"):
        stable_regions(np.zeros((1, 3, 3), np.uint8), np.zeros((1, 3, 3), np.float32), 0)
    with pytest.raises(ArrayError, match="uint8"):
        stable_regions(np.zeros((1, 3, 3), np.int64), np.zeros((1, 3, 3), np.float32), 1)
    regions = regions_of_maps([a], SIZE, query=True)
    with pytest.raises(UsageError, match="threshold"):
        verify_regions(regions, [regions], threshold=0)
    with pytest.raises(ArrayError, match="only 1 sizes"):
        DeepRegions(regions.frames, np.ones(len(regions), np.int64), np.ones(1))
    with pytest.raises(ArrayError, match="order of their scales"):
        DeepRegions(regions.frames, np.arange(len(regions))[::-1], np.ones(len(regions)))
    photo = np.zeros((64, 64, 3), np.uint8)
    vectors = open_backbone(write_network(tmp_path / "v.onnx", output="vectors"))
    with pytest.raises(UsageError, match="no maps"):
        describe(vectors, photo, query=True)
    network = open_backbone(write_network(tmp_path / "n.onnx"))
    with pytest.raises(ArrayError, match="an image has shape"):
        describe(network, photo[:, :, 0], query=True)
    for wrong in ({"max_side": 0}, {"scales": ()}, {"scales": (0.0,)}):
        with pytest.raises(UsageError, match="max_side"):
            describe(network, photo, query=True, **wrong)
    with pytest.raises(ArrayError):
        AffineFrames(regions.frames.xy[:2], regions.frames.shape, regions.frames.word, regions.frames.strength)
