"""Tags: set, taken away, searched by, kept when photos change, and refused where they are none."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from photo_factory import SMALL, make_photos, picture, save
from resight.cli import app
from resight.collection import create_collection, open_collection
from resight.collection.check import check_collection
from resight.collection.tags import MOST, tag_counts
from resight.errors import UsageError
from resight.exchange.formats import export
from resight.exchange.request import Request


@pytest.fixture
def made(tmp_path):
    photos = make_photos(tmp_path / "A", objects=3)
    collection = create_collection(tmp_path / "c.resight", "classic", SMALL)
    collection.add([photos.folder])
    return collection, photos.folder


def tags_of(collection, id_):
    return collection.snapshot.photo(collection.snapshot.row_of(id_))["tags"]


def test_tags_are_set_by_id_path_and_row_and_taken_away(made):
    collection, folder = made
    first, second, third, *_ = sorted(collection.ids)
    assert collection.tag([first, folder / second], add=[" beach ", "Ä wide view", "beach"]) == 2
    assert tags_of(collection, first) == tags_of(collection, second) == ["beach", "Ä wide view"]
    assert collection.tag(np.array([collection.ids[third]]), add=["beach"], remove=["none"]) == 1
    assert collection.tag([first], add=["beach"]) == 0
    assert collection.tag([first], remove=["beach"]) == 1
    again = open_collection(collection.path)
    assert tag_counts(again.snapshot.tables) == {"beach": 2, "Ä wide view": 2}
    assert all(finding.ok for finding in check_collection(collection.path))


def test_search_is_limited_to_a_tag_and_finds_as_before(made):
    collection, _ = made
    one = sorted(collection.ids)[0]
    before = [(result.id, result.score) for result in collection.search(one).results]
    collection.tag([before[0][0]], add=["it's"])
    assert [(result.id, result.score) for result in collection.search(one).results] == before
    assert [result.id for result in collection.search(one, where="array_has(tags, 'it''s')").results] == [before[0][0]]


def test_tags_stay_when_a_file_changes_or_moves(made):
    collection, folder = made
    first, second, *_ = sorted(collection.ids)
    collection.tag([first, second], add=["kept"])
    save(folder / first, picture(99))
    (folder / second).rename(folder / "moved.jpg")
    report = collection.add([folder])
    assert (report.updated, report.moved) == (1, 1)
    assert tags_of(collection, first) == tags_of(collection, second) == ["kept"]


def test_tags_are_exported(made, tmp_path):
    collection, _ = made
    one = sorted(collection.ids)[0]
    collection.tag([one], add=["beach"])
    export("parquet", Request(collection, tmp_path / "p.parquet"))
    table = pq.read_table(tmp_path / "p.parquet", columns=["id", "tags"]).to_pylist()
    assert {row["id"]: row["tags"] for row in table}[one] == ["beach"]


@pytest.mark.parametrize("tag", ["", "  ", "a\nb", "x" * 101, "\x1b[31m"])
def test_what_is_no_tag_is_refused_and_changes_nothing(made, tag):
    collection, _ = made
    with pytest.raises(UsageError, match="is no tag"):
        collection.tag(sorted(collection.ids), add=["good", tag])
    assert tag_counts(collection.snapshot.tables) == {}


def test_unknown_photos_contradictions_and_too_many_are_refused(made):
    collection, _ = made
    one = sorted(collection.ids)[0]
    with pytest.raises(UsageError, match="neither the id nor the file"):
        collection.tag([one, "nothing.jpg"], add=["a"])
    with pytest.raises(UsageError, match="added and removed"):
        collection.tag([one], add=["a"], remove=["a"])
    with pytest.raises(UsageError, match=f"at most {MOST}"):
        collection.tag([one], add=[str(number) for number in range(MOST + 1)])
    with pytest.raises(UsageError, match="give a list"):
        collection.tag([one], add="beach")
    assert tag_counts(collection.snapshot.tables) == {}


def test_vectors_stay_where_a_photo_is_tagged(world, tmp_path):
    collection = world.copy("gem", tmp_path)
    rows, vectors = collection.vectors()
    collection.tag(sorted(collection.ids)[:5], add=["a"])
    again, same = open_collection(collection.path).vectors()
    assert np.array_equal(rows, again)
    assert np.array_equal(vectors, same)


def test_command_sets_lists_and_says_what_is_missing(made):
    collection, folder = made
    path, run = str(collection.path), CliRunner()
    one = sorted(collection.ids)[0]
    assert "no tags" in run.invoke(app, ["tag", path]).stdout
    done = run.invoke(app, ["tag", path, one, "--add", "a", "--add", "b", "--json"])
    assert json.loads(done.stdout) == {"changed": 1, "meant": 1}
    assert run.invoke(app, ["tag", path, "--where", "width > 0", "--add", "all"]).exit_code == 0
    assert run.invoke(app, ["tag", path, str(folder / one), "--remove", "b"]).exit_code == 0
    listed = json.loads(run.invoke(app, ["tag", path, "--json"]).stdout)
    assert listed == {"tags": {"a": 1, "all": len(collection.ids)}}
    for wrong in ([one], ["--add", "a"], [one, "--where", "width > 0", "--add", "a"]):
        assert run.invoke(app, ["tag", path, *wrong]).exit_code == 2


def test_tags_of_fiftyone_come_in(made, tmp_path):
    collection, _ = made
    one, other, *_ = sorted(collection.ids)
    collection.tag([one], add=["beach", "b"])
    export("fiftyone", Request(collection, tmp_path / "fo", top=1))
    run = CliRunner()
    path = str(tmp_path / "d.resight")
    done = run.invoke(app, ["index", str(tmp_path / "fo" / "samples.json"), "--to", path, "--set", "words=64"])
    assert done.exit_code == 0, done.output
    again = open_collection(path)
    assert tags_of(again, one) == ["b", "beach"]
    assert tags_of(again, other) == []
