from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from resight.errors import CollectionError, CollectionLocked
from resight.store.lock import write_lock

HOLD = """
import sys, time
from pathlib import Path
from resight.store.lock import write_lock
with write_lock(Path(sys.argv[1]), "resight index photos"):
    print("held", flush=True)
    time.sleep(60)
"""
FORK = """
import os, sys, time
from pathlib import Path
from resight.store.lock import write_lock
with write_lock(Path(sys.argv[1]), "parent"):
    if os.fork() == 0:  # the child says itself that it runs: until then it cannot have let the lock go
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


def start(code, folder):
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


def test_second_writer_is_told_who_holds_the_lock_until_it_is_killed(tmp_path):
    process, _ = start(HOLD, tmp_path)
    try:
        with (
            pytest.raises(CollectionLocked, match=rf"process {process.pid} \(resight index photos\): wait"),
            write_lock(tmp_path, "b"),
        ):
            pass
    finally:
        end(process)
    with write_lock(tmp_path, "b"):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\nb\n"


def test_second_writer_in_the_same_process(tmp_path):
    with write_lock(tmp_path, "a"):
        with pytest.raises(CollectionLocked, match=rf"process {os.getpid()} \(a\)"), write_lock(tmp_path, "b"):
            pass
        assert (tmp_path / ".lock").read_text().endswith("\na\n")
    with write_lock(tmp_path, "b"):
        pass


def test_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(KeyError), write_lock(tmp_path, "a"):
        raise KeyError
    with write_lock(tmp_path, "b"):
        pass


def test_a_surviving_forked_child_does_not_keep_the_lock(tmp_path):
    process, child = start(FORK, tmp_path)
    try:
        end(process)
        os.kill(int(child), 0)  # it lives
        with write_lock(tmp_path, "b"):
            pass
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_nonsense_in_the_lock_file_is_not_repeated(tmp_path):
    with write_lock(tmp_path, "two\nlines \x1b[31m" + "x" * 999):
        text = (tmp_path / ".lock").read_text()
        assert text.count("\n") == 2
        assert "\x1b" not in text
        assert len(text) < 250
        (tmp_path / ".lock").write_text("\x1b[31mevil")
        with pytest.raises(CollectionLocked, match="written by another process: wait"), write_lock(tmp_path, "b"):
            pass


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(CollectionError, match="cannot lock"), write_lock(tmp_path, "a"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_no_folder(tmp_path):
    with (
        pytest.raises(CollectionError, match=r"cannot lock .*nowhere: No such file"),
        write_lock(tmp_path / "nowhere", ""),
    ):
        pass
