"""From a file or an id to a query, and from ranked rows to results."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from resight.collection.answer import MatchRule, Query, Result
from resight.collection.snapshot import Snapshot
from resight.errors import ImageError, UsageError
from resight.features.local.packed import empty_features
from resight.images.decode import Decoded, decode
from resight.images.scan import content_hash
from resight.images.transform import crop, decode_crop, pixel_box
from resight.matching.geometry import Verification
from resight.store.records import escape_path
from resight.types import Box, Float32, Int64, LocalFeatures, Ranking

NO_ROWS = np.empty(0, np.int64)


def read_query(snapshot: Snapshot, image: str | os.PathLike[str], box: Box | None) -> Query:
    """The path of a photo, or the id of an indexed one, as a query. A file whose content is indexed is described as
    the collection has it. Raises as `Collection.query` says.
    """
    name = os.fspath(image)
    if os.path.isfile(name):
        return _read_file(snapshot, name, box)
    row = snapshot.find(name)
    if row is None and os.path.exists(name):
        return _read(snapshot, name, os.path.abspath(name), box, -1)  # no file: decoding says what it is
    if row is None:
        raise UsageError(f"{name} is neither a file nor the id of a photo in {snapshot.path}: check the spelling")
    photo = snapshot.photo(row)
    copies = NO_ROWS if box is not None else _rows_of_content(snapshot, photo["sha256"])
    if box is None:
        return _stored(snapshot, name, photo["path"], row, row, copies)
    return _read(snapshot, name, photo["path"], box, row)


def query_of_pixels(snapshot: Snapshot, name: str, photo: Decoded, box: Box | None = None, sha256: str = "") -> Query:
    """A photo that is decoded already as a query; `box`, in pixels of the original, cuts it first.

    `sha256` of its file: where that is indexed and no box is given, the photo is described as the collection has it.
    Raises `UsageError` when the box lies outside, `ImageError` when the network cannot take so small a photo.
    """
    copies = _rows_of_content(snapshot, sha256) if sha256 and box is None else NO_ROWS
    if len(copies):
        return _stored(snapshot, name, name, -1, int(copies[0]), copies)
    if box is None:
        return _of_decoded(snapshot, name, name, None, -1, photo, (0.0, 0.0))
    left, top, _, _ = pixel_box(box, photo.width, photo.height)
    return _of_decoded(snapshot, name, name, box, -1, crop(photo, box), (float(left), float(top)))


def judge(
    snapshot: Snapshot,
    rule: MatchRule,
    query: Query,
    rows: Int64,
    scores: Any,
    verify: int,
    *,
    own: Ranking,
    first: int = 1,
) -> tuple[Result, ...]:
    """Rows (n,) and their scores as results of ranks from `first` on, the first `verify` verified where that can be.
    Photos whose file is the query's are matches without more proof. `own`: the ranking of the query before expansion.
    """
    found: list[Verification | None] = []
    if snapshot.verifier is not None:
        found += snapshot.verifier(query.local, rows[:verify])
    found += [None] * (len(rows) - len(found))
    same = np.isin(rows, query.copies)
    before = dict(zip(own.ids[0].tolist(), own.scores[0].tolist(), strict=True))
    return tuple(
        Result(
            rank=first + i,
            id=photo["id"],
            row=int(photo["row"]),
            path=photo["path"],
            score=float(score),
            match=bool(same[i]) or rule(float(score), verification, before.get(int(photo["row"]), -math.inf)),
            verification=verification,
        )
        for i, (photo, score, verification) in enumerate(zip(snapshot.photos(rows), scores, found, strict=True))
    )


def identical_first(query: Query, rows: Int64, scores: Any) -> tuple[Int64, Any]:
    """Ranked rows and scores (n,), those of the query's own content first, with the best score."""
    same = np.isin(rows, query.copies)
    order = np.argsort(~same, kind="stable")
    rows, scores = rows[order], np.array(scores[order], np.float32)
    if same.any():
        scores[: int(same.sum())] = scores.max()
    return rows, scores


def _read_file(snapshot: Snapshot, name: str, box: Box | None) -> Query:
    path = os.path.abspath(name)
    if box is not None:
        return _read(snapshot, name, path, box, -1)
    copies = _rows_of_content(snapshot, content_hash(path))
    if len(copies):
        return _stored(snapshot, name, path, -1, int(copies[0]), copies)
    return _read(snapshot, name, path, None, -1)


def _rows_of_content(snapshot: Snapshot, sha256: str) -> Int64:
    """Rows of readable photos whose file has this content."""
    found = snapshot.tables.find("sha256", [sha256], ["row", "error_kind"])
    return np.asarray(found["row"].to_numpy()[found["error_kind"].is_null().to_numpy()])


def _stored(snapshot: Snapshot, name: str, path: str, row: int, like: int, copies: Int64) -> Query:
    """A query whose features are those that the collection has of row `like`."""
    kept = {key: snapshot.features(like, key) for key in snapshot.kinds or ("",)}
    vector = snapshot.vector(like)
    return Query(escape_path(name), path, None, kept.pop(""), row, vector, copies, kept)


def _read(snapshot: Snapshot, name: str, path: str, box: Box | None, row: int) -> Query:
    decoded, offset = _decode(path, box, snapshot.settings.max_side)
    return _of_decoded(snapshot, name, path, box, row, decoded, offset)


def _of_decoded(
    snapshot: Snapshot,
    name: str,
    path: str,
    box: Box | None,
    row: int,
    decoded: Decoded,
    offset: tuple[float, float],
) -> Query:
    found = {"": empty_features(0)}
    for key, encoder in snapshot.encoders.items():
        found[key] = _moved(encoder(decoded.pixels).scaled(1 / decoded.scale), offset)
    vector = _described(snapshot, path, decoded)
    return Query(escape_path(name), path, box, found.pop(""), row, vector, more=found)


def _described(snapshot: Snapshot, path: str, decoded: Decoded) -> Float32 | None:
    """The global descriptor of a query. One too small for the network counts nothing beside local features."""
    if snapshot.network is None or snapshot.vector_index is None:
        return None
    whitening = snapshot.whitening
    vector: Float32 | ImageError = snapshot.network.describe([decoded.pixels])[0]
    if not isinstance(vector, ImageError):
        return vector if whitening is None else np.asarray(whitening.apply(vector[None])[0])
    if snapshot.settings.local is None:
        raise type(vector)(f"{escape_path(path)}: {vector}")
    return np.zeros(snapshot.network.dim if whitening is None else whitening.dim, np.float32)


def _decode(path: str, box: Box | None, max_side: int) -> tuple[Decoded, tuple[float, float]]:
    """Pixels of a query, and where its top-left corner lies in the photo."""
    if box is None:
        return decode(path, max_side=max_side), (0.0, 0.0)
    whole = decode(path, max_side=16)
    left, top, _, _ = pixel_box(box, whole.width, whole.height)
    return decode_crop(path, box, max_side=max_side), (float(left), float(top))


def _moved(local: LocalFeatures, offset: tuple[float, float]) -> LocalFeatures:
    if not len(local):
        return local
    shift = np.asarray(offset, np.float32)
    return LocalFeatures(local.xy + shift, local.scale, local.angle, local.strength, local.descriptors)
