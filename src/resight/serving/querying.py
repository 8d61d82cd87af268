"""From what a client names to a query: an upload, an earlier one, or a photo of the collection, and boxes on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from resight.collection.answer import Query
from resight.collection.query import query_of_pixels, read_query
from resight.errors import UsageError
from resight.serving import models
from resight.serving.opened import State
from resight.serving.photo_keys import id_of
from resight.serving.problems import Refused
from resight.serving.queries import Upload
from resight.types import Box, LocalFeatures

MOST_BOXES = 8
Corners = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Source:
    """What is asked about: an upload or the key of a photo, and boxes [x0, y0, x1, y1] on it."""

    upload: Upload | None
    key: str | None
    boxes: tuple[Corners, ...] = ()


@dataclass(frozen=True, eq=False)
class Asked:
    """A query, and what the answer says of it."""

    query: Query
    info: models.QueryInfo


def read_boxes(texts: Sequence[str] | None) -> tuple[Corners, ...]:
    """Boxes of the form `x0,y0,x1,y1`, also in brackets. Raises `UsageError` for other forms and empty boxes."""
    if texts is not None and len(texts) > MOST_BOXES:
        raise UsageError(f"{len(texts)} boxes were given: at most {MOST_BOXES} are searched for")
    return tuple(_corners(text) for text in texts or ())


def _corners(text: str) -> Corners:
    try:
        x0, y0, x1, y1 = (float(part) for part in text.strip().removeprefix("[").removesuffix("]").split(","))
    except ValueError as error:
        raise UsageError(f"box {text[:80]!r} is not of the form x0,y0,x1,y1: give four numbers, in pixels") from error
    _ = Box(x0, y0, x1 - x0, y1 - y0)  # raises
    return x0, y0, x1, y1


def read_object(name: str, text: str | None) -> dict[str, Any]:
    """A JSON object in a field of a form. Raises `UsageError` for anything else."""
    if text is None or not text.strip():
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not JSON: give an object, such as {{}}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{name} is not a JSON object: give one, such as {{}}")
    return found


def ask(state: State, source: Source) -> Asked:
    """The query of a source, its features extracted once. Not for the event loop.

    Raises `Refused` (404) for an unknown photo, `UsageError` for a box outside, `ImageError` for a file that is gone.
    """
    known = (source.upload.token if source.upload else None, source.key, source.boxes)
    width, height = _size(state, source)
    query = state.queries.find(known)
    if query is None:
        parts = [_part(state, source, box) for box in _boxes(source)]
        query = state.queries.keep(known, parts[0] if len(parts) == 1 else _joined(parts))
    info = models.QueryInfo(
        token=source.upload.token if source.upload else None,
        key=source.key,
        width=width,
        height=height,
        boxes=list(source.boxes),
    )
    return Asked(query, info)


def place_of(state: State, key: str) -> int:
    """Place of the photo with this key in the list of photos. Raises `Refused` (404) when there is none."""
    try:
        id_ = id_of(key)
    except UsageError as error:
        raise Refused(404, str(error)) from error
    place = state.photos.place.get(id_)
    if place is None:
        raise Refused(404, "the collection holds no photo with this key, or it could not be decoded")
    return place


def _size(state: State, source: Source) -> tuple[int, int]:
    if source.upload is not None:
        return source.upload.photo.width, source.upload.photo.height
    assert source.key is not None
    place = place_of(state, source.key)
    return int(state.photos.widths[place]), int(state.photos.heights[place])


def _boxes(source: Source) -> list[Box | None]:
    return [Box(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in source.boxes] or [None]


def _part(state: State, source: Source, box: Box | None) -> Query:
    snapshot = state.collection.snapshot
    if source.upload is not None:
        return query_of_pixels(snapshot, "the uploaded photo", source.upload.photo, box, source.upload.sha256)
    assert source.key is not None
    return read_query(snapshot, state.photos.ids[place_of(state, source.key)], box)


def _joined(parts: list[Query]) -> Query:
    """Several boxes as one query: the features of all, strongest first, and the mean of the descriptors."""
    local = [part.local for part in parts if len(part.local)]
    vectors = [part.vector for part in parts if part.vector is not None]
    vector = None
    if vectors:
        mean = np.mean(vectors, axis=0)
        vector = np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)
    return replace(
        parts[0], local=_strongest_first(local) if local else parts[0].local, vector=vector, box=_around(parts)
    )


def _strongest_first(parts: list[LocalFeatures]) -> LocalFeatures:
    strength = np.concatenate([part.strength for part in parts])
    order = np.argsort(-strength, kind="stable")
    xy, scale, angle, descriptors = (
        np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("xy", "scale", "angle", "descriptors")
    )
    return LocalFeatures(xy, scale, angle, strength[order], descriptors)


def _around(parts: list[Query]) -> Box:
    """The box around all boxes: what is outlined in results."""
    boxes = [part.box for part in parts if part.box is not None]
    left, top = min(box.x for box in boxes), min(box.y for box in boxes)
    right, bottom = max(box.x + box.width for box in boxes), max(box.y + box.height for box in boxes)
    return Box(left, top, right - left, bottom - top)
