from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import append, packed_of, photo_of

from resight.errors import CollectionError, CollectionLocked, CollectionNotFound, UsageError
from resight.store import writer as writer_module
from resight.store.records import images_batch, local_batch
from resight.store.stamp import new_stamp
from resight.store.tables import create, open_tables
from resight.store.writer import writing


def content(folder):
    """id -> (row, features or None) of all live photos."""
    tables = open_tables(folder)
    table = tables.images(["id", "row"])
    features = dict(zip(tables.feature_rows.tolist(), tables.local(tables.feature_rows), strict=True))
    return {i: (r, features.get(r)) for i, r in zip(table["id"].to_pylist(), table["row"].to_pylist(), strict=True)}


def expected(**rows):
    return {id_: (row, packed_of(row)) for id_, row in rows.items()}


def test_append_and_remove(make):
    folder = make("a", "b", "c")
    with writing(folder, "test") as writer:
        assert append(writer, ["d", "e"]) == [3, 4]
        writer.remove_rows(np.array([3, 0]))
        writer.remove_rows([])
        assert writer.next_row == 5
    assert content(folder) == expected(b=1, c=2, e=4)
    assert open_tables(folder).stored_rows.tolist() == [1, 2, 4]


def test_empty_batches_change_nothing(make):
    folder = make("a")
    with writing(folder, "test") as writer:
        writer.append_photos(images_batch([]), local_batch([], [], []))
    assert content(folder) == expected(a=0)


def test_rows_are_never_used_again(make):
    folder = make("a", "b", "c")
    with writing(folder, "test") as writer:
        writer.remove_rows([1, 2])
        writer.tidy()
    with writing(folder, "test") as writer:
        assert writer.next_row == 3
        writer.remove_rows([0])
    assert open_tables(folder).next_row == 3
    with writing(folder, "test") as writer:
        assert append(writer, ["d"]) == [3]


def test_a_changed_photo_takes_the_place_of_its_older_version_in_one_commit(make, monkeypatch):
    monkeypatch.setattr(writer_module, "MAX_DELETED", 1)
    folder = make("a", "b", "c")
    before = lance.dataset(folder / "images.lance").version
    with writing(folder, "test") as writer:
        append(writer, ["b", "new", "c"], broken=["c"])
    assert lance.dataset(folder / "images.lance").version == before + 1
    assert content(folder) == {**expected(a=0, b=3, new=4), "c": (5, None)}
    assert open_tables(folder).stored_rows.tolist() == [0, 3, 4]


def test_batches_that_do_not_fit_are_refused_and_change_nothing(make):
    folder = make("a", "b")
    ok, features = images_batch([photo_of(2, "x"), photo_of(3, "y")]), local_batch([2, 3], [1, 1], [b"x", b"y"])
    bad = [
        (images_batch([photo_of(1, "x")]), local_batch([1], [1], [b"x"]), "ascend from 2 on, got"),
        (images_batch([photo_of(3, "x"), photo_of(2, "y")]), features, "ascend from 2 on, got"),
        (ok, local_batch([2], [1], [b"x"]), "batches do not fit"),
        (images_batch([photo_of(2, "x"), photo_of(3, "y", "empty")]), features, "batches do not fit"),
        (images_batch([photo_of(2, "x"), photo_of(3, "x")]), features, "only once"),
        (images_batch([photo_of(2, ""), photo_of(3, "x")]), features, "must not be empty"),
        (images_batch([replace(photo_of(2, "x"), id=None), photo_of(3, "y")]), features, "'id' of a batch holds nulls"),
        (ok.drop_columns(["sha256"]), features, "table images lacks column 'sha256'"),
        (ok.append_column("colour", pa.array([1, 2])), features, "table images has the unknown column 'colour'"),
        (ok.set_column(0, "row", pa.array(["p", "q"])), features, "values of the wrong type"),
    ]
    with writing(folder, "test") as writer:
        for images, local, words in bad:
            with pytest.raises(UsageError, match=words):
                writer.append_photos(images, local)
        with pytest.raises(UsageError, match=r"row 7 is not in .*: nothing was removed"):
            writer.remove_rows([0, 7])
        assert append(writer, ["c"]) == [2]
    assert content(folder) == expected(a=0, b=1, c=2)


