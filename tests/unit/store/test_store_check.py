from __future__ import annotations

import lance
import pytest
from store_samples import append, packed_of, photo_of

from resight.errors import CollectionNotFound
from resight.store import writer as writer_module
from resight.store.check import check_tables, repair_tables
from resight.store.records import images_batch, local_batch
from resight.store.tables import open_tables
from resight.store.writer import writing


def wrong(folder):
    return {finding.name: finding for finding in check_tables(folder) if not finding.ok}


@pytest.fixture
def folder(make):
    folder = make(*"abcdef")
    with writing(folder, "test") as writer:
        append(writer, ["bad"], broken=["bad"])
    return folder


def test_a_whole_collection(folder):
    findings = check_tables(folder)
    assert [finding.name for finding in findings] == [
        "stamp",
        "tables",
        "ids",
        "features",
        "content",
        "leftovers",
        "checksums",
        "indices",
    ]
    assert all(finding.ok and finding.repair is None for finding in findings)
    assert findings[1].message == "7 photos, 6 with features"


def test_an_empty_collection(make):
    assert wrong(make()) == {}


def test_leftovers(folder):
    lance.write_dataset(local_batch([7, 8], [1, 1], [b"x", b"y"]), folder / "local.lance", mode="append")
    found = wrong(folder)
    assert list(found) == ["leftovers"]
    assert "2 rows" in found["leftovers"].message
    assert "7, 8" in found["leftovers"].message
    assert found["leftovers"].repair == "delete them"
    assert all(finding.ok for finding in repair_tables(folder))
    assert open_tables(folder).stored_rows.tolist() == list(range(6))


def test_features_of_a_photo_with_an_error_are_leftovers(folder):
    lance.write_dataset(local_batch([6], [1], [b"x"]), folder / "local.lance", mode="append")
    assert list(wrong(folder)) == ["leftovers"]
    assert all(finding.ok for finding in repair_tables(folder))
    assert open_tables(folder).rows.tolist() == list(range(7))


def test_lost_features(folder):
    lance.dataset(folder / "local.lance").delete("row IN (1, 4)")
    found = wrong(folder)
    assert list(found) == ["features"]
    assert "2 rows have lost their features: 1, 4" in found["features"].message
    assert all(finding.ok for finding in repair_tables(folder))
    assert open_tables(folder).images(["id"])["id"].to_pylist() == ["a", "c", "d", "f", "bad"]


def test_features_stored_twice(folder):
    lance.write_dataset(local_batch([2], [2], [packed_of(2)]), folder / "local.lance", mode="append")
    assert list(wrong(folder)) == ["features"]
    assert all(finding.ok for finding in repair_tables(folder))
    assert open_tables(folder).rows.tolist() == [0, 1, 3, 4, 5, 6]


def test_a_flipped_bit(folder):
    (data,) = (folder / "local.lance" / "data").iterdir()
    content = bytearray(data.read_bytes())
    content[content.find(packed_of(3)) + 4] ^= 1
    data.write_bytes(content)
    found = wrong(folder)
    assert list(found) == ["content"]
    assert "1 rows have features that are not what was written: 3" in found["content"].message
    assert all(finding.ok for finding in repair_tables(folder))
    assert open_tables(folder).rows.tolist() == [0, 1, 2, 4, 5, 6]


def test_fewer_bytes_than_features(folder):
    with writing(folder, "test") as writer:
        writer.append_photos(images_batch([photo_of(7, "g")]), local_batch([7], [100], [b"short"]))
    assert list(wrong(folder)) == ["content"]


def test_a_missing_data_file(folder):
    first = set((folder / "local.lance" / "data").iterdir())
    with writing(folder, "test") as writer:
        append(writer, ["g", "h"])
    (second,) = set((folder / "local.lance" / "data").iterdir()) - first
    second.unlink()
    (finding,) = wrong(folder).values()
    assert finding.name == "tables"
    assert "local.lance: a file of it is gone" in finding.message


