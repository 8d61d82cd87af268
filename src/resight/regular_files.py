"""Opening files that others named: a pipe or a device, which could block or never end, is refused unopened."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

MOST_JSON = 1 << 28  # bytes of a file that is read whole as JSON


class NotRegular(OSError):
    """A path that names no file to be read whole; its text is a clause that says why."""

    def __str__(self) -> str:
        return str(self.strerror)


def check_regular(path: str | os.PathLike[str]) -> int:
    """The size in bytes of a regular file, for libraries that open it themselves.

    Raises `OSError` when it is not there or may not be looked at, `NotRegular` for a folder, pipe, socket or device.
    """
    try:
        state = os.stat(path)
    except ValueError as error:
        raise NotRegular(errno.EINVAL, f"it cannot be the name of a file: {error}", path) from error
    if stat.S_ISDIR(state.st_mode):
        raise NotRegular(errno.EISDIR, "it is a folder, name a file in it", path)
    if not stat.S_ISREG(state.st_mode):
        raise NotRegular(errno.EINVAL, "it is a pipe, socket or device, and only regular files are read", path)
    return state.st_size


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file for reading. Raises as `check_regular`."""
    check_regular(path)
    return Path(path).open("rb")


def read_regular(path: str | os.PathLike[str], most: int = MOST_JSON) -> bytes:
    """All bytes of a regular file; what is appended meanwhile is not waited for.

    Raises as `check_regular`, and `NotRegular` when it has more than `most` bytes.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise NotRegular(errno.EINVAL, f"it is larger than {most} bytes", path)
    return content
