"""The page: files of the package, from a list of them, so that no path comes from outside."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import Response

from resight.serving.problems import Refused

router = APIRouter(include_in_schema=False)
TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "json": "application/json",
    "png": "image/png",
    "ico": "image/x-icon",
    "webmanifest": "application/manifest+json",
}


@dataclass(frozen=True)
class PageFile:
    """A file of the page: its `content`, the same `packed` by gzip, its media type, its ETag."""

    content: bytes
    packed: bytes
    kind: str
    etag: str


@cache
def page_files() -> dict[str, PageFile]:
    """The files of the page by name."""
    folder = files("resight.serving") / "page"
    found = {}
    for file in folder.iterdir() if folder.is_dir() else ():
        kind = TYPES.get(file.name.rpartition(".")[2])
        if kind is not None and file.is_file():
            content = file.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            found[file.name] = PageFile(content, gzip.compress(content, mtime=0), kind, etag)
    return found


Known = Annotated[str | None, Header(alias="If-None-Match")]
Encodings = Annotated[str, Header(alias="Accept-Encoding")]


@router.get("/")
async def index(known: Known = None, encodings: Encodings = "") -> Response:
    """The page itself."""
    response = _file("index.html", known, encodings)
    response.headers["Referrer-Policy"] = "same-origin"  # or a browser hides the origin of the form without scripts
    return response


@router.get("/page/{file}")
async def page_file(file: str, known: Known = None, encodings: Encodings = "") -> Response:
    """A file of the page."""
    return _file(file, known, encodings)


@router.get("/favicon.ico")
async def favicon(known: Known = None, encodings: Encodings = "") -> Response:
    """The icon of the page."""
    return _file("favicon.ico" if "favicon.ico" in page_files() else "favicon.svg", known, encodings)


def _file(name: str, known: str | None, encodings: str) -> Response:
    if name not in page_files():
        raise Refused(404, "there is no such page")
    file = page_files()[name]
    headers = {"ETag": file.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if known is not None and file.etag in known:
        return Response(status_code=304, headers=headers)
    packed = any(one.strip() == "gzip" for one in encodings.split(","))
    if packed:
        headers["Content-Encoding"] = "gzip"
    return Response(file.packed if packed else file.content, media_type=file.kind, headers=headers)
