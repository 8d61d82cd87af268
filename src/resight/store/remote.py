"""A collection in a bucket: `s3://bucket/name.resight`, with a local view of all that is no table.

Lance reads and writes the tables in the bucket itself. Stamp and artifacts, which are read as files and mapped, lie in
a folder of this process, the view: the stamp is fetched when the collection is opened, an artifact when it is first
needed. In the bucket artifacts are named by their content (`derived/SHA-256`), and `artifacts.json` says which content
belongs to which name, so that a writer replaces all of them at once. What was fetched stays in a cache on this machine
and is used again by its content.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from resight.errors import CollectionError
from resight.store.s3 import Bucket, bucket_of

CACHE = "RESIGHT_CACHE"  # names the folder of what was fetched
LIST = "artifacts.json"
DERIVED = "derived"
STAMPS = ("stamp.json", "stamp.copy.json")
APPENDED = ".log"  # ending of artifacts that grow in place, of which the cache keeps no link
MOST_LISTED = 1 << 20  # bytes of `artifacts.json`
CHUNK = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
PARTS = ".lists"  # ending of the folder beside an artifact that holds its parts
_SHA = re.compile(r"[0-9a-f]{64}")

Signature = tuple[int, int, int]


class Lease(Protocol):
    """What the one writer holds."""

    def require(self) -> None:
        """Raises `CollectionError` when it is not held any more."""


@dataclass
class _State:
    """What is known of the bucket: the content of every artifact by name, that of the list before, and which files of
    the view are just that content; whether some were deleted since the list was read.
    """

    listed: dict[str, tuple[str, int]] = field(default_factory=dict)
    before: set[str] = field(default_factory=set)
    fetched: dict[str, tuple[str, Signature]] = field(default_factory=dict)
    forgotten: bool = False
    lease: Lease | None = None


class RemoteFolder(type(Path())):  # type: ignore[misc]
    """The view of a collection in a bucket: to people its address, to the system a local folder."""

    bucket: Bucket | None = None
    state: _State

    def __str__(self) -> str:
        return os.fspath(self) if self.bucket is None else self.bucket.uri

    def __fspath__(self) -> str:
        return str(super().__str__())

    def __truediv__(self, name: Any) -> Path:
        return Path(os.fspath(self), name)

    def __reduce__(self) -> tuple[Any, ...]:
        return (remote_folder, (str(self),))


_VIEWS: dict[str, RemoteFolder] = {}  # of this process, by address and by local path


def remote_folder(address: str) -> RemoteFolder:
    """The view of the collection at `address`, one for this process. Raises `UsageError` when it is no address."""
    bucket = bucket_of(address)
    key = f"{os.getpid()} {bucket.uri}"  # a forked process gets views of its own
    if key not in _VIEWS:
        view = RemoteFolder(_new_view(bucket.prefix.rpartition("/")[2]))
        view.bucket, view.state = bucket, _State()
        _VIEWS[key] = _VIEWS[os.fspath(view)] = view
    return _VIEWS[key]


def view_at(path: str) -> RemoteFolder | None:
    """The view whose local path this is."""
    return _VIEWS.get(path)


def remote(folder: Path) -> RemoteFolder | None:
    """`folder` where it is the view of a collection in a bucket."""
    return folder if isinstance(folder, RemoteFolder) and folder.bucket is not None else None


def bucket(view: RemoteFolder) -> Bucket:
    """Where the collection lies."""
    assert view.bucket is not None
    return view.bucket


def version_of(view: RemoteFolder) -> tuple[str, ...]:
    """What changes in the bucket when the collection does."""
    objects = bucket(view)
    found = [objects.get(name) for name in (*STAMPS, LIST)]
    versions = [key for table in ("images", "local") for key, _ in objects.sizes(f"{table}.lance/_versions/")]
    return (*("" if one is None else one.etag for one in found), *versions)


def cache_folder() -> Path:
    """Where what was fetched is kept; it may be deleted while no resight runs."""
    return Path(os.environ.get(CACHE) or Path.home() / ".cache" / "resight") / "remote"


# Reading


def pull(view: RemoteFolder) -> None:
    """Fetch stamp and list of artifacts, and drop from the view what is no longer so. The one writer has them."""
    state = view.state
    if state.lease is not None:
        return
    with _local_faults(view):
        (view / DERIVED).mkdir(exist_ok=True)
        for name in STAMPS:
            found = bucket(view).get(name)
            (view / name).write_bytes(found.content) if found else (view / name).unlink(missing_ok=True)
        (state.listed, state.before), state.forgotten = _read_list(view), False
        for name in [name for name in state.fetched if not (view / DERIVED / name).exists()]:
            state.fetched.pop(name)
        for name, file in _files(view):
            sha256, signature = state.fetched.get(name, ("", (0, 0, 0)))
            if state.listed.get(name, ("", 0))[0] != sha256 or signature != _signature(file):
                file.unlink(missing_ok=True)
                state.fetched.pop(name, None)


def present(view: RemoteFolder, name: str) -> bool:
    """Whether there is an artifact of that name; fetches nothing."""
    return (name in view.state.listed and name not in view.state.fetched) or (view / DERIVED / name).exists()


def fetch(view: RemoteFolder, name: str) -> None:
    """Bring an artifact, and its parts, into the view, where it is not there and the bucket has it. Raises
    `CollectionError` when its content is not what was written.
    """
    for one in (name, *_parts(view, name)):
        _fetch(view, one)


def _parts(view: RemoteFolder, name: str) -> list[str]:
    """Names of the parts of an artifact in the bucket."""
    return [one for one in view.state.listed if one.startswith(f"{Path(name).stem}{PARTS}/")]


def _files(view: RemoteFolder) -> list[tuple[str, Path]]:
    """The artifacts in the view and their parts: names, and where they lie."""
    derived = view / DERIVED
    every = (*derived.iterdir(), *derived.glob(f"*{PARTS}/*"))
    return [(str(file.relative_to(derived).as_posix()), file) for file in every if file.is_file()]


def _fetch(view: RemoteFolder, name: str) -> None:
    state = view.state
    if name in state.fetched or name not in state.listed or (view / DERIVED / name).exists():
        return
    sha256, size = state.listed[name]
    with _local_faults(view):
        kept = _cached(view, sha256, size)
        file = view / DERIVED / name
        file.parent.mkdir(exist_ok=True)
        _link(kept, file)
        state.fetched[name] = sha256, _signature(file)


def _cached(view: RemoteFolder, sha256: str, size: int) -> Path:
    """The file of that content in the cache, fetched where it is not there or was changed."""
    kept = cache_folder() / "content" / sha256
    with suppress(FileNotFoundError):
        if kept.stat().st_size == size and kept.stat().st_mtime_ns == _mark(sha256):
            return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_name(f"{sha256}.{secrets.token_hex(4)}.part")
    try:
        bucket(view).download(f"{DERIVED}/{sha256}", os.fspath(partial))
        if content_of(partial) != (sha256, size):
            raise CollectionError(f"{view}/{DERIVED}/{sha256} is not what was written: run resight check --repair")
        os.utime(partial, ns=(_mark(sha256), _mark(sha256)))
        os.replace(partial, kept)
    finally:
        partial.unlink(missing_ok=True)
    return kept


def _read_list(view: RemoteFolder) -> tuple[dict[str, tuple[str, int]], set[str]]:
    found = bucket(view).get(LIST)
    if found is None:
        return {}, set()
    try:
        if len(found.content) > MOST_LISTED:
            raise ValueError("it is too long")
        content = json.loads(found.content)
        listed = {str(name): (str(one["sha256"]), int(one["size"])) for name, one in content["files"].items()}
        if not all(_NAME.fullmatch(name) and _SHA.fullmatch(sha) for name, (sha, _) in listed.items()):
            raise ValueError("it holds a name that cannot be")
        return listed, {str(sha) for sha in content["before"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CollectionError(f"{view}/{LIST} is damaged ({error}): run resight check --repair on it") from error


# Writing


def forget(view: RemoteFolder, name: str) -> None:
    """Note that an artifact was deleted, which the view may never have had, and its parts with it."""
    state = view.state
    for one in (name, *_parts(view, name)):
        state.forgotten = state.listed.pop(one, None) is not None or state.forgotten
        state.fetched.pop(one, None)


def upload_stamps(view: RemoteFolder) -> None:
    """Write stamp and copy to the bucket, the copy first as on disk."""
    for name in reversed(STAMPS):
        bucket(view).put(name, (view / name).read_bytes())


def hold(view: RemoteFolder) -> None:
    """Make sure that this process is still the one writer. Raises `CollectionError` when it is not."""
    assert view.state.lease is not None
    view.state.lease.require()


def push(view: RemoteFolder) -> None:
    """Write to the bucket what changed in the view's artifacts: their contents, then the list, in one step for readers.

    Contents that neither this list nor the last one names are deleted. Only for the one writer.
    """
    state = view.state
    listed = dict(state.listed)
    with _local_faults(view):
        files = {name: file for name, file in _files(view) if _NAME.fullmatch(name)}
        for name in [name for name in state.fetched if name not in files]:  # renamed, say
            listed.pop(name, None)
            state.fetched.pop(name)
        for name, file in files.items():
            if name.endswith(".part") or state.fetched.get(name, ("", None))[1] == _signature(file):
                continue
            listed[name] = _upload(view, file)
            state.fetched[name] = listed[name][0], _signature(file)
    known = {sha256 for sha256, _ in _read_list(view)[0].values()}
    if listed == state.listed and not state.forgotten:
        return
    hold(view)
    content = {"files": {name: {"sha256": sha, "size": size} for name, (sha, size) in sorted(listed.items())}}
    before = known or state.before
    bucket(view).put(LIST, json.dumps({**content, "before": sorted(before)}, indent=1).encode())
    state.listed, state.before, state.forgotten = listed, before, False
    kept = before | {sha256 for sha256, _ in listed.values()}
    for key, _ in list(bucket(view).sizes(f"{DERIVED}/")):
        if key.rpartition("/")[2] not in kept:
            bucket(view).delete(key)


def _upload(view: RemoteFolder, file: Path) -> tuple[str, int]:
    sha256, size = content_of(file)
    bucket(view).upload(f"{DERIVED}/{sha256}", os.fspath(file))
    if file.suffix != APPENDED:
        kept = cache_folder() / "content" / sha256
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.utime(file, ns=(_mark(sha256), _mark(sha256)))
        partial = kept.with_name(f"{sha256}.{secrets.token_hex(4)}.part")
        _link(file, partial)
        os.replace(partial, kept)
        partial.unlink(missing_ok=True)  # it stays where both were one file already
    return sha256, size


def content_of(file: Path) -> tuple[str, int]:
    """SHA-256 in hex, and bytes, of a file."""
    total, size = hashlib.sha256(), 0
    with open(file, "rb") as opened:
        while chunk := opened.read(CHUNK):
            total.update(chunk)
            size += len(chunk)
    return total.hexdigest(), size


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where it may grow, or where the disk has no links."""
    if APPENDED not in (source.suffix, target.suffix):
        with suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)


