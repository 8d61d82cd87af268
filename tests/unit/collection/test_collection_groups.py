"""Photos by the thing they show."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from photo_factory import SMALL, make_photos, spoil
from resight.collection import create_collection
from resight.collection.groups import proven_groups
from resight.reports.groups_page import ShownGroup, groups_page


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Four things in three views each, one of them copied twice, one thing alone, one copied without a second view."""
    base = tmp_path_factory.mktemp("groups")
    photos = make_photos(base / "photos", objects=6)
    for name in (*photos.groups[4][1:], *photos.groups[5][1:]):
        (photos.folder / name).unlink()
    shutil.copy(photos.folder / photos.groups[0][0], photos.folder / "first-copy.jpg")
    shutil.copy(photos.folder / photos.groups[5][0], photos.folder / "last-copy.jpg")
    spoil(photos.folder)
    made = create_collection(base / "c.resight", "classic", {**SMALL, "count": 400})
    made.add([photos.folder])
    return made, photos


def test_views_of_one_thing_are_one_group(collection):
    made, photos = collection
    told = []
    groups = proven_groups(made, progress=lambda *step: told.append(step))
    expected = [{*photos.groups[0], "first-copy.jpg"}, *map(set, photos.groups[1:4])]
    found = [set(group.ids) for group in groups]
    assert {photos.groups[5][0], "last-copy.jpg"} in found
    for group in expected:
        assert group in found
    assert not any(photos.groups[4][0] in group for group in found)
    assert [len(group.ids) for group in groups] == sorted((len(group) for group in found), reverse=True)
    assert told[-1][1] == told[-1][2]


def test_a_group_says_what_joins_it(collection):
    made, photos = collection
    groups = {frozenset(group.ids): group for group in proven_groups(made)}
    views = groups[frozenset(photos.groups[1])]
    assert all(count is not None and count >= 5 for count in views.inliers)


def test_nothing_to_group(tmp_path):
    made = create_collection(tmp_path / "c.resight", "classic", SMALL)
    assert proven_groups(made) == []
    made.add([make_photos(tmp_path / "photos", objects=3, views=1).folder])
    assert proven_groups(made) == []


def test_the_page_shows_every_photo_and_says_what_is_gone(collection, tmp_path):
    made, photos = collection
    path = Path(made.snapshot.photo(made.ids[photos.groups[2][0]])["path"])
    path.rename(tmp_path / "elsewhere.jpg")
    try:
        shown = [ShownGroup("3 photos of <one> thing", photos.groups[2], ["9 inliers"] * 3)]
        page = groups_page(made, "What is here?", shown, ["Meaning."], "Nothing.")
    finally:
        (tmp_path / "elsewhere.jpg").rename(path)
    assert "3 photos of &lt;one&gt; thing" in page
    assert page.count("9 inliers") == 3
    assert page.count("<img ") == 2
    assert page.count("The file is gone") == 1
    assert "Nothing." not in page
    assert "Nothing." in groups_page(made, "What is here?", [], ["Meaning."], "Nothing.")
