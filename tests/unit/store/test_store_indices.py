"""Scalar indices: found through them is what reading whole columns finds, and no more than that is read."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import lance
import numpy as np
import pyarrow as pa
import pytest
from store_samples import append, packed_of

from resight.errors import CollectionError, UsageError
from resight.store import scalar_indices, tables
from resight.store.check import check_tables, repair_tables
from resight.store.folder import IMAGES, LOCAL, table_uri
from resight.store.tables import Tables, open_tables
from resight.store.writer import Writer, writing

PHOTOS = 300


@pytest.fixture
def small(monkeypatch):
    """Indices and look-ups as large collections have them, in small ones."""
    monkeypatch.setattr(scalar_indices, "FEWEST", 16)
    monkeypatch.setattr(tables, "WHOLE", 0)


@pytest.fixture
def many(make, small):  # noqa: ARG001
    folder = make()
    with writing(folder, "test") as writer:
        append(writer, [f"p{k}" for k in range(PHOTOS)], broken=[f"p{k}" for k in range(0, PHOTOS, 50)])
    return folder


@pytest.fixture
def reads(monkeypatch):
    """Every read of a data set: its plan, and how many rows came of it."""
    seen: list[tuple[str, int]] = []
    whole = Tables._read

    def read(self, dataset, columns, condition=None, address=False):
        table = whole(self, dataset, columns, condition, address)
        seen.append((dataset.scanner(columns=list(columns), filter=condition).explain_plan(), len(table)))
        return table

    monkeypatch.setattr(Tables, "_read", read)
    monkeypatch.setattr(Tables, "stream", Mock(side_effect=AssertionError("a table was read whole")))
    return seen


def indices(folder, name):
    found = lance.dataset(table_uri(folder, name)).describe_indices()
    return {index.name: index.num_rows_indexed for index in found}


def test_the_writer_indexes_both_tables(many):
    names = {f"{column}_{kind.lower()}" for column, kind in scalar_indices.INDICES[IMAGES]}
    assert indices(many, IMAGES) == dict.fromkeys(names, PHOTOS)
    assert indices(many, LOCAL) == {"row_btree": PHOTOS - 6}


def test_small_collections_have_no_indices(make):
    assert not indices(make("a", "b"), IMAGES)


def test_what_is_found_is_what_whole_columns_hold(many):
    with writing(many, "test") as writer:
        append(writer, ["new", "p7"])  # behind the indices, one in the place of another
        writer.remove_rows([3, 4])
    looked, whole = open_tables(many), open_tables(many)
    assert whole._photos  # from now on it looks nothing up
    assert whole._features
    assert (len(looked), looked.readable) == (len(whole.rows), len(whole.feature_rows))
    assert looked.next_row == whole.rows[-1] + 1
    asked = np.array([301, 9, 201, 9])
    assert looked.local(asked) == whole.local(asked) == [packed_of(row) for row in asked.tolist()]
    assert looked.counts(asked).tolist() == whole.counts(asked).tolist()
    every = np.arange(PHOTOS + 2)
    assert looked.decoded(every).tolist() == np.isin(every, whole.feature_rows).tolist()
    assert "_photos" not in looked.__dict__
    for row in (3, 50, 7, 999):  # removed, broken, replaced, never there
        for one in (looked, whole):
            with pytest.raises(UsageError, match=f"row {row} has no features"):
                one.local([row])


def test_searching_and_adding_read_only_what_they_need(many, reads):
    found = open_tables(many)
    assert found.find("id", ["p5", "p77"], ["row"])["row"].to_pylist() == [5, 77]
    assert found.find("path_bytes", [b"/photos/p5"], ["row"])["row"].to_pylist() == [5]
    found.find("sha256", [f"{5:064x}"], ["row"])
    found.find("size", [5], ["row"])
    found.local([5, 6, 7])
    found.decoded([50])
    with writing(many, "test") as writer:
        append(writer, ["p5", "new"])
        writer.remove_rows([9])
    assert len(reads) > 8
    for plan, rows in reads:
        assert "ScalarIndexQuery" in plan, plan
        assert rows <= 5


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("contains(uri, 'p29')", [29, *range(290, 300)]),
        ("uri LIKE '%photos/p29'", [29]),
        ("error_kind IS NOT NULL", list(range(0, PHOTOS, 50))),
        ("row >= 297 AND size < 299", [297, 298]),
        ("array_has(tags, 'sea')", []),
        ("taken_at > '2020'", []),
    ],
)
def test_conditions_go_through_indices(many, condition, rows):
    dataset = open_tables(many).images_dataset
    scanner = dataset.scanner(columns=["row"], filter=condition)
    assert scanner.to_table()["row"].to_pylist() == rows
    plan = scanner.explain_plan()
    assert "ScalarIndexQuery" in plan or condition.startswith("row >= "), plan


def test_many_values_are_picked_from_the_stream(many, monkeypatch):
    monkeypatch.setattr(tables, "ASKED", 4)
    found = open_tables(many).find("id", [f"p{k}" for k in range(20, 60)], ["row"])
    assert found["row"].to_pylist() == list(range(20, 60))
    few = open_tables(many).find("id", ["p9", "p1", "p3", "p2", "p5"], ["id"])  # more than are asked for at a time
    assert few["id"].to_pylist() == ["p1", "p2", "p3", "p5", "p9"]


def test_a_damaged_index_is_told_and_made_again(many):
    file = next((many / "images.lance" / "_indices").glob("*/page_data.lance"))
    file.write_bytes(file.read_bytes()[:-40] + b"x" * 40)
    wrong = {finding.name for finding in check_tables(many) if not finding.ok}
    assert "indices" in wrong
    assert all(finding.ok for finding in repair_tables(many))
    assert open_tables(many).find("id", ["p77"], ["row"])["row"].to_pylist() == [77]


def test_leftovers_hide_behind_lost_features_until_repair(many):
    """As many features without a photo as photos without features: the counts alone do not tell."""
    dataset = lance.dataset(table_uri(many, LOCAL))
    orphan = dataset.to_table(columns=["row", "count", "crc32"]).slice(0, 1).to_pydict()
    orphan = {**orphan, "row": [900], "packed": [b"none"]}
    lance.write_dataset(lance_table(orphan, dataset), dataset.uri, mode="append")
    lance.dataset(dataset.uri).delete("row = 7")
    assert {f.name for f in check_tables(many) if not f.ok} == {"leftovers", "features"}
    assert all(finding.ok for finding in repair_tables(many))


def lance_table(columns, dataset):
    return pa.table([pa.array(columns[f.name], f.type) for f in dataset.schema], schema=dataset.schema)


TIDIER = """
import sys
from datetime import timedelta
from store_samples import append
from resight.store import scalar_indices, writer as w

