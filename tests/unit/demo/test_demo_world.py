from __future__ import annotations

import csv
import socket
from itertools import combinations

import cv2
import numpy as np
import pytest
from PIL import Image

from resight.demo import build_world, sources, textures
from resight.demo.camera import corners, photograph, project, random_view, translation
from resight.demo.scene import shoot
from resight.demo.world import write_world
from resight.errors import ArrayError, ResightError, UsageError


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(1)
    return {name: textures.poster(rng, 150, 200) for name in ("one", "two", "three")}


@pytest.fixture(scope="module")
def small(pictures, tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("small"), pictures)


def write_small(folder, pictures, seed=0, views=3, distractors=3):
    objects = {name: pictures[name] for name in ("one", "two")}
    others, cover = {"three": pictures["three"]}, (pictures["three"],)
    size = (160, 120)
    return write_world(folder, objects, others, cover, seed=seed, views=views, distractors=distractors, photo_size=size)


def test_world_lists_exactly_the_files_it_wrote(small):
    assert sorted(path.name for path in small.photos_folder.iterdir()) == sorted(photo.name for photo in small.photos)
    assert len(small.photos) == 2 * 3 + 3
    assert small.objects == ("one", "two")
    assert small.queries == ("one-00.jpg", "two-00.jpg")
    assert small.positives == (("one-01.jpg", "one-02.jpg"), ("two-01.jpg", "two-02.jpg"))


