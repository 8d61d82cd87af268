from __future__ import annotations

import errno
import os

import pytest

from resight.errors import CollectionError, UsageError
from resight.store.folder import (
    collection_folder,
    derived_path,
    faults,
    lance_faults,
    remove_stale_scratch,
    table_uri,
    write_atomic,
)


def test_paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert collection_folder("a/../b.resight") == tmp_path / "b.resight"
    assert table_uri(tmp_path, "images") == f"{tmp_path}/images.lance"


@pytest.mark.parametrize("path", ["gs://b/n", "file:///x"])
def test_object_storage_is_refused(path):
    with pytest.raises(UsageError, match=f"{path} is neither a local folder nor in an S3"):
        collection_folder(path)


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_no_path(path):
    with pytest.raises(UsageError, match="is not a path"):
        collection_folder(path)


def test_name_that_is_not_utf8():
    with pytest.raises(UsageError, match="not valid UTF-8"):
        collection_folder(os.fsdecode(b"a\xff"))


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b", ".."])
def test_derived_names_stay_in_their_folder(tmp_path, name):
    with pytest.raises(UsageError, match="cannot name a derived file"):
        derived_path(tmp_path, name)


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path):
    path = derived_path(tmp_path, "codebook.bin")
    write_atomic(path, b"one")
    write_atomic(path, lambda file: file.write(b"two"))
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["codebook.bin"]


def test_a_failing_writer_leaves_the_old_file(tmp_path):
    def fail(file):
        file.write(b"half")
        raise KeyError("bug")

    path = derived_path(tmp_path, "x")
    write_atomic(path, b"old")
    with pytest.raises(KeyError):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["x"]


def test_write_atomic_replaces_a_link_not_its_target(tmp_path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / "x").symlink_to(tmp_path / "target")
    write_atomic(tmp_path / "x", b"new")
    assert (tmp_path / "target").read_text() == "precious"
    assert (tmp_path / "x").read_bytes() == b"new"


def test_only_old_scratch_files_are_removed(tmp_path):
    (tmp_path / "derived").mkdir()
    old, new = tmp_path / "derived" / ".a.1-ff.tmp", tmp_path / ".b.1-ff.tmp"
    for path in (old, new):
        path.write_text("x")
    os.utime(old, (0, 0))
    remove_stale_scratch(tmp_path)
    assert not old.exists()
    assert new.exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "x"), "the disk is full: free some space"),
        (OSError("LanceError(IO): No space left on device (os error 28), /a/b.rs:1:2"), "the disk is full"),
        (OSError("LanceError(IO): x (os error 30) at path"), "read-only file system"),
        (ValueError("Unable to walk dir: Permission denied (os error 13)"), "permission denied: make the folder"),
        (OSError(errno.EIO, "Input/output error"), "cannot add to c: Input/output error"),
        (RuntimeError("odd thing, /home/x/rust/a.rs:1:2\nmore"), "cannot add to c: odd thing$"),
        (ValueError(), "cannot add to c: ValueError"),
    ],
)
def test_reasons(error, words):
    with pytest.raises(CollectionError, match=words) as caught, lance_faults("add to", "c"):
        raise error
    assert caught.value.__cause__ is error
    assert "\n" not in str(caught.value)


def test_our_own_mistakes_are_not_hidden():
    with pytest.raises(ValueError, match="bug"), faults("x", "c"):
        raise ValueError("bug")
    with pytest.raises(KeyboardInterrupt), lance_faults("x", "c"):
        raise KeyboardInterrupt


def test_an_interrupt_that_lance_wrapped_is_still_one():
    with pytest.raises(KeyboardInterrupt), lance_faults("read", "c"):
        raise OSError("External error: KeyboardInterrupt: \n/rs/lance/src/io.rs:7")