def test_only_one_writer(make):
    folder = make()
    with (
        writing(folder, "one"),
        pytest.raises(CollectionLocked, match=rf"process {os.getpid()} \(one\)"),
        writing(folder, "two"),
    ):
        pass
    with pytest.raises(CollectionNotFound), writing(folder / "none", "x"):
        pass


@pytest.mark.parametrize("error", [OSError("No space left on device (os error 28)"), KeyboardInterrupt()])
def test_writer_goes_on_after_a_failed_append(make, monkeypatch, error):
    folder = make("a")
    real = lance.write_dataset

    def write(data, dataset, **options):
        if "images" in dataset.uri:
            raise error
        return real(data, dataset, **options)

    with writing(folder, "test") as writer:
        monkeypatch.setattr(writer_module.lance, "write_dataset", write)
        with pytest.raises((CollectionError, KeyboardInterrupt)):
            append(writer, ["b", "c"])
        monkeypatch.undo()
        assert writer.tables.stored_rows.tolist() == [0, 1, 2]
        assert append(writer, ["c", "b"]) == [1, 2]
    assert content(folder) == expected(a=0, c=1, b=2)


@pytest.mark.parametrize("dataset", ["images", "local"])
def test_writer_goes_on_after_a_failed_removal(make, monkeypatch, dataset):
    folder = make("a", "b", "c")
    real = writer_module._delete

    def delete(table, rows, where):
        if dataset in table.uri:
            raise CollectionError("full")
        real(table, rows, where)

    with writing(folder, "test") as writer:
        monkeypatch.setattr(writer_module, "_delete", delete)
        with pytest.raises(CollectionError, match="full"):
            writer.remove_rows([2])
        monkeypatch.undo()
        assert append(writer, ["d"]) == [3]
    kept = {"c": 2} if dataset == "images" else {}
    assert content(folder) == expected(a=0, b=1, d=3, **kept)
    assert open_tables(folder).stored_rows.tolist() == sorted([0, 1, 3, *kept.values()])


def test_what_a_stopped_writer_left_is_cleared_by_the_next(make):
    folder = make("a", "b")
    lance.write_dataset(local_batch([2, 3], [1, 1], [b"x", b"y"]), folder / "local.lance", mode="append")
    assert content(folder) == expected(a=0, b=1)
    with writing(folder, "test") as writer:
        assert writer.tables.stored_rows.tolist() == [0, 1]
        assert append(writer, ["c"]) == [2]
    assert content(folder) == expected(a=0, b=1, c=2)


def test_many_small_batches_stay_few_fragments_and_states(make, monkeypatch):
    monkeypatch.setattr(writer_module, "MAX_SMALL_FRAGMENTS", 8)
    monkeypatch.setattr(writer_module, "READER_GRACE", timedelta(0))
    folder = make()
    with writing(folder, "test") as writer:
        for k in range(40):
            append(writer, [f"p{k}", f"q{k}"])
    for name in ("images", "local"):
        dataset = lance.dataset(folder / f"{name}.lance")
        assert len(dataset.get_fragments()) <= 9
        assert len(dataset.versions()) <= 12
        assert len(os.listdir(folder / f"{name}.lance" / "data")) <= 12
    assert content(folder) == expected(**{f"{c}{k}": 2 * k + (c == "q") for k in range(40) for c in "pq"})


def test_full_fragments_are_not_written_again(make, monkeypatch):
    monkeypatch.setattr(writer_module, "ROWS_PER_FRAGMENT", 4)
    folder = make(*"abcd")
    first = set(os.listdir(folder / "local.lance" / "data"))
    with writing(folder, "test") as writer:
        append(writer, ["e"])
        append(writer, ["f"])
        writer.tidy()
    dataset = lance.dataset(folder / "local.lance")
    assert [fragment.count_rows() for fragment in dataset.get_fragments()] == [4, 2]
    assert first <= set(os.listdir(folder / "local.lance" / "data"))


