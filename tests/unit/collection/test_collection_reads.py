"""What opening, searching and adding read of the tables of a large collection: what they need, never a whole column."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pytest

from photo_factory import SMALL, make_photos
from resight.artifacts import files
from resight.collection import create_collection, open_collection
from resight.collection.check import check_collection
from resight.store import scalar_indices, tables
from resight.store.records import local_batch
from resight.store.tables import Tables
from resight.store.writer import writing

WHOLE = ("_photos", "_features")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A collection of 24 photos that is stored as large ones are, and two photos that come later."""
    base = tmp_path_factory.mktemp("reads")
    photos, more = make_photos(base / "photos", objects=12, views=2), make_photos(base / "more", objects=1, first=50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scalar_indices, "FEWEST", 8)
        create_collection(base / "c.resight", "classic", SMALL).add([photos.folder])
    return base, photos, more


@pytest.fixture
def path(world, tmp_path, monkeypatch):
    monkeypatch.setattr(scalar_indices, "FEWEST", 8)
    monkeypatch.setattr(tables, "WHOLE", 0)
    shutil.copytree(world[0] / "c.resight", tmp_path / "c.resight")
    return tmp_path / "c.resight"


@pytest.fixture
def strict(monkeypatch):
    """Reading whole columns, or going through all rows, is an error."""

    def whole(*_):
        raise AssertionError("a table was read whole")

    for name in WHOLE:
        monkeypatch.setattr(Tables, name, property(whole))
    monkeypatch.setattr(Tables, "stream", whole)
    monkeypatch.setattr(Tables, "images", whole)


@pytest.mark.usefixtures("strict")
def test_searching_reads_what_it_needs(path, world):
    collection = open_collection(path)
    assert len(collection.ids) == 24
    assert "003-1.jpg" in collection.ids
    for query in ("003-1.jpg", world[1].folder / "003-0.jpg", next(world[2].folder.glob("*.jpg"))):
        answer = collection.search(query, top=5)
        assert len(answer.results)
    assert collection.search("003-1.jpg").results[0].id == "003-0.jpg"
    assert collection.explain("003-1.jpg", "003-0.jpg").result.match
    assert collection.search("003-1.jpg", where="contains(uri, '/004-')").results[0].id.startswith("004-")


@pytest.mark.usefixtures("strict")
def test_adding_reads_what_it_needs(path, world):
    collection = open_collection(path)
    report = collection.add([world[2].folder])
    assert report.added == len(list(world[2].folder.glob("*.jpg")))
    assert collection.add([world[2].folder]).unchanged == report.added
    assert (collection.pending, collection.snapshot.finished) == (0, True)
    assert collection.search("050-0.jpg").results[0].id.startswith("050-")


def test_what_was_added_so_is_what_comparing_finds(path, world):
    collection = open_collection(path)
    collection.add([world[2].folder])
    for rows in collection.snapshot.compared():
        assert not len(rows)
    assert not [finding for finding in check_collection(path) if not finding.ok]


def test_ids_are_a_mapping_that_holds_nothing(path):
    ids = open_collection(path).ids
    plain = {id_: ids[id_] for id_ in ids}
    assert dict(ids.items()) == plain == dict(zip(ids, ids.values(), strict=True))
    assert len(ids) == len(plain) == 24
    assert ids.get("no such id") is None
    assert 7 not in ids
    with pytest.raises(KeyError):
        ids["no such id"]


@pytest.mark.parametrize("change", ["add", "remove", "both"])
def test_a_state_that_was_not_followed_is_compared(path, change):
    """Tables that changed behind the artifacts' back, as a run leaves them that is killed."""
    collection = open_collection(path)
    rows, table = collection.snapshot.tables.rows, collection.snapshot.tables
    with writing(path, "test") as writer:
        if change in ("add", "both"):
            images = table.images(None).slice(0, 1).to_pydict()
            copy_row(writer, table, images)
        if change in ("remove", "both"):
            writer.remove_rows(rows[3:4])
    gone, lacking = open_collection(path).snapshot.differences
    assert gone.tolist() == ([rows[3]] if change != "add" else [])
    assert lacking.tolist() == ([table.next_row] if change != "remove" else [])


def copy_row(writer, table, images):
    """Append a photo like that of `images` under another id."""
    old = images["row"][0]
    images = {**images, "row": [writer.next_row], "id": ["copy"]}
    schema = table.images_dataset.schema
    local = local_batch([writer.next_row], table.counts([old]), table.local([old]))
    writer.append_photos(pa.table([pa.array(images[f.name], f.type) for f in schema], schema=schema), local)


@pytest.mark.parametrize("content", [[], {"next_row": -1}, {"next_row": 24, "live": 24, "photos": 3, "features": {}}])
def test_a_state_that_makes_no_sense_is_not_believed(path, content):
    with writing(path, "test") as writer:
        files.write_json(writer, files.FOLLOWED, content)
    snapshot = open_collection(path).snapshot
    assert [len(rows) for rows in snapshot.differences] == [0, 0]
    assert np.array_equal(snapshot.tables.rows, np.arange(24))


def test_a_stopped_run_is_not_taken_for_a_finished_one(path, world):
    """Another writer's note that it is at work makes the next one compare, though numbers fit."""
    with writing(path, "test") as writer:
        files.write_json(writer, files.UNFINISHED, {"writer": "another"})
    collection = open_collection(path)
    assert not collection.snapshot.finished
    collection.add([world[2].folder])
    assert collection.snapshot.finished
    assert not [finding for finding in check_collection(path) if not finding.ok]
