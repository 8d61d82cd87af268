"""Photos that move, names that meet, and files whose reader comes later."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from photo_factory import SMALL, make_photos
from resight.cli import app
from resight.collection import create_collection, open_collection
from resight.images import decode as decoding


@pytest.fixture
def made(tmp_path):
    photos = make_photos(tmp_path / "A", objects=4)
    collection = create_collection(tmp_path / "c.resight", "classic", SMALL)
    collection.add([photos.folder])
    return collection, photos.folder


def test_a_moved_folder_keeps_ids_and_doubles_nothing(made, tmp_path):
    collection, folder = made
    ids, before = dict(collection.ids), len(collection.snapshot.tables)
    found = [result.id for result in collection.search(sorted(ids)[0]).results]
    folder.rename(tmp_path / "B")
    report = collection.add([tmp_path / "B"])
    assert (report.added, report.moved) == (0, len(ids) - len(report.problems))
    again = open_collection(collection.path)
    assert len(again.snapshot.tables) == before
    assert set(again.ids) == set(ids)
    assert [result.id for result in again.search(sorted(ids)[0]).results] == found
    row = again.snapshot.row_of(sorted(ids)[0])
    assert again.snapshot.photo(row)["path"] == str(tmp_path / "B" / sorted(ids)[0])
    assert again.add([tmp_path / "B"]).moved == 0


def test_a_renamed_photo_keeps_its_id_and_a_copy_is_another_one(made):
    collection, folder = made
    name = sorted(collection.ids)[0]
    (folder / name).rename(folder / "renamed.jpg")
    other = sorted(collection.ids)[1]
    shutil.copy(folder / other, folder / "copy.jpg")
    report = collection.add([folder])
    assert (report.moved, report.added) == (1, 1)
    assert collection.snapshot.photo(collection.snapshot.row_of(name))["path"] == str(folder / "renamed.jpg")
    assert "copy.jpg" in collection.ids


def test_an_absent_folder_is_not_forgotten_by_mistake(made, tmp_path):
    collection, folder = made
    folder.rename(tmp_path / "unplugged")
    run = CliRunner()
    told = run.invoke(app, ["remove", str(collection.path), "--missing"])
    assert told.exit_code == 2
    assert "is not there" in told.output
    assert len(open_collection(collection.path).snapshot.tables) == len(collection.snapshot.tables)
    assert run.invoke(app, ["remove", str(collection.path), "--missing", "--folders"]).exit_code == 0
    assert len(open_collection(collection.path).snapshot.tables) == 0


def test_a_photo_is_read_once_its_reader_is_there(tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    folder.mkdir()
    pillow_heif = pytest.importorskip("pillow_heif")
    pixels = np.random.default_rng(0).integers(0, 255, (64, 80, 3), np.uint8)
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(folder / "a.heic")
    collection = create_collection(tmp_path / "c.resight", "classic", SMALL)

    def absent(name):
        raise decoding.ReaderMissing(f"{name} needs an extra")

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "_heic_reader", absent)
        assert [problem.kind for problem in collection.add([folder]).problems] == ["reader-missing"]
    report = collection.add([folder])
    assert not report.problems
    assert report.updated == 1


def test_names_that_meet_in_three_folders(tmp_path):
    collection = create_collection(tmp_path / "c.resight", "classic", SMALL)
    names = (b"caf%E9.jpg", b"caf\xe9.jpg")
    for number, root in enumerate(("x/p", "y/p", "z/p")):
        for kind, name in enumerate(names):
            place = os.path.join(os.fsencode(tmp_path), os.fsencode(root), name)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            colour = (40 * number, 80 * kind, 100)
            with open(place, "wb") as file:
                Image.new("RGB", (32, 32), colour).save(file, "JPEG")
    report = collection.add([tmp_path / root for root in ("x/p", "y/p", "z/p")])
    assert report.added == 6
    assert len(set(collection.ids)) == 6


def test_an_indexed_photo_by_its_path_is_itself_first(made, tmp_path):
    collection, folder = made
    name = sorted(collection.ids)[0]
    copy = tmp_path / "elsewhere.jpg"
    shutil.copy(folder / name, copy)
    by_path, by_id = collection.search(str(copy), top=30), collection.search(name, top=30)
    assert by_path.results[0].id == name
    assert by_path.results[0].match
    assert [result.id for result in by_path.results[1:]] == [result.id for result in by_id.results]
    scores = [result.score for result in by_path.results]
    assert scores == sorted(scores, reverse=True)


def test_a_query_without_features_finds_nothing(made, tmp_path):
    collection, _ = made
    Image.new("RGB", (200, 200), (120, 120, 120)).save(tmp_path / "plain.png")
    answer = collection.search(str(tmp_path / "plain.png"))
    assert answer.results == ()
    assert not answer.confident
