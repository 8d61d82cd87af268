"""A change of a collection that is stopped, wherever it is: readers are told, and the same call finishes it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from resight.artifacts import inverted_file
from resight.collection import open_collection, update
from resight.collection.check import check_collection, repair_collection
from resight.errors import CollectionError, UsageError
from resight.index.asmk import Asmk
from resight.store.writer import Writer

GONE = ("000-0.jpg", "000-1.jpg", "001-2.jpg")
STAYS = ("002-0.jpg", "003-1.jpg", "004-2.jpg")
PLACES = (
    (Writer, "remove_rows"),
    (update, "_follow_descriptors"),
    (update, "follow_inverted_file"),
    (inverted_file, "_codebook"),
    (inverted_file, "_follow"),
    (Asmk, "save"),
    (inverted_file, "calibrate"),
    (inverted_file, "write_confidence"),
    (update, "follow_vlad"),
)
AFTER = (
    (Writer, "remove_rows"),
    (Asmk, "save"),
    (inverted_file, "write_confidence"),
    (update, "follow_inverted_file"),
)


@pytest.fixture
def whole(built, answers, tmp_path):
    """What a collection answers from which the photos were removed undisturbed."""
    shutil.copytree(built.path, tmp_path / "whole.resight")
    open_collection(tmp_path / "whole.resight").remove(GONE)
    return answers(tmp_path / "whole.resight", STAYS)


def remove_and_stop(path, owner, name, *, after=False):
    """Remove photos and interrupt the program when it calls a function, or when this returns."""
    collection, original = open_collection(path), getattr(owner, name)

    def stopping(*arguments, **options):
        if after:
            original(*arguments, **options)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, stopping)
        with pytest.raises(KeyboardInterrupt):
            collection.remove(GONE)


@pytest.mark.parametrize(("place", "after"), [*((p, False) for p in PLACES), *((p, True) for p in AFTER)])
@pytest.mark.parametrize("mend", ["again", "repair"])
def test_a_stopped_removal_is_known_and_finished(copied, whole, answers, place, after, mend):
    remove_and_stop(copied.path, *place, after=after)
    collection = open_collection(copied.path)
    assert not collection.snapshot.finished
    assert {finding.name for finding in check_collection(copied.path) if not finding.ok} == {"index"}
    answer = collection.search(STAYS[0])
    assert answer.calibrated == collection.snapshot.calibrated
    assert not {result.id for result in answer.results} & (set(GONE) - set(collection.ids))
    if mend == "repair":
        assert all(finding.ok for finding in repair_collection(copied.path))
    if mend == "again" or GONE[0] in collection.ids:
        assert collection.remove(GONE) in (0, len(GONE))
    assert open_collection(copied.path).snapshot.finished
    assert all(finding.ok for finding in check_collection(copied.path))
    assert answers(copied.path, STAYS) == whole
    with pytest.raises(UsageError, match="no photo with id '000-0"):
        open_collection(copied.path).remove(GONE)


def test_a_search_says_that_the_calibration_is_missing(copied):
    remove_and_stop(copied.path, inverted_file, "calibrate")
    collection = open_collection(copied.path)
    answer = collection.search(STAYS[0])
    assert not answer.calibrated
    assert str(answer.rule) == "proof by geometry needed"
    assert {result.id for result in answer.results if result.match} == {"002-1.jpg", "002-2.jpg"}
    assert any("calibration is missing" in finding.message for finding in check_collection(copied.path))
    collection.add([copied.photos.folder / "000-0.jpg"])  # any writer finishes
    assert open_collection(copied.path).search(STAYS[0]).calibrated


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(path: Path, room: int) -> None:
    """Fill the disk of `path` until `room` bytes are left."""
    disk = os.statvfs(path.parent)
    path.write_bytes(bytes(max(disk.f_bavail * disk.f_frsize - room, 0)))


@pytest.mark.parametrize("room", [0, 8192, 16384, 32768, 65536, 131072])
def test_a_removal_on_a_full_disk_is_finished_when_there_is_room(copied, whole, answers, small_disk, room):
    path = small_disk / "c.resight"
    shutil.copytree(copied.path, path)
    fill(small_disk / "filler", room)
    sentence = ""
    try:
        open_collection(path).remove(GONE)
    except CollectionError as error:
        sentence = str(error)
    (small_disk / "filler").unlink()
    collection = open_collection(path)
    if room == 0 or sentence:
        assert "the disk is full: free some space" in sentence
        begun = GONE[0] not in collection.ids
        assert not (begun and collection.snapshot.finished)
        assert collection.remove(GONE) == (0 if begun else len(GONE))
    assert all(finding.ok for finding in check_collection(path))
    assert answers(path, STAYS) == whole
