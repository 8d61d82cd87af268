"""From a file or an id to a query, and from ranked rows to results."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from resight.collection.answer import MatchRule, Query, Result
from resight.errors import ImageError, UsageError
from resight.features.local.packed import empty_features
from resight.images.decode import Decoded, decode
from resight.images.transform import decode_crop, pixel_box
from resight.matching.geometry import Verification
from resight.store.records import escape_path
from resight.types import Box, Float32, Int64, LocalFeatures

if TYPE_CHECKING:
    from resight.collection.collection import Collection

VERIFIED = 100  # results that geometry looks at


def read_query(collection: Collection, image: str | os.PathLike[str], box: Box | None) -> Query:
    """The path of a photo, or the id of an indexed one, as a query. Raises as `Collection.query` says."""
    name = os.fspath(image)
    row = -1 if os.path.isfile(name) else collection.ids.get(name, -1)
    if row < 0 and not os.path.exists(name):
        raise UsageError(f"{name} is neither a file nor the id of a photo in {collection.path}: check the spelling")
    path = os.path.abspath(name) if row < 0 else collection.photo(row)["path"]
    if row >= 0 and box is None:
        return Query(name, path, None, collection.features(row), row, _stored_vector(collection, row))
    settings = collection.settings
    decoded, offset = _decode(path, box, settings.max_side)
    local = empty_features(0)
    if settings.local is not None:
        local = _moved(settings.local.encoder(decoded.pixels).scaled(1 / decoded.scale), offset)
    return Query(escape_path(name), path, box, local, row, _described(collection, path, decoded))


def judge(
    collection: Collection, rule: MatchRule, query: Query, rows: Int64, scores: Any, first: int = 1
) -> tuple[Result, ...]:
    """Rows (n,) and their scores as results of ranks from `first` on, the first hundred verified where that can be."""
    proofs: list[Verification | None] = []
    if collection.settings.local is not None:
        proofs += collection.verifier(query.local, rows[:VERIFIED])
    proofs += [None] * (len(rows) - len(proofs))
    return tuple(
        Result(
            rank=first + i,
            id=photo["id"],
            row=int(photo["row"]),
            path=photo["path"],
            score=float(score),
            match=rule(float(score), proof),
            verification=proof,
        )
        for i, (photo, score, proof) in enumerate(zip(collection.photos(rows), scores, proofs, strict=True))
    )


def _stored_vector(collection: Collection, row: int) -> Float32 | None:
    if collection.settings.vector is None:
        return None
    whole = collection.whole
    place = int(np.searchsorted(whole.rows, row))
    known = place < len(whole.rows) and whole.rows[place] == row
    return np.array(whole.matrix[place]) if known else np.zeros(whole.matrix.shape[1], np.float32)


def _described(collection: Collection, path: str, decoded: Decoded) -> Float32 | None:
    """The global descriptor of a query. One too small for the network counts nothing beside local features."""
    if collection.descriptor is None:
        return None
    vector: Float32 | ImageError = collection.descriptor.describe([decoded.pixels])[0]
    if not isinstance(vector, ImageError):
        return np.asarray(collection.whole.whiten(vector[None])[0])
    if collection.settings.local is None:
        raise type(vector)(f"{escape_path(path)}: {vector}")
    return np.zeros(collection.whole.matrix.shape[1], np.float32)


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
