"""Find the photos in files and folders: recursive, in a fixed order, each real file once."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from resight.errors import ImageError, UsageError
from resight.images.files import as_unicode, open_regular, shown, unreadable
from resight.images.formats import EXTENSIONS, HEADER_BYTES, sniff

COLLECTION_SUFFIX = ".resight"


@dataclass(frozen=True, slots=True)
class Photo:
    """A file on disk that may be a photo.

    `id` is its path relative to `root` with `/` between folders: the same on every run, and always valid unicode (in a
    name that is not UTF-8 the odd bytes are written %XX, and `%` as %25). Two roots may hold the same id. `path` is
    absolute and opens the file, `root` the absolute folder; both are as `os.fsdecode` gives them. `size` is in bytes,
    `mtime_ns` in nanoseconds.
    """

    id: str
    path: str
    root: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One row of the report of what could not be used: printable path, short stable kind, sentence."""

    path: str
    kind: str
    message: str


@dataclass(frozen=True)
class Scan:
    """What a scan found; `skipped` counts files that neither look like an image nor are named like one."""

    photos: tuple[Photo, ...]
    problems: tuple[Problem, ...]
    skipped: int = 0


@dataclass
class _Found:
    """The state of one scan. `files` and `folders` hold real paths, so that links lead nowhere twice."""

    hidden: bool
    photos: list[Photo] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skipped: int = 0
    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    links: deque[tuple[str, str]] = field(default_factory=deque)


def scan(paths: Sequence[str | os.PathLike[str]], *, hidden: bool = False) -> Scan:
    """List the photos in `paths`, which are folders (searched to the bottom) or files.

    Photos come in the order of `paths`, then sorted by id. A file is taken when its name ends like that of an image or
    its first bytes are those of one; files given by name are always taken. Links are followed, without running in
    circles: a file that can be reached in several ways is listed once, in its own place rather than behind a link.
    Names that start with a dot are passed over unless `hidden`, folders `*.resight` always. A folder that cannot be
    listed and a link to nowhere become problems. Memory: about 0.5 KB per file. Raises `UsageError` when one of
    `paths` does not exist or is neither a file nor a folder.
    """
    found = _Found(hidden)
    tops = [_given(path) for path in paths]
    for top, is_folder in tops:
        if is_folder:
            _walk(found, top, top)
        else:
            _add(found, top, os.path.dirname(top), os.path.realpath(top))
    while found.links:
        _follow(found, *found.links.popleft())
    order = {top if is_folder else os.path.dirname(top): n for n, (top, is_folder) in reversed(list(enumerate(tops)))}
    photos = sorted(found.photos, key=lambda photo: (order[photo.root], photo.id))
    return Scan(tuple(photos), tuple(sorted(found.problems, key=lambda problem: problem.path)), found.skipped)


def content_hash(path: str) -> str:
    """SHA-256 of a file's bytes, in hex; the file is streamed. Raises `UnreadableFile`."""
    with open_regular(path) as stream:
        try:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise unreadable(path, error) from error


def _given(path: str | os.PathLike[str]) -> tuple[str, bool]:
    """Absolute path and whether it is a folder."""
    name = os.fsdecode(path)
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{shown(name)!r} cannot be scanned ({reason}): give a folder or a photo that exists"
        ) from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise UsageError(f"{shown(name)!r} is neither a file nor a folder: give a folder or a photo")
    return os.path.abspath(name), stat.S_ISDIR(mode)


def _walk(found: _Found, top: str, root: str) -> None:
    """Take everything below `top`; links wait until all real places are known."""
    stack = [top]
    while stack:
        folder = stack.pop()
        real = os.path.realpath(folder)
        if real in found.folders:
            continue
        found.folders.add(real)
        try:
            with os.scandir(folder) as entries:
                kept = sorted((entry for entry in entries if _wanted(found, entry.name)), key=lambda entry: entry.name)
        except OSError as error:
            _report(
                found,
                folder,
                f"folder {shown(folder)} cannot be listed ({error.strerror}): make it readable and run again",
            )
            continue
        for entry in kept:
            if entry.is_symlink():
                found.links.append((entry.path, root))
            elif entry.is_dir(follow_symlinks=False):
                stack.append(entry.path)
            elif entry.is_file(follow_symlinks=False) and _is_candidate(entry.path):
                _add(found, entry.path, root, os.path.join(real, entry.name))
            else:
                found.skipped += 1


def _follow(found: _Found, link: str, root: str) -> None:
    try:
        mode = os.stat(link).st_mode
    except OSError as error:
        _report(found, link, f"link {shown(link)} leads nowhere ({error.strerror}): remove it or restore its target")
        return
    if stat.S_ISDIR(mode):
        _walk(found, link, root)
    elif stat.S_ISREG(mode) and _is_candidate(link):
        _add(found, link, root, os.path.realpath(link))
    else:
        found.skipped += 1


def _add(found: _Found, path: str, root: str, real: str) -> None:
    if real in found.files:
        return
    found.files.add(real)
    try:
        status = os.stat(path)
    except OSError as error:
        _report(found, path, str(unreadable(path, error)))
        return
    name = path.removeprefix(root).lstrip(os.sep).replace(os.sep, "/")
    found.photos.append(Photo(as_unicode(name), path, root, status.st_size, status.st_mtime_ns))


def _wanted(found: _Found, name: str) -> bool:
    return not name.endswith(COLLECTION_SUFFIX) and (found.hidden or not name.startswith("."))


def _is_candidate(path: str) -> bool:
    """By name first, so that a folder of photos is listed without opening any."""
    if os.path.splitext(path)[1].lower() in EXTENSIONS:
        return True
    try:
        with open_regular(path) as stream:
            return sniff(stream.read(HEADER_BYTES)) is not None
    except (ImageError, OSError):
        return False


def _report(found: _Found, path: str, message: str) -> None:
    found.problems.append(Problem(shown(path), "unreadable", message))
