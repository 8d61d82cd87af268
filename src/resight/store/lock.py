"""One writer at a time: an advisory lock that the system itself releases when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resight.errors import CollectionLocked
from resight.store.folder import LOCK, faults
from resight.store.lease import write_lease
from resight.store.remote import remote

MAX_COMMAND = 200
_held: set[int] = set()


def _close_in_child() -> None:
    # A forked worker would share the lock and, if its parent is killed, keep it for as long as it lives.
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_in_child)


@contextmanager
def write_lock(folder: Path, command: str) -> Iterator[None]:
    """Hold the write lock of the collection `folder`; `command` tells others who does.

    Raises `CollectionLocked`, naming the process, when there is another writer, in this process or elsewhere, and
    `CollectionError` when the folder cannot be written. Readers never lock.
    """
    if (view := remote(folder)) is not None:
        with write_lease(view, _one_line(command)):
            yield
        return
    with faults("lock", folder):
        # A collection may come from anyone: never write through a link that it holds.
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        _acquire(descriptor, folder)
        _held.add(descriptor)
        with faults("lock", folder):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n{_one_line(command)}\n".encode(errors="replace"), 0)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _acquire(descriptor: int, folder: Path) -> None:
    with faults("lock", folder):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CollectionLocked(
                f"{folder} is being written by {_holder(descriptor)}: wait until it is done, and run this again"
            ) from error


def _holder(descriptor: int) -> str:
    pid, _, command = os.pread(descriptor, 4 * MAX_COMMAND, 0).decode(errors="replace").partition("\n")
    if not pid.isdecimal():  # it has the lock and has not yet written who it is
        return "another process"
    return f"process {pid} ({_one_line(command) or 'unnamed'})"


def _one_line(command: str) -> str:
    return "".join(c if c.isprintable() else " " for c in command).strip()[:MAX_COMMAND]