def test_space_of_removed_photos_is_given_back(make, monkeypatch):
    monkeypatch.setattr(writer_module, "READER_GRACE", timedelta(0))
    folder = make()
    with writing(folder, "test") as writer:
        rows = list(range(20))
        blobs = [os.urandom(10_000)] * 20
        writer.append_photos(images_batch([photo_of(r, f"p{r}") for r in rows]), local_batch(rows, rows, blobs))
        writer.remove_rows(rows[:15])
    size = sum(path.stat().st_size for path in (folder / "local.lance" / "data").iterdir())
    assert 50_000 <= size < 60_000
    assert open_tables(folder).local([19]) == blobs[19:]


def test_states_are_kept_for_their_readers_for_a_while(make, monkeypatch):
    folder = make("a")
    reader = open_tables(folder)
    with writing(folder, "test") as writer:
        append(writer, ["a"])
        writer.tidy()
        assert reader.local([0]) == [packed_of(0)]
        assert reader.images(["row"])["row"].to_pylist() == [0]
        late = open_tables(folder)
        append(writer, ["a"])
        monkeypatch.setattr(writer_module, "READER_GRACE", timedelta(0))
        writer.tidy()
    with pytest.raises(
        CollectionError, match=r"cannot read .*local\.lance: a file of it is gone: open the collection again"
    ):
        late.local([1])


def test_a_new_writer_drops_states_that_no_reader_needs(make, monkeypatch):
    folder = make("a")
    with writing(folder, "test") as writer:
        append(writer, ["b"])
        append(writer, ["c"])
    monkeypatch.setattr(writer_module, "READER_GRACE", timedelta(0))
    with writing(folder, "test"):
        assert len(lance.dataset(folder / "images.lance").versions()) == 1
    assert content(folder) == expected(a=0, b=1, c=2)


def test_a_batch_of_broken_files_alone(make):
    folder = make("a")
    with writing(folder, "test") as writer:
        append(writer, ["b", "c"], broken=["b", "c"])
    assert content(folder) == {**expected(a=0), "b": (1, None), "c": (2, None)}
    assert len(lance.dataset(folder / "local.lance").get_fragments()) == 1


def test_files_of_unfinished_commits_are_cleared_by_tidy(make):
    folder = make("a")
    leftover = folder / "local.lance" / "data" / "0123456789abcdef.lance"
    leftover.write_bytes(b"half")
    with writing(folder, "test") as writer:
        writer.tidy()
    assert not leftover.exists()
    assert content(folder) == expected(a=0)


STEPS = st.lists(
    st.one_of(
        st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4, unique=True).map(lambda ids: ("add", ids)),
        st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=3, unique=True).map(lambda ids: ("remove", ids)),
        st.just(("tidy", [])),
        st.just(("reopen", [])),
    ),
    max_size=8,
)


@settings(max_examples=15, deadline=None)
@given(steps=STEPS)
def test_any_order_of_operations_equals_a_dictionary(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("steps") / "c.resight"
    create(folder, new_stamp("classic", {}, {}))
    model, used = {}, 0
    todo = list(steps)
    while todo:
        with writing(folder, "test") as writer:
            while todo:
                kind, ids = todo.pop(0)
                if kind == "reopen":
                    break
                if kind == "tidy":
                    writer.tidy()
                elif kind == "add":
                    rows = append(writer, ids)
                    assert rows == list(range(used, used + len(ids)))
                    used += len(ids)
                    model.update(zip(ids, rows, strict=True))
                else:
                    writer.remove_rows([model.pop(id_) for id_ in ids if id_ in model])
    assert content(folder) == expected(**model)
    assert open_tables(folder).next_row == used
