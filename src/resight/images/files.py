"""Names and handles of files: text that can always be shown, and opening that never blocks."""

from __future__ import annotations

import re
from io import BufferedReader

from resight import regular_files
from resight.errors import UnreadableFile

_SURROGATE = re.compile("[\ud800-\udfff]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def as_unicode(path: str) -> str:
    """`path` as valid unicode: unchanged, or with undecodable bytes as %XX and then `%` itself as %25."""
    if not _SURROGATE.search(path):
        return path
    return _SURROGATE.sub(_escape_surrogate, path.replace("%", "%25"))


def _escape_surrogate(found: re.Match[str]) -> str:
    code = ord(found[0])
    undecoded = 0xDC80 <= code <= 0xDCFF  # os.fsdecode hides byte 0x80 + n in the surrogate 0xDC80 + n
    return f"%{code - 0xDC00:02X}" if undecoded else _percent(found[0].encode("utf-8", "surrogatepass"))


def _percent(data: bytes) -> str:
    return "".join(f"%{byte:02X}" for byte in data)


def shown(path: str) -> str:
    """`path` for a message: valid unicode on one line, control characters as %XX so that no name moves a cursor."""
    return _UNPRINTABLE.sub(lambda found: _percent(found[0].encode()), as_unicode(path))


def unreadable(path: str, error: OSError) -> UnreadableFile:
    """The typed error for an operating system error met at `path`."""
    reason = error.strerror or type(error).__name__
    return UnreadableFile(f"{shown(path)} cannot be read ({reason}): check that it exists and that you may open it")


def open_regular(path: str) -> BufferedReader:
    """Open a regular file for reading: a pipe or a device is never opened.

    Raises `UnreadableFile` when the file is gone, not allowed, a folder, or no regular file.
    """
    try:
        return regular_files.open_regular(path)
    except regular_files.NotRegular as error:
        raise UnreadableFile(f"{shown(path)} cannot be read: {error}") from error
    except OSError as error:
        raise unreadable(path, error) from error