scalar_indices.FEWEST, w.READER_GRACE = 8, timedelta(0)
with w.writing(sys.argv[1], "tidier") as writer:
    append(writer, [f"{sys.argv[2]}-{k}" for k in range(40)])
    print("ready", flush=True)
    while True:
        append(writer, [f"{sys.argv[2]}-x"])
        writer.tidy()
        writer.rebuild_indices()
"""


def killed_while_tidying(folder: Path, name: str, seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", TIDIER, str(folder), name], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.kill()
    process.stdout.close()
    assert process.wait() == -9


@pytest.mark.usefixtures("small")
def test_killed_while_compacting_and_indexing(make):
    folder = make()
    for number in range(6):
        killed_while_tidying(folder, f"k{number}", 0.03 + 0.07 * number)
        looked = open_tables(folder)
        ids = looked.images(["id", "row"])
        assert len(ids) in (41 * number + 40, 41 * number + 41)
        for id_, row in list(zip(ids["id"].to_pylist(), ids["row"].to_pylist(), strict=True))[:: 1 + number * 5]:
            assert looked.find("id", [id_], ["row"])["row"].to_pylist() == [row]
            assert looked.local([row]) == [packed_of(row)]
        assert {finding.name for finding in check_tables(folder) if not finding.ok} <= {"leftovers"}
        with writing(folder, "test") as writer:
            append(writer, [f"k{number}-x"])
    assert all(finding.ok for finding in check_tables(folder))


def test_a_reader_keeps_its_state_while_others_compact(many):
    before = open_tables(many)
    with writing(many, "test") as writer:
        append(writer, ["p7"])
        writer.tidy()
        assert isinstance(writer, Writer)
    assert before.find("id", ["p7"], ["row"])["row"].to_pylist() == [7]
    assert before.local([7]) == [packed_of(7)]
    assert open_tables(many).find("id", ["p7"], ["row"])["row"].to_pylist() == [PHOTOS]


def test_two_writers_at_once_are_found_out(many, monkeypatch):
    """As where a lease failed: Lance lets both commit."""
    find = Tables.find

    def slow(self, column, values, columns=None):
        if column == "id":
            lance.dataset(table_uri(many, IMAGES)).update_config({"other": "writer"})
        return find(self, column, values, columns)

    with writing(many, "test") as writer:
        append(writer, ["fine", "p5"])
        monkeypatch.setattr(Tables, "find", slow)
        with pytest.raises(CollectionError, match="another process wrote"):
            append(writer, ["new"])
