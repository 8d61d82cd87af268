from __future__ import annotations

import os
import shutil

import lance
import numpy as np
import pyarrow as pa
import pytest
from store_samples import append, count_of, packed_of

from resight.errors import ArrayError, CollectionError, CollectionNotFound, UsageError
from resight.store import tables as tables_module
from resight.store.records import IMAGES_SCHEMA
from resight.store.stamp import read_stamp
from resight.store.tables import create, open_tables
from resight.store.writer import writing


def test_new_collection_is_empty(make, stamp):
    folder = make()
    tables = open_tables(folder)
    assert read_stamp(folder) == stamp
    assert (len(tables), tables.next_row, tables.local([]), tables.feature_rows.tolist()) == (0, 0, [], [])
    assert tables.images().schema == IMAGES_SCHEMA
    assert sorted(os.listdir(folder)) == ["derived", "images.lance", "local.lance", "stamp.copy.json", "stamp.json"]
    assert os.listdir(folder.parent) == [folder.name]


def test_create_takes_no_place_that_is_taken(make, tmp_path, stamp):
    with pytest.raises(UsageError, match="already exists"):
        create(make(), stamp)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="exists and is no collection"):
        create(tmp_path / "folder", stamp)
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(UsageError, match="exists and is no collection"):
        create(tmp_path / "dangling", stamp)
    with pytest.raises(UsageError, match=r"there is no folder .*missing, make it first"):
        create(tmp_path / "missing" / "c.resight", stamp)


def test_create_is_all_or_nothing(tmp_path, stamp, monkeypatch):
    def fail(*_, **__):
        raise OSError("LanceError(IO): No space left on device (os error 28)")

    monkeypatch.setattr(tables_module.lance, "write_dataset", fail)
    with pytest.raises(CollectionError, match="disk is full"):
        create(tmp_path / "c.resight", stamp)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["sp ace", "100%20", "ha#sh?", "ünï 日本", "a:b", "q'uote", "st*r[x]"])
def test_any_name(make, name):
    folder = make("a", name=name)
    assert open_tables(folder).local([0]) == [packed_of(0)]
    assert os.listdir(folder.parent) == [name]


def test_a_path_used_again_shows_the_new_collection(make):
    shutil.rmtree(make("a"))
    folder = make("b", "c")
    assert open_tables(folder).images(["id"])["id"].to_pylist() == ["b", "c"]


def test_images_are_sorted_by_row_with_the_columns_asked_for(make):
    folder = make("a", "b", "c", "d")
    with writing(folder, "test") as writer:
        append(writer, ["c", "x", "a"])  # replaces by merging, which keeps no order
    tables = open_tables(folder)
    table = tables.images(["id", "row"])
    assert table.column_names == ["id", "row"]
    assert table["row"].to_pylist() == [1, 3, 4, 5, 6] == tables.rows.tolist()
    assert table["id"].to_pylist() == ["b", "d", "c", "x", "a"]
    assert tables.images(["id"]).column_names == ["id"]
    with pytest.raises(UsageError, match="no column 'colour': it has row, id"):
        tables.images(["colour"])


def test_local_comes_in_the_order_asked(make):
    tables = open_tables(make(*"abcdefgh"))
    asked = [5, 0, 7, 5, 2]
    assert tables.local(asked) == [packed_of(row) for row in asked]
    assert tables.counts(asked).tolist() == [count_of(row) for row in asked]


def test_rows_without_features_are_named(make):
    folder = make("a", "b", "c")
    with writing(folder, "test") as writer:
        append(writer, ["bad", "good"], broken=["bad"])
        writer.remove_rows([1])
    tables = open_tables(folder)
    assert tables.rows.tolist() == [0, 2, 3, 4]
    assert tables.feature_rows.tolist() == [0, 2, 4]
    for row in (1, 3, 5, -1):
        with pytest.raises(UsageError, match=f"row {row} has no features"):
            tables.local([0, row])
    with pytest.raises(ArrayError, match="rows"):
        tables.local([0.5])


