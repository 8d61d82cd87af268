"""Where the parts of a collection lie, how single files are written, and what failing disks are called.

A collection is a folder: `stamp.json` and its copy, the tables `images.lance` and `local.lance`, `checksums.json` of
the files of the first, `derived/` for what can be rebuilt, and `.lock` for the one writer. All knowledge of these names
is here.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from resight.errors import CollectionError, UsageError
from resight.store import s3
from resight.store.remote import RemoteFolder, bucket, remote, remote_folder, view_at
from resight.store.s3 import lance_options

STAMP = "stamp.json"
STAMP_COPY = "stamp.copy.json"
CHECKSUMS = "checksums.json"
LOCK = ".lock"
DERIVED = "derived"
IMAGES = "images"
LOCAL = "local"
STALE_SECONDS = 3600.0

_OS_ERROR = re.compile(r"os error (\d+)")
_SOURCE_LOCATION = re.compile(r",? (?:location: )?/\S+\.rs:\d+(?::\d+)?")
_INTERRUPT = "External error: KeyboardInterrupt"  # how Lance reports a Ctrl-C that reached Python code it called
_DISK_FULL = "the disk is full: free some space and run the same command again, what was stored before is intact"
_NOT_WRITABLE = "permission denied: make the folder accessible to this user, or choose another one"
_GONE = "a file of it is gone: open the collection again if it was just written to, else run resight check on it"
_REASONS = {
    errno.ENOSPC: _DISK_FULL,
    errno.EDQUOT: _DISK_FULL,
    errno.EFBIG: "the file would be larger than this system allows: raise the limit on file sizes (ulimit -f)",
    errno.EROFS: "it lies on a read-only file system: choose a folder that can be written",
    errno.EACCES: _NOT_WRITABLE,
    errno.EPERM: _NOT_WRITABLE,
}


def collection_folder(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a collection; for `s3://bucket/name.resight` the view of it (`resight.store.remote`).

    Raises `UsageError` for other addresses and for names that are not text.
    """
    if isinstance(path, RemoteFolder):
        return path
    text = os.fspath(path)
    if (view := view_at(text)) is not None:
        return view
    if re.match(r"s3:/", text):
        return remote_folder(text)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise UsageError(f"collection {text} is neither a local folder nor in an S3 bucket: give s3://BUCKET/NAME")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"collection path {text!r} is not valid UTF-8: choose another name") from error
    if not text or "\0" in text:
        raise UsageError(f"{text!r} is not a path: give the folder of a collection")
    return Path(os.path.abspath(text))


def table_uri(folder: Path, name: str) -> str:
    """Where Lance keeps table `name`."""
    view = remote(folder)
    return str(folder / f"{name}.lance") if view is None else f"{view}/{name}.lance"


def table_options(folder: Path) -> dict[str, str] | None:
    """How Lance reaches the tables of a collection; None for a local folder."""
    return None if remote(folder) is None else lance_options(str(folder))


def collection_exists(path: str | os.PathLike[str]) -> bool:
    """Whether something is at a path that may name a collection: a file or folder, or a stamp in a bucket."""
    folder = collection_folder(path)
    view = remote(folder)
    return os.path.lexists(folder) if view is None else bucket(view).exists(STAMP)


def derived_path(folder: Path, name: str) -> Path:
    """The path of derived file `name`, which need not exist. Raises `UsageError` unless `name` is a plain file name."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise UsageError(f"{name!r} cannot name a derived file: use letters, digits, '_', '-' and '.'")
    return folder / DERIVED / name


def write_atomic(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Replace the file at `path` as a whole: readers see the old content or the new one, also after a crash.

    `content` is the bytes, or a function that writes them to an open binary file. Missing parents are made (the folder
    `derived` may be deleted at any time). Raises `CollectionError` when the disk refuses; the old file then stays.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with faults("write", path):
        path.parent.mkdir(exist_ok=True)
        try:
            with open(scratch, "xb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_stale_scratch(folder: Path) -> None:
    """Delete what killed calls of `write_atomic` left: scratch files older than an hour, so none still in use."""
    if remote(folder) is not None:
        return  # the view of a killed process goes as a whole
    oldest = time.time() - STALE_SECONDS
    with faults("clean", folder):
        for parent in (folder, folder / DERIVED):
            for scratch in (*parent.glob(".*.tmp"), *parent.glob("*.part")):
                if scratch.stat().st_mtime < oldest:
                    scratch.unlink(missing_ok=True)


@contextmanager
def faults(action: str, path: Path | str) -> Iterator[None]:
    """Turn an OSError raised inside into a `CollectionError`: cannot `action` `path`, why, what to do."""
    try:
        yield
    except OSError as error:
        raise CollectionError(f"cannot {action} {path}: {_reason(error)}") from error


@contextmanager
def lance_faults(action: str, path: Path | str) -> Iterator[None]:
    """`faults` for calls of Lance, which also raises ValueError and RuntimeError for what the disk did.

    Put nothing else inside: these classes would hide mistakes of our own.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        if _INTERRUPT in str(error):
            raise KeyboardInterrupt from error
        raise CollectionError(f"cannot {action} {path}: {_reason(error)}") from error
    except BaseException as error:
        # What Lance's Rust code raises on some damaged files; the class cannot be imported and is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise CollectionError(f"cannot {action} {path}: a file in it is damaged, restore it from a backup") from error


def _reason(error: Exception) -> str:
    text = str(error)
    if "Generic S3 error" in text or "s3://" in text:
        return s3.reason(text)
    number = getattr(error, "errno", None)
    # Lance leaves errno empty and names the number in the text.
    if number is None and (found := _OS_ERROR.search(text)):
        number = int(found[1])
    if number in _REASONS:
        return _REASONS[number]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if number == errno.ENOENT or "Not found: " in text:
        return _GONE
    return _SOURCE_LOCATION.sub("", text).splitlines()[0] if text else type(error).__name__
