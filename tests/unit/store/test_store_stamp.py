from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from resight.errors import CollectionError, CollectionNotFound, StampMismatch, UsageError
from resight.store import stamp as stamps
from resight.store.stamp import check_copy, check_stamp, new_stamp, read_stamp, restore_stamp, write_stamp


@pytest.fixture
def folder(tmp_path, stamp):
    path = tmp_path / "c.resight"
    path.mkdir()
    write_stamp(path, stamp)
    return path


def edit(folder, **changes):
    fields = json.loads((folder / "stamp.json").read_text())
    (folder / "stamp.json").write_text(json.dumps({**fields, **changes}))


def test_stamp_comes_back_as_written(folder, stamp):
    assert read_stamp(folder) == stamp
    assert stamp.format == 1
    assert stamp.created.endswith("+00:00")
    assert stamp.parameters == {"max_side": 1024}


def test_rewriting_leaves_one_file(folder, stamp):
    write_stamp(folder, replace(stamp, recipe="other"))
    assert read_stamp(folder).recipe == "other"
    assert sorted(path.name for path in folder.iterdir()) == ["stamp.copy.json", "stamp.json"]


def test_parameters_must_be_json():
    with pytest.raises(UsageError, match="cannot be kept as JSON"):
        new_stamp("classic", {"x": object()}, {})
    with pytest.raises(UsageError, match="cannot be kept as JSON"):
        new_stamp("classic", {"x": float("nan")}, {})


def test_no_folder(tmp_path):
    with pytest.raises(CollectionNotFound, match=r"nowhere does not exist: make a collection with resight index"):
        read_stamp(tmp_path / "nowhere")


def test_file_instead_of_folder(tmp_path):
    (tmp_path / "x").write_text("x")
    with pytest.raises(CollectionNotFound, match="is a file, not a collection"):
        read_stamp(tmp_path / "x")


def test_folder_that_is_no_collection(tmp_path):
    with pytest.raises(CollectionNotFound, match="is a folder but not a collection"):
        read_stamp(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[1]", "\0", "{}", '{"format": true}', '{"format": 1}'])
def test_damaged(folder, stamp, text):
    (folder / "stamp.json").write_text(text)
    with pytest.raises(CollectionError, match=r"stamp\.json is damaged \(.*\): resight check --repair .* restores it"):
        read_stamp(folder)
    restore_stamp(folder)
    assert read_stamp(folder) == stamp
    (folder / "stamp.json").write_text(text)
    (folder / "stamp.copy.json").write_text(text)
    with pytest.raises(CollectionError, match=r"stamp\.json is damaged \(.*so is its copy: restore it from a backup"):
        read_stamp(folder)
    with pytest.raises(CollectionError, match="so is its copy"):
        restore_stamp(folder)


@pytest.mark.parametrize("changes", [{"recipe": 3}, {"models": {"a": 1}}, {"parameters": None}, {"created": []}])
def test_damaged_field(folder, changes):
    edit(folder, **changes)
    with pytest.raises(CollectionError, match="is damaged"):
        read_stamp(folder)


def test_huge_stamp_is_not_read(folder):
    (folder / "stamp.json").write_text(" " * (stamps.MAX_STAMP_BYTES + 1))
    with pytest.raises(CollectionError, match="larger than 1048576 bytes"):
        read_stamp(folder)


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: (path.unlink(), os.mkfifo(path))])
@pytest.mark.parametrize("name", ["stamp.json", "stamp.copy.json"])
def test_one_of_the_two_is_enough(folder, stamp, name, spoil):
    spoil(folder / name)
    if name == "stamp.json":
        with pytest.raises(CollectionError, match=r"damaged \(it is (gone|a pipe).*check --repair"):
            read_stamp(folder)
    else:
        assert read_stamp(folder) == stamp
        assert "is missing or damaged itself" in check_copy(folder)
    restore_stamp(folder)
    assert read_stamp(folder) == stamp
    assert check_copy(folder) is None


def test_a_value_that_changed_is_noticed_and_restored(folder, stamp):
    edit(folder, recipe="clissac")
    assert "is not what was written: its copy differs" in check_copy(folder)
    restore_stamp(folder)
    assert read_stamp(folder) == stamp


@pytest.mark.parametrize("writes", [0, 1])
def test_a_write_that_is_stopped_leaves_a_good_stamp(folder, stamp, monkeypatch, writes):
    """At whichever file it stops, even tearing that one: the other is whole, and repair brings one of two states."""
    real, done = stamps.write_atomic, []

    def stopping(path, content):
        if len(done) == writes:
            path.write_bytes(content[:10])
            raise KeyboardInterrupt
        done.append(path)
        real(path, content)

    new = replace(stamp, recipe="other")
    monkeypatch.setattr(stamps, "write_atomic", stopping)
    with pytest.raises(KeyboardInterrupt):
        write_stamp(folder, new)
    monkeypatch.undo()
    restore_stamp(folder)
    assert read_stamp(folder) == (new if writes else stamp)
    assert check_copy(folder) is None


def test_newer_format_says_upgrade(folder):
    edit(folder, format=3)
    with pytest.raises(StampMismatch, match=r"newer resight \(format 3\), this one reads up to 1: upgrade with pip"):
        read_stamp(folder)


def test_old_format_without_migration_is_refused(folder):
    edit(folder, format=0)
    with pytest.raises(StampMismatch, match="old format 0"):
        read_stamp(folder)


def test_old_formats_are_migrated_step_by_step_and_kept(folder, stamp, monkeypatch):
    calls = []

    def lift(path, fields):
        calls.append((path, fields["format"]))
        return {**fields, "recipe": fields["recipe"] + "+"}

    monkeypatch.setattr(stamps, "MIGRATIONS", {-1: lift, 0: lift})
    edit(folder, format=-1)
    assert read_stamp(folder) == replace(stamp, recipe="classic++")
    assert read_stamp(folder).recipe == "classic++"
    assert calls == [(folder, -1), (folder, 0)]


def test_failed_migration_leaves_the_step_before(folder, monkeypatch):
    def fail(*_):
        raise CollectionError("no")

    monkeypatch.setattr(stamps, "MIGRATIONS", {-1: lambda _, fields: fields, 0: fail})
    edit(folder, format=-1)
    with pytest.raises(CollectionError, match="no"):
        read_stamp(folder)
    assert json.loads((folder / "stamp.json").read_text())["format"] == 0


def test_check_stamp_names_both_sides(stamp):
    check_stamp(stamp, "c", "classic", {"max_side": 1024}, {"codebook": "ab12"})
    check_stamp(stamp, "c", "classic")
    with pytest.raises(StampMismatch, match="c was made with recipe classic, not with recipe deep"):
        check_stamp(stamp, "c", "deep")
    with pytest.raises(StampMismatch, match="parameter max_side = 1024, not with = 512"):
        check_stamp(stamp, "c", "classic", {"max_side": 512})
    with pytest.raises(StampMismatch, match="parameter n not set, not with = 5"):
        check_stamp(stamp, "c", "classic", {"max_side": 1024, "n": 5})
    with pytest.raises(StampMismatch, match='model codebook = "ab12", not with = "cd"'):
        check_stamp(stamp, "c", "classic", models={"codebook": "cd"})