def _mark(sha256: str) -> int:
    """The time of change of a file in the cache, from its content: one that was changed later has another."""
    return int(sha256[:12], 16) * 1000


def _signature(file: Path) -> Signature:
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _new_view(name: str) -> Path:
    """A new folder of that name, which is deleted when this process ends; those of dead processes go now."""
    views = cache_folder() / "views"
    with _local_faults(views):
        views.mkdir(parents=True, exist_ok=True, mode=0o700)
        for old in views.iterdir():
            _remove_if_dead(old)
        place = views / f"{os.getpid()}-{secrets.token_hex(4)}"
        (place / name / DERIVED).mkdir(parents=True)
        alive = os.open(place / ".alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(alive, fcntl.LOCK_EX)  # held until this process ends
    atexit.register(_remove_own, place, os.getpid())
    return place / name


def _remove_own(place: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(place, ignore_errors=True)


def _remove_if_dead(place: Path) -> None:
    try:
        alive = os.open(place / ".alive", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return  # it is being made, or removed
    try:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        shutil.rmtree(place, ignore_errors=True)
    finally:
        os.close(alive)


@contextmanager
def _local_faults(what: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise CollectionError(
            f"cannot keep files of {what} in {cache_folder()}: {why}; free some space, or set {CACHE} to another folder"
        ) from error
