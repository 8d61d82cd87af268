"""Small pictures of photos, kept while there is room."""

from __future__ import annotations

from enum import IntEnum

from resight.errors import UnreadableFile
from resight.images.decode import decode
from resight.images.files import open_regular
from resight.images.formats import HEADER_BYTES, sniff
from resight.images.scan import content_hash
from resight.serving.opened import State
from resight.serving.service import Service
from resight.viz.pictures import encode_jpeg

QUALITY = 80
TYPES = {kind: f"image/{kind}" for kind in ("jpeg", "png", "gif", "webp", "tiff", "bmp", "avif", "heic")}


class Size(IntEnum):
    """Pixels of the longer side of a thumbnail."""

    TINY = 160
    SMALL = 320
    MEDIUM = 640
    LARGE = 1280


def thumbnail(service: Service, state: State, place: int, size: int) -> bytes:
    """A photo as JPEG, its longer side at most `size` pixels and without metadata. Not for the event loop.

    Raises `ImageError` when its file is gone or damaged.
    """
    key = (state.photos.sha256[place], size)
    found = service.thumbnails.get(key)
    if found is None:
        found = picture(path_of(state, place), size)
        service.thumbnails.put(key, found, len(found))
    return found


def picture(path: str, size: int) -> bytes:
    """The photo at `path` as JPEG, as `thumbnail`."""
    pixels = decode(path, max_side=size).pixels
    return encode_jpeg(pixels, pixels.shape[1], pixels.shape[0], QUALITY)


def original(state: State, place: int) -> tuple[bytes, str]:
    """The file of a photo as it is, and its media type; a path in a collection that names another file gives nothing.

    Raises `ImageError` when the file is not the one that was indexed.
    """
    path = path_of(state, place)
    if content_hash(path) != state.photos.sha256[place]:
        raise UnreadableFile(f"{path} has changed since it was indexed: index it again")
    with open_regular(path) as file:
        content = file.read()
    return content, TYPES.get(sniff(content[:HEADER_BYTES]) or "", "application/octet-stream")


def path_of(state: State, place: int) -> str:
    """Where the file of a photo lies."""
    path: str = state.collection.snapshot.photo(int(state.photos.rows[place]))["path"]
    return path
