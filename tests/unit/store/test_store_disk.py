"""Disks that are full, small or not writable: one sentence, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from store_samples import append, packed_of, photo_of

from resight.errors import CollectionError
from resight.store.check import check_tables
from resight.store.folder import derived_path, write_atomic
from resight.store.records import images_batch, local_batch
from resight.store.tables import create, open_tables
from resight.store.writer import Writer, writing

LIMITED = """
import resource, signal, sys
from store_samples import append
from resight.errors import CollectionError
from resight.store.writer import writing
sys.path.insert(0, ".")
from test_store_disk import append_large

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with writing(sys.argv[1], "test") as writer:
    try:
        append_large(writer)
    except CollectionError as error:
        print(error)
    append(writer, ["small"])
"""
OTHER_USER = """
import os, sys
from resight.errors import ResightError
from resight.store.stamp import new_stamp
from resight.store.tables import create, open_tables
from resight.store.writer import writing

if os.geteuid() == 0:
    os.seteuid(65534)
print(len(open_tables(sys.argv[1])))
for act in (lambda: writing(sys.argv[1], "test").__enter__(),
            lambda: create(sys.argv[1] + "2", new_stamp("classic", {}, {}))):
    try:
        act()
    except ResightError as error:
        print(error)
"""


def append_large(writer: Writer) -> None:
    row = writer.next_row
    writer.append_photos(images_batch([photo_of(row, "large")]), local_batch([row], [1], [os.urandom(2_000_000)]))


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(path):
    with open(path, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def test_full_disk(small_disk, stamp):
    folder = small_disk / "c.resight"
    create(folder, stamp)
    with writing(folder, "test") as writer:
        append(writer, ["a"])
        with pytest.raises(
            CollectionError, match=r"cannot add photos to .*c\.resight: the disk is full: free some space"
        ):
            append_large(writer)
        filler = small_disk / "filler"
        with pytest.raises(OSError, match="No space left"):
            fill(filler)
        for act in (
            lambda: append(writer, ["b"]),
            lambda: writer.remove_rows([0]),
            lambda: write_atomic(derived_path(folder, "codebook"), b"x" * 100_000),
            lambda: create(small_disk / "d.resight", stamp),
        ):
            with pytest.raises(CollectionError, match="the disk is full"):
                act()
        assert open_tables(folder).local([0]) == [packed_of(0)]
        filler.unlink()
        assert append(writer, ["b"]) == [1]
    assert open_tables(folder).local([0, 1]) == [packed_of(0), packed_of(1)]
    assert all(finding.ok for finding in check_tables(folder))
    assert sorted(os.listdir(small_disk)) == ["c.resight"]
    assert os.listdir(folder / "derived") == []


def test_read_only_disk(small_disk, stamp):
    folder = small_disk / "c.resight"
    create(folder, stamp)
    with writing(folder, "test") as writer:
        append(writer, ["a"])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert open_tables(folder).local([0]) == [packed_of(0)]
    assert all(finding.ok for finding in check_tables(folder))
    with (
        pytest.raises(CollectionError, match=r"cannot lock .*: it lies on a read-only file system"),
        writing(folder, "x"),
    ):
        pass
    with pytest.raises(CollectionError, match=r"cannot make .*: it lies on a read-only file system"):
        create(small_disk / "d.resight", stamp)


def run_python(code: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_files_may_not_grow(make):
    folder = make("a")
    (sentence,) = run_python(LIMITED, folder)
    assert sentence.endswith(
        "the file would be larger than this system allows: raise the limit on file sizes (ulimit -f)"
    )
    assert open_tables(folder).local([0, 1]) == [packed_of(0), packed_of(1)]


def test_folder_of_another_user(stamp):
    # Not under tmp_path: its parents are closed to other users.
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "c.resight"
        create(folder, stamp)
        with writing(folder, "test") as writer:
            append(writer, ["a"])
        (folder / ".lock").unlink()
        os.chmod(folder, 0o555)
        os.chmod(parent, 0o555)
        count, lock, make = run_python(OTHER_USER, folder)
        os.chmod(parent, 0o755)
        os.chmod(folder, 0o755)
    assert count == "1"
    assert (
        lock
        == f"cannot lock {folder}: permission denied: make the folder accessible to this user, or choose another one"
    )
    assert make.startswith(f"cannot make {folder}2: permission denied")
