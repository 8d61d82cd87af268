"""The page: files of the package, from a list of them, so that no path comes from outside."""

from __future__ import annotations

import hashlib
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


@cache
def page_files() -> dict[str, tuple[bytes, str, str]]:
    """The files of the page by name: content, media type, ETag."""
    folder = files("resight.serving") / "page"
    found = {}
    for file in folder.iterdir() if folder.is_dir() else ():
        kind = TYPES.get(file.name.rpartition(".")[2])
        if kind is not None and file.is_file():
            content = file.read_bytes()
            found[file.name] = content, kind, f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    return found


@router.get("/")
async def index(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """The page itself."""
    return _file("index.html", if_none_match)


@router.get("/page/{file}")
async def page_file(file: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """A file of the page."""
    return _file(file, if_none_match)


@router.get("/favicon.ico")
async def favicon(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """The icon of the page."""
    known = page_files()
    return _file("favicon.ico" if "favicon.ico" in known else "favicon.svg", if_none_match)


def _file(name: str, known: str | None) -> Response:
    if name not in page_files():
        raise Refused(404, "there is no such page")
    content, kind, etag = page_files()[name]
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if known is not None and etag in known:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)