def test_two_photos_of_one_id(folder):
    lance.write_dataset(images_batch([photo_of(7, "b")]), folder / "images.lance", mode="append")
    lance.write_dataset(local_batch([7], [1], [b"x"]), folder / "local.lance", mode="append")
    found = wrong(folder)
    assert list(found) == ["ids"]
    assert "1 rows share their id with a newer one: 1" in found["ids"].message
    assert all(finding.ok for finding in repair_tables(folder))
    assert open_tables(folder).rows.tolist() == [0, 2, 3, 4, 5, 6, 7]


def test_a_bad_stamp_is_a_finding_and_a_missing_collection_an_error(folder, tmp_path):
    (folder / "stamp.json").write_text("{")
    (finding,) = check_tables(folder)
    assert not finding.ok
    assert "damaged" in finding.message
    assert "from the one that is whole" in finding.repair
    (folder / "stamp.json").unlink()
    assert [finding.name for finding in check_tables(folder)] == ["stamp"]
    assert all(finding.ok for finding in repair_tables(folder))
    (folder / "stamp.copy.json").unlink()
    assert list(wrong(folder)) == ["copy of the stamp"]
    assert all(finding.ok for finding in repair_tables(folder))
    for name in ("stamp.json", "stamp.copy.json"):
        (folder / name).write_text("{")
    (finding,) = check_tables(folder)
    assert finding.repair is None
    with pytest.raises(CollectionNotFound):
        check_tables(tmp_path)


def test_damaged_tables_are_a_finding(folder):
    for manifest in (folder / "images.lance" / "_versions").glob("*.manifest"):
        manifest.write_bytes(b"x")
    assert list(wrong(folder)) == ["tables"]


def test_a_writer_that_was_stopped_between_two_commits(folder):
    lance.dataset(folder / "images.lance").delete("row = 5")
    assert list(wrong(folder)) == ["leftovers"]
    with writing(folder, "test"):
        pass
    assert wrong(folder) == {}


def flip(file, byte):
    content = bytearray(file.read_bytes())
    content[byte % len(content)] ^= 4
    file.write_bytes(bytes(content))


def test_a_bit_that_flips_in_the_images_table_is_found(folder):
    """Anywhere in any file of the table, as Lance itself notices few of them."""
    with writing(folder, "test") as writer:
        writer.remove_rows([1])
    table = folder / "images.lance"
    files = [file for part in ("data/*", "_deletions/*", "_versions/*.manifest") for file in table.glob(part)]
    assert {file.parent.name for file in files} == {"data", "_deletions", "_versions"}
    for file in files:
        before = file.read_bytes()
        for byte in range(0, len(before), max(len(before) // 7, 1)):
            flip(file, byte)
            assert {"checksums", "tables"} & set(wrong(folder)), (file, byte)
            file.write_bytes(before)
    assert not wrong(folder)


def test_the_finding_says_what_to_do_and_stays(folder):
    (data, *_) = (folder / "images.lance" / "data").iterdir()
    flip(data, data.read_bytes().index(b"/photos/") + 3)
    finding = wrong(folder)["checksums"]
    assert data.name in finding.message
    assert "restore it from a backup" in finding.message
    assert finding.repair is None
    assert "checksums" in {one.name for one in repair_tables(folder) if not one.ok}


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"data/x": 1}'])
def test_a_lost_list_of_checksums_is_no_damage_and_is_made_again(folder, content):
    checksums = folder / "checksums.json"
    checksums.unlink() if content is None else checksums.write_text(content)
    assert not wrong(folder)
    with writing(folder, "test"):
        pass
    (data, *_) = (folder / "images.lance" / "data").iterdir()
    flip(data, 50)
    assert "checksums" in wrong(folder) or "tables" in wrong(folder)


def test_a_writer_that_was_stopped_before_the_checksums_causes_no_alarm(folder, monkeypatch):
    monkeypatch.setattr(writer_module, "record", interrupt)
    with pytest.raises(KeyboardInterrupt), writing(folder, "test") as writer:
        append(writer, ["new"])
    monkeypatch.undo()
    assert not wrong(folder)
    with writing(folder, "test") as writer:
        writer.tidy()
    assert not wrong(folder)


def interrupt(*_):
    raise KeyboardInterrupt
