"""Files over HTTP: continued where they broke off, checked, and never seen half."""

from __future__ import annotations

import fcntl
import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any

from resight.errors import ResightError
from resight.progress import Progress, silent
from resight.regular_files import open_regular

LARGEST = 4 * 2**30  # bytes of a download whose size is not known
CHUNK = 2**20
TIMEOUT = 30.0  # seconds without a byte


def download(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    step: str = "fetch",
    progress: Progress = silent,
) -> None:
    """Fetch `url` to the file `target`, which appears only when it is complete and right.

    `size` in bytes and `sha256`, hexadecimal, perhaps only its first digits, are checked where given; without a size,
    at most `LARGEST` bytes are taken. What arrives lies in `target`.part until then, and the next call continues it
    where the server says that its file is still the same. Redirects from https lead to https only. Raises
    `ResightError` when that fails, another process is fetching the same file, or it is not the right one.
    """
    partial, etag = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.etag")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(partial) as file:
            _fill(url, file, etag, size, lambda done, total: progress(step, done, total))
            _check(url, partial, size, sha256)
            os.replace(partial, target)
            etag.unlink(missing_ok=True)
    except urllib.error.HTTPError as error:
        raise ResightError(f"{url} cannot be fetched: the server says {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise ResightError(f"{url} cannot be fetched to {target}: {error}; run it again to continue") from error


def has_digest(path: Path, sha256: str | None) -> bool:
    """Whether the SHA-256 of the file starts with `sha256`; true where that is None."""
    if sha256 is None:
        return True
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(sha256)


@contextmanager
def _alone(path: Path) -> Iterator[IO[bytes]]:
    """The open partial file, which no other process is filling."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ResightError(f"{path} is being fetched by another process: wait until it is done") from error
        yield file


def _fill(url: str, file: IO[bytes], etag: Path, size: int | None, show: Any) -> None:
    """Append what is missing to `file`, or all of it where the server cannot continue."""
    known = etag.read_text() if etag.exists() else ""
    start = file.tell() if known else 0
    with _open(url, start, known) as response:
        if response.status != 206:
            start = 0  # the whole file: it has changed, or the server cannot continue
        elif not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
            raise ResightError(f"{url}: the server was asked to continue at byte {start} and sent another part")
        file.truncate(start)
        etag.write_text(response.headers.get("ETag") or "")
        length = response.headers.get("Content-Length") or ""
        total = size or (start + int(length) if length.isdecimal() else 0)
        done = start
        while chunk := response.read(CHUNK):
            done += len(chunk)
            if done > (size or LARGEST):
                file.truncate(0)
                raise ResightError(f"{url} gives more than {size or LARGEST} bytes: that is not what was published")
            file.write(chunk)
            show(done, total)
        file.flush()
    if done < total:
        raise ResightError(f"{url} broke off after {done} of {total} bytes: run it again to continue")


def _open(url: str, start: int, etag: str) -> Any:
    opener = urllib.request.build_opener(_SameSafety)
    request = urllib.request.Request(url, headers={"User-Agent": "resight"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", etag)
    try:
        return opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()  # nothing is left to be sent: what lies here is longer than the file, or all of it
        request.remove_header("Range")
        return opener.open(request, timeout=TIMEOUT)


class _SameSafety(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to anything less."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith(("https://", f"{req.type}://")):
            raise ResightError(f"{req.full_url} leads to {newurl}, which is less safe: it was not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check(url: str, partial: Path, size: int | None, sha256: str | None) -> None:
    found = partial.stat().st_size
    if found == 0 or size not in (None, found) or not has_digest(partial, sha256):
        partial.unlink()
        raise ResightError(f"{url} gave {found} bytes that are not the file that was published: they were removed")
