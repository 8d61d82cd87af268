from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from photo_factory import SMALL, homography, make_photos, picture, save, spoil
from resight.collection import create_collection
from resight.collection.duplicates import exact_duplicates, near_duplicates


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    base = tmp_path_factory.mktemp("duplicates")
    folder = make_photos(base / "photos", objects=6, views=1).folder
    shutil.copy(folder / "001-0.jpg", folder / "001-copy.jpg")
    shutil.copy(folder / "001-0.jpg", folder / "001-again.jpg")
    first = Image.open(folder / "002-0.jpg")
    first.resize((224, 168), Image.Resampling.LANCZOS).save(folder / "002-small.jpg", quality=85)
    pixels = np.asarray(first)
    save(folder / "002-crop.jpg", pixels[20:, 30:])
    save(folder / "002-dark.jpg", (pixels * 0.7).astype(np.uint8), quality=70)
    Image.open(folder / "004-0.jpg").transpose(Image.Transpose.ROTATE_90).save(folder / "004-turned.jpg")
    wall = picture(300, 480, 640)
    wall[40:280, 50:370] = picture(5)  # the same thing somewhere else: no duplicate
    save(folder / "005-elsewhere.jpg", wall)
    shutil.copy(folder / spoil(folder)[0], folder / "empty-too.jpg")
    made = create_collection(base / "c.resight", "classic", {**SMALL, "count": 400})
    made.add([folder])
    return made


def test_exact_duplicates_by_content(collection):
    assert sorted(sorted(group) for group in exact_duplicates(collection)) == [
        ["001-0.jpg", "001-again.jpg", "001-copy.jpg"],
        ["empty-too.jpg", "empty.jpg"],
    ]


def test_near_duplicates_by_geometry(collection):
    told = []
    groups = near_duplicates(collection, progress=lambda *step: told.append(step))
    assert sorted(sorted(group) for group in groups) == [
        ["002-0.jpg", "002-crop.jpg", "002-dark.jpg", "002-small.jpg"],
        ["004-0.jpg", "004-turned.jpg"],
    ]
    assert told[-1] == ("comparing photos", 15, 15)
    assert homography(0).tolist() == np.eye(3).tolist()


def test_no_duplicates(tmp_path):
    photos = make_photos(tmp_path / "photos", objects=3, views=1)
    made = create_collection(tmp_path / "c.resight", "classic", SMALL)
    made.add([photos.folder])
    assert exact_duplicates(made) == []
    assert near_duplicates(made) == []


def test_an_empty_collection(tmp_path):
    made = create_collection(tmp_path / "c.resight", "classic", SMALL)
    assert exact_duplicates(made) == []
    assert near_duplicates(made) == []
