from __future__ import annotations

import shutil
from dataclasses import replace

import lance
import pytest

from resight.artifacts.files import CODEBOOK, CONFIDENCE, INVERTED_FILE
from resight.collection import open_collection
from resight.collection.check import check_collection, repair_collection
from resight.errors import CollectionError, CollectionNotFound
from resight.store.folder import LOCAL, table_uri
from resight.store.stamp import read_stamp, write_stamp
from resight.store.writer import writing

NAMES = ("000-0.jpg", "003-2.jpg")


def broken(findings):
    return {finding.name for finding in findings if not finding.ok}


def overwrite(path, place, content=b"\xff" * 64):
    data = bytearray(path.read_bytes())
    data[place : place + len(content)] = content
    path.write_bytes(data)


def test_a_whole_collection(built):
    findings = check_collection(built.path)
    assert not broken(findings)
    names = [finding.name for finding in findings]
    tables = ["ids", "features", "content", "leftovers", "checksums", "indices"]
    assert names == ["stamp", "tables", *tables, "index", "files"]
    assert next(f for f in findings if f.name == "index").message == "15 photos indexed"


def test_checking_changes_nothing(copied):
    def state():
        return {p: p.read_bytes() for p in copied.path.rglob("*") if p.is_file()}

    before = state()
    check_collection(copied.path)
    assert state() == before


@pytest.mark.parametrize("file", [CODEBOOK, INVERTED_FILE, CONFIDENCE])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "noise", "overwritten"])
def test_derived_files_are_mended(copied, answers, file, damage):
    before = answers(copied.path, NAMES)
    path = file.path(copied.path)
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "overwritten":
        overwrite(path, 0)
    else:
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "noise": b"\x00\xff" * 900}[damage])
    found = check_collection(copied.path)
    name = "index" if damage == "gone" else file.name
    assert broken(found) == {name}
    assert next(f for f in found if f.name == name).repair
    assert not broken(repair_collection(copied.path))
    assert answers(copied.path, NAMES) == before


def test_a_changed_codebook_is_noticed(copied, answers):
    before = answers(copied.path, NAMES)
    path = CODEBOOK.path(copied.path)
    overwrite(path, path.stat().st_size // 2, b"\x01\x02\x03")
    with pytest.raises(CollectionError, match=r"codebook\.safetensors is damaged"):
        open_collection(copied.path).search(NAMES[0])
    assert broken(check_collection(copied.path)) == {CODEBOOK.name}
    assert not broken(repair_collection(copied.path))
    assert answers(copied.path, NAMES) == before


def test_a_deleted_folder_of_derived_files(copied, answers):
    before = answers(copied.path, NAMES)
    shutil.rmtree(copied.path / "derived")
    assert broken(check_collection(copied.path)) == {"index"}
    assert not broken(repair_collection(copied.path))
    assert answers(copied.path, NAMES) == before


def test_an_index_with_other_settings_than_the_stamp(copied):
    stamp = read_stamp(copied.path)
    write_stamp(copied.path, replace(stamp, parameters={**stamp.parameters, "binary": False}))
    assert broken(check_collection(copied.path)) == {"index"}
    with pytest.raises(CollectionError, match="other settings than its stamp"):
        open_collection(copied.path).search(NAMES[0])
    assert not broken(repair_collection(copied.path))
    assert not open_collection(copied.path).snapshot.index.kernel.binary


def test_lost_features_come_back_with_the_next_run(copied, answers):
    before = answers(copied.path, NAMES)
    row = open_collection(copied.path).snapshot.row_of("000-1.jpg")
    lance.dataset(table_uri(copied.path, LOCAL)).delete(f"row = {row}")
    assert "features" in broken(check_collection(copied.path))
    assert not broken(repair_collection(copied.path))
    mended = open_collection(copied.path)
    assert "000-1.jpg" not in mended.ids
    assert "000-1.jpg" not in {result.id for result in mended.search("000-0.jpg").results}
    report = mended.add([copied.photos.folder])
    assert (report.added, report.unchanged) == (1, 18)
    after = answers(copied.path, NAMES)
    assert [{id_ for id_, _, inliers in found if inliers} for found in after] == [
        {id_ for id_, _, inliers in found if inliers} for found in before
    ]


def test_an_index_that_is_behind(copied):
    row = open_collection(copied.path).snapshot.row_of("000-1.jpg")
    with writing(copied.path, "test") as writer:
        writer.remove_rows([row])
    finding = next(f for f in check_collection(copied.path) if f.name == "index")
    assert not finding.ok
    assert finding.message == "1 photos differ between index and features"
    assert not broken(repair_collection(copied.path))
    assert len(open_collection(copied.path).snapshot.index) == 14


def test_photos_that_are_gone_are_only_told(copied, tmp_path):
    collection = open_collection(copied.path)
    shutil.copytree(copied.photos.folder, tmp_path / "moving")
    collection.add([tmp_path / "moving"])
    shutil.rmtree(tmp_path / "moving")
    finding = next(f for f in check_collection(copied.path) if f.name == "files")
    assert finding.ok
    assert finding.message.startswith("19 photos are gone from the disk (moving/")
    assert open_collection(copied.path).info().missing == 19


def test_a_stamp_that_cannot_be_read(copied):
    (copied.path / "stamp.json").write_text("{")
    (finding,) = check_collection(copied.path)
    assert (finding.name, finding.ok) == ("stamp", False)
    with pytest.raises(CollectionError, match=r"stamp\.json is damaged .*: resight check --repair .* restores it"):
        open_collection(copied.path)
    assert not broken(repair_collection(copied.path))
    (copied.path / "stamp.json").write_text("{")
    (copied.path / "stamp.copy.json").write_text("{")
    with pytest.raises(CollectionError, match=r"stamp\.json is damaged .*, and so is its copy"):
        repair_collection(copied.path)


def test_nothing_to_check(tmp_path):
    with pytest.raises(CollectionNotFound):
        check_collection(tmp_path / "nosuch.resight")
