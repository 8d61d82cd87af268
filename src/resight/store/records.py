"""The columns of the two tables, and how photos become batches of them."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa

from resight.errors import ArrayError, UsageError
from resight.types import Float32, Int64, as_array

IMAGES_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field("id", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("path_bytes", pa.binary()),
        pa.field("root", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("taken_at", pa.string()),
        pa.field("error_kind", pa.string()),
        pa.field("error", pa.string()),
        pa.field("tags", pa.list_(pa.string())),
    ]
)
GLOBAL = "global"  # the column of global descriptors, only in collections whose recipe has them
# Blobs lie outside the columns: one image is a single read, and rows and counts are scanned without touching them.
LOCAL_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field("count", pa.int32()),
        pa.field("crc32", pa.int64()),
        pa.field("packed", pa.large_binary(), metadata={"lance-encoding:blob": "true"}),
    ]
)


LOCAL_COLUMNS = ("count", "crc32", "packed")  # of every kind of local features


def local_column(name: str, kind: str = "") -> str:
    """Column `name` of a further kind of local features; the first kind, "", has the plain names."""
    return f"{kind}_{name}" if kind else name


def local_schema(kinds: Sequence[str] = ()) -> pa.Schema:
    """Columns of table `local`, with those of further `kinds` of local features."""
    schema = LOCAL_SCHEMA
    for kind in kinds:
        for name in LOCAL_COLUMNS:
            schema = schema.append(LOCAL_SCHEMA.field(name).with_name(local_column(name, kind)))
    return schema


def images_schema(dim: int | None = None) -> pa.Schema:
    """Columns of table `images`; with `dim`, global descriptors of that dimension, null where a photo has none."""
    if dim is None:
        return IMAGES_SCHEMA
    return IMAGES_SCHEMA.append(pa.field(GLOBAL, pa.list_(pa.float32(), dim)))


@dataclass(frozen=True)
class Photo:
    """One version of one photo, as table `images` keeps it.

    `row` is its number, never reused. `id` is unique among live photos. `path` is the file's path as the system gives
    it: a name that is not UTF-8 is kept to the byte. `root` is the scanned folder; `sha256` of the file in hex; `size`
    bytes; `mtime_ns` nanoseconds since 1970; `width`, `height` pixels after orientation, 0 when unknown; `taken_at`
    ISO 8601 or None. A file that cannot be decoded has `error_kind` and `error` set, and no features.
    """

    row: int
    id: str
    path: str | bytes
    root: str
    sha256: str
    size: int
    mtime_ns: int
    width: int = 0
    height: int = 0
    taken_at: str | None = None
    error_kind: str | None = None
    error: str | None = None
    tags: tuple[str, ...] = ()


def escape_path(path: str | bytes) -> str:
    """`path` as text fit for display and JSON: bytes that are not UTF-8 become %XX, all else stays."""
    text = os.fsencode(path).decode("utf-8", "surrogateescape")
    return re.sub("[\udc80-\udcff]", lambda found: f"%{ord(found[0]) - 0xDC00:02X}", text)


def images_batch(
    photos: Sequence[Photo], vectors: Sequence[Float32 | None] | None = None, dim: int | None = None
) -> pa.Table:
    """Photos as a batch of table `images`: `uri` is the escaped path, `path_bytes` the path to open the file by.

    `vectors`: the global descriptor (`dim`,) of each photo or None, for a collection that keeps them.

    Raises `UsageError` when a value does not fit its column, such as an id that is not valid text.
    """
    records = []
    for photo in photos:
        record = {field.name: getattr(photo, field.name) for field in fields(photo)}
        record["uri"], record["path_bytes"] = escape_path(photo.path), os.fsencode(record.pop("path"))
        record["root"] = escape_path(photo.root)
        record["tags"] = list(photo.tags)
        records.append(record)
    try:
        table = pa.Table.from_pylist(records, schema=IMAGES_SCHEMA)
        return table if dim is None else table.append_column(GLOBAL, _vector_column(vectors or (), dim))
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        raise UsageError(f"a photo cannot be stored: {error}") from error


def _vector_column(vectors: Sequence[Float32 | None], dim: int) -> pa.Array:
    blank = np.zeros(dim, np.float32)
    flat = np.concatenate([blank if vector is None else vector for vector in vectors] or [blank[:0]])
    absent = pa.array([vector is None for vector in vectors], pa.bool_())
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), dim, mask=absent)


Packed = tuple[Any, Sequence[bytes]]  # counts (n,) int32 of features, and n byte strings


def local_batch(rows: Any, counts: Any, packed: Sequence[bytes], more: Mapping[str, Packed] | None = None) -> pa.Table:
    """Packed features as a batch of table `local`: `rows` (n,) int64, `counts` (n,) int32 features, n byte strings;
    `more`: the counts and byte strings of each further kind.

    Raises `ArrayError` on unequal lengths or negative counts.
    """
    rows = as_array("rows", rows, np.int64, (None,))
    kinds = dict(more or {})
    columns = [column for one in ((counts, packed), *kinds.values()) for column in _kind_columns(rows, *one)]
    return pa.table([rows, *columns], schema=local_schema(tuple(kinds)))


def _kind_columns(rows: Int64, counts: Any, packed: Sequence[bytes]) -> list[Any]:
    counts = as_array("counts", counts, np.int32, (len(rows),))
    if len(packed) != len(rows):
        raise ArrayError(f"packed holds {len(packed)} images, expected {len(rows)}, one per row")
    if (counts < 0).any():
        raise ArrayError(f"counts hold {counts.min()}: an image has 0 features or more")
    checksums = [zlib.crc32(blob) for blob in packed]
    return [counts, pa.array(checksums, pa.int64()), pa.array(packed, pa.large_binary())]
