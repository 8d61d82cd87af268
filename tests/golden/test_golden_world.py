from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps


def upright(path):
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def test_golden_folder_holds_the_photos_and_the_bad_files(golden_world):
    world = golden_world.world
    listed = {photo.name for photo in world.photos} | {golden_world.truncated, golden_world.corrupt}
    assert {path.name for path in world.photos_folder.iterdir()} == listed
    assert len(world.photos) == 41
    assert golden_world.rotated in world.positives[0]


def test_rotated_photo_looks_like_its_upright_twin_once_turned(golden_world):
    world = golden_world.world
    turned = upright(world.photos_folder / golden_world.rotated)
    twin = upright(world.photos_folder / world.positives[0][0])
    with Image.open(world.photos_folder / golden_world.rotated) as stored:
        assert stored.size == turned.shape[:2]
    assert turned.shape == twin.shape
    assert np.abs(turned.astype(int) - twin).mean() < 6


def test_bad_files_do_not_decode(golden_world):
    for name in (golden_world.truncated, golden_world.corrupt):
        with pytest.raises(OSError), Image.open(golden_world.world.photos_folder / name) as image:
            image.load()


def test_homographies_agree_with_the_pixels(golden_world):
    world = golden_world.world
    photos = {photo.name: photo for photo in world.photos}
    query, easy = (photos[name] for name in (world.queries[2], world.positives[2][0]))
    between = query.homography @ np.linalg.inv(easy.homography)
    a, b = (cv2.cvtColor(upright(world.photos_folder / p.name), cv2.COLOR_RGB2GRAY) for p in (query, easy))
    mapped = cv2.warpPerspective(b, between, a.shape[::-1])
    inside = np.zeros(a.shape, np.uint8)
    cv2.fillConvexPoly(inside, query.corners.round().astype(np.int32), 1)
    inside = cv2.erode(inside, np.ones((15, 15))) & (mapped > 0)
    assert np.corrcoef(a[inside > 0], mapped[inside > 0])[0, 1] > 0.9