def test_lost_features_are_named(make):
    folder = make("a", "b", "c")
    lance.dataset(folder / "local.lance").delete("row = 2")
    with pytest.raises(CollectionError, match=r"the features of row 2 are lost in .*: run resight check"):
        open_tables(folder).local([0, 2])
    lance.dataset(folder / "local.lance").delete("true")
    with pytest.raises(CollectionError, match="row 0 are lost"):
        open_tables(folder).local([0])


def test_features_without_photo_are_not_seen(make):
    folder = make("a", "b", "c")
    lance.dataset(folder / "images.lance").delete("row = 1")
    tables = open_tables(folder)
    assert tables.feature_rows.tolist() == [0, 2]
    with pytest.raises(UsageError, match="row 1 has no features"):
        tables.local([1])


def test_a_snapshot_stays_as_it_is(make):
    folder = make("a", "b")
    before = open_tables(folder)
    with writing(folder, "test") as writer:
        during = writer.tables
        append(writer, ["c", "a"])
        writer.remove_rows([1])
        writer.tidy()
    for tables in (before, during):
        assert tables.images(["id"])["id"].to_pylist() == ["a", "b"]
        assert tables.local([1, 0]) == [packed_of(1), packed_of(0)]
        assert tables.next_row == 2


def test_opening_needs_a_stamp_and_tables(make, tmp_path):
    with pytest.raises(CollectionNotFound):
        open_tables(tmp_path / "none")
    folder = make("a")
    shutil.rmtree(folder / "local.lance")
    with pytest.raises(CollectionError, match=r"cannot open table local of .*c\.resight"):
        open_tables(folder)


def test_a_table_of_other_columns_is_refused(make):
    folder = make("a")
    lance.dataset(folder / "images.lance").drop_columns(["sha256"])
    with pytest.raises(CollectionError, match=r"table images .* has no column sha256 of type string"):
        open_tables(folder)


def test_damaged_manifest(make):
    folder = make("a")
    for manifest in (folder / "images.lance" / "_versions").glob("*.manifest"):
        manifest.write_bytes(b"")
    with pytest.raises(CollectionError, match="cannot open table images"):
        open_tables(folder)


def test_a_column_added_later_is_kept_through_all_writes(make):
    folder = make("a", "b")
    field = pa.field("global", pa.list_(pa.float32(), 2))
    lance.dataset(folder / "images.lance").add_columns(pa.schema([field]))
    with writing(folder, "test") as writer:
        append(writer, ["c"])
        append(writer, ["a", "d"])
        writer.remove_rows([1])
        writer.tidy()
    table = open_tables(folder).images(["id", "global"])
    assert table["id"].to_pylist() == ["c", "a", "d"]
    assert table["global"].to_pylist() == [None] * 3


def test_lancedb_opens_the_table(make):
    lancedb = pytest.importorskip("lancedb")
    folder = make("a", "b")
    table = lancedb.connect(folder).open_table("images").to_arrow()
    assert table["id"].to_pylist() == ["a", "b"]
    assert table["row"].to_pylist() == [0, 1]


def test_readers_write_nothing(make):
    folder = make("a", "b")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    tables = open_tables(folder)
    tables.images()
    tables.local(tables.rows)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_opening_retries_while_a_writer_is_between_its_commits(make, monkeypatch):
    folder = make("a")
    real, calls = tables_module._open_table, []

    def open_table(where, name, schema):
        calls.append(name)
        if len(calls) == 2:  # `images` is open, `local` not yet
            with writing(where, "test") as writer:
                writer.remove_rows([0])
        return real(where, name, schema)

    monkeypatch.setattr(tables_module, "_open_table", open_table)
    assert len(open_tables(folder)) == 0
    np.testing.assert_array_equal(open_tables(folder).stored_rows, [])
