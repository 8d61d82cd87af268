"""Few photographs, or those of one place: what is proven is a match, and a stranger is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from resight.collection import create_collection, open_collection
from resight.ranking.confidence import LEAST_THRESHOLD, MOST_THRESHOLD

DATA = Path(__file__).parents[2] / "../shared/data"
LANDMARKS, HOLIDAYS = DATA / "landmarks", DATA / "holidays/images"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (LANDMARKS.is_dir() and HOLIDAYS.is_dir()), reason=f"no photographs at {LANDMARKS} and {HOLIDAYS}"
    ),
]


def holidays(count, first=0):
    return sorted(HOLIDAYS.glob("*.jpg"))[first : first + count]


def photos_of(name):
    """Sets of photographs of which too little is learned about unrelated ones."""
    kind, _, count = name.partition(" ")
    if kind == "mixed":
        return holidays(int(count))
    return sorted((LANDMARKS / kind).iterdir())[: int(count)]


def matches(collection, query):
    return {result.id for result in collection.search(query, top=100).results if result.match}


@pytest.mark.parametrize(
    "name", [*(f"mixed {n}" for n in (1, 2, 3, 6, 8, 10, 15)), "sacre_coeur 10", "lund 16", "et 9", "kermit 11"]
)
def test_the_same_picture_is_a_match_and_a_stranger_is_none(tmp_path, name):
    photos = photos_of(name)
    collection = create_collection(tmp_path / "c.resight")
    assert collection.add(photos).added == len(photos)
    assert LEAST_THRESHOLD <= collection.threshold <= MOST_THRESHOLD
    for photo in photos[:: max(len(photos) // 4, 1)]:
        with Image.open(photo) as picture:
            picture.convert("RGB").save(tmp_path / "same.png")  # another file with the same picture
        assert photo.name in matches(collection, tmp_path / "same.png")
    assert [matches(collection, stranger) for stranger in holidays(4, first=500)] == [set()] * 4


def test_twenty_black_photos_hide_nothing(tmp_path):
    for number in range(20):
        Image.new("RGB", (325, 243)).save(tmp_path / f"{number}.png")
    good = holidays(6)
    collection = create_collection(tmp_path / "c.resight")
    collection.add([*(tmp_path / f"{number}.png" for number in range(20)), *good])
    for photo in good:
        with Image.open(photo) as picture:
            picture.convert("RGB").save(tmp_path / "same.jpg", quality=95)
        assert photo.name in matches(collection, tmp_path / "same.jpg")


def test_ten_batches_end_where_one_index_does(tmp_path):
    photos = holidays(120)
    once = create_collection(tmp_path / "once.resight")
    once.add(photos)
    for start in range(0, 120, 12):
        name = tmp_path / "ten.resight"
        (open_collection(name) if name.exists() else create_collection(name)).add(photos[start : start + 12])
    ten = open_collection(tmp_path / "ten.resight")
    assert len(ten.snapshot.index.codebook) == len(once.snapshot.index.codebook)
    answers = [(matches(once, photo.name), matches(ten, photo.name)) for photo in photos[::4]]
    same = sum(left == right for left, right in answers)
    assert same >= 0.9 * len(answers)
    ten.relearn()
    assert ten.snapshot.index.codebook.fingerprint == once.snapshot.index.codebook.fingerprint
    assert ten.snapshot.confidence == once.snapshot.confidence