def test_ground_truth_file_says_the_same_as_the_world(small):
    with (small.folder / "ground_truth.csv").open(newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows == [(q, p) for q, names in zip(small.queries, small.positives, strict=True) for p in names]


def test_photos_have_the_size_asked_for_either_way_up(small):
    sizes = set()
    for photo in small.photos:
        with Image.open(small.photos_folder / photo.name) as image:
            sizes.add(image.size)
    assert sizes <= {(160, 120), (120, 160)}


def test_distractors_carry_no_object(small):
    off = [photo for photo in small.photos if photo.object is None]
    assert [photo.name for photo in off] == ["other-00-three.jpg", "other-01-scene.jpg", "other-02-poster.jpg"]
    assert all(photo.homography is None and photo.corners is None for photo in off)


def test_corners_are_the_projected_corners_of_the_object(small):
    for photo in small.photos:
        if photo.object is not None:
            np.testing.assert_allclose(photo.corners, project(photo.homography, corners(200, 150)))


def test_same_seed_writes_the_same_bytes_and_another_seed_others(small, pictures, tmp_path):
    again, other = write_small(tmp_path / "again", pictures), write_small(tmp_path / "other", pictures, seed=1)
    for photo in small.photos:
        before = (small.photos_folder / photo.name).read_bytes()
        assert (again.photos_folder / photo.name).read_bytes() == before
        assert (other.photos_folder / photo.name).read_bytes() != before


def test_second_run_into_the_same_folder_overwrites_its_own_files(pictures, tmp_path):
    first = write_small(tmp_path, pictures)
    assert [photo.name for photo in write_small(tmp_path, pictures).photos] == [photo.name for photo in first.photos]


@pytest.mark.parametrize("numbers", [{"seed": -1}, {"views": 1}, {"distractors": -1}])
def test_numbers_out_of_range_are_refused_by_name(pictures, tmp_path, numbers):
    with pytest.raises(UsageError, match=next(iter(numbers))):
        write_small(tmp_path, pictures, **numbers)


@pytest.mark.parametrize("shape", [(10, 10), (10, 10, 4), (10, 2000, 3)])
def test_picture_of_a_wrong_shape_is_refused(tmp_path, shape):
    with pytest.raises(ArrayError, match="picture odd has shape"):
        write_world(tmp_path, {"odd": np.zeros(shape, np.uint8)}, {}, (), seed=0, views=2, distractors=0)


def test_folder_with_files_of_the_user_is_left_alone(pictures, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"holiday\.jpg"):
        write_small(tmp_path, pictures)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["holiday.jpg"]


def test_folder_that_is_a_file_is_refused(pictures, tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(UsageError, match="taken"):
        write_small(tmp_path / "taken", pictures)


def test_photo_that_cannot_be_written_is_named(pictures, tmp_path):
    (tmp_path / "photos" / "one-01.jpg").mkdir(parents=True)
    with pytest.raises(ResightError, match=r"cannot write .*one-01\.jpg"):
        write_small(tmp_path, pictures)


def test_homography_finds_the_object_to_a_fraction_of_a_pixel():
    picture = textures.poster(np.random.default_rng(3), 300, 400)
    photo, homography = shoot(np.random.default_rng(0), picture, (), (640, 480), 0.0)
    indices = translation(-0.5, -0.5) @ homography @ translation(0.5, 0.5)
    back = cv2.warpPerspective(photo, indices, (400, 300), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    seen, truth = (
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)[20:-20, 20:-20] for image in (back, picture)
    )
    (x, y), response = cv2.phaseCorrelate(truth, seen, cv2.createHanningWindow(truth.shape[::-1], cv2.CV_64F))
    assert response > 0.3
    assert np.hypot(x, y) < 0.2


def test_frontal_photograph_at_scale_one_is_the_wall_itself():
    wall = textures.terrazzo(np.random.default_rng(0), 60, 80)
    seen = photograph(wall, wall, np.eye(3), (80, 60)).astype(int)
    assert np.abs(cv2.GaussianBlur(wall, (3, 3), 0).astype(int) - seen).mean() < 6
    shifted = photograph(wall, wall, translation(2, 0), (80, 60)).astype(int)
    np.testing.assert_array_equal(shifted[:, 2:], seen[:, :-2])


def test_past_the_rim_only_the_bare_surface_goes_on():
    wall, bare = np.full((20, 20, 3), 200, np.uint8), np.full((20, 20, 3), 50, np.uint8)
    seen = photograph(wall, bare, translation(10, 10), (40, 40))
    assert (seen[12:28, 12:28] == 200).all()
    assert (seen[:8] == 50).all()
    assert (seen[32:] == 50).all()


def test_no_view_however_hard_sees_the_horizon():
    rng = np.random.default_rng(0)
    for photo_size in ((640, 480), (480, 640)) * 1000:
        back = np.linalg.inv(random_view(rng, (560, 300), photo_size, 1.0))
        depth = np.column_stack([corners(*photo_size), np.ones(4)]) @ back[2]
        assert (depth > 0).all() or (depth < 0).all()


def test_harder_levels_tilt_more():
    def slant(level):
        rng = np.random.default_rng(0)
        views = [random_view(rng, (400, 400), (640, 480), level) for _ in range(100)]
        return np.mean([np.hypot(*view[2, :2]) for view in views])

    assert slant(1.0) > 2 * slant(0.0)


@pytest.mark.parametrize("draw", [*textures.SURFACES, textures.poster])
def test_textures_repeat_with_their_generator_and_vary_otherwise(draw):
    first, same, other = (draw(np.random.default_rng(seed), 90, 120) for seed in (5, 5, 6))
    assert first.shape == (90, 120, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_parts_of_one_picture_do_not_overlap_and_names_are_unique():
    every = (*sources.OBJECTS, *sources.DISTRACTORS, *sources.OCCLUDERS)
    assert len({source.name for source in every}) == len(every)
    for a, b in combinations(every, 2):
        if (a.package, a.file) == (b.package, b.file):
            assert a.box is not None
            assert b.box is not None
            assert a.box[2] <= b.box[0] or b.box[2] <= a.box[0] or a.box[3] <= b.box[1] or b.box[3] <= a.box[1]


def test_demo_world_needs_no_network(tmp_path, monkeypatch):
    pytest.importorskip("skimage", reason="the demo's pictures come with scikit-image")

    def refuse(*_):
        raise AssertionError("the demo opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    world = build_world(tmp_path, views=2, distractors=2)
    assert len(world.photos) == 2 * len(world.objects) + 2
    assert len(world.objects) == 19


def test_missing_package_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r'pip install "resight\[demo\]"'):
        build_world(tmp_path / "world")
    assert not (tmp_path / "world").exists()


def test_missing_file_of_a_package_says_how_to_install_it():
    with pytest.raises(UsageError, match=r"gone\.png is not there.*resight\[demo\]"):
        sources.load(sources.Source("gone", "numpy", "gone.png"))
