"""Photos as rows: what every table of them holds, in batches, and the table as a Parquet file.

| column | holds |
|---|---|
| id, path, width, height, taken_at, sha256, tags | as table `images` of the collection |
| vector | the global descriptor, null where a photo has none; only in collections with them |
| keypoints | n times x, y, scale, angle: pixels with the centre of the top-left pixel at (0.5, 0.5), radians |
| strength, descriptors | n numbers, n times D numbers; these three only in collections with local features |
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from resight.artifacts.inverted_file import features_of
from resight.exchange.photos import BLOCK, NamedPhotos, named_photos
from resight.exchange.request import Request, appearing
from resight.types import Float32, Int64, LocalFeatures

COLUMNS = ("id", "width", "height", "taken_at", "sha256", "tags")


def write_parquet(request: Request) -> str:
    """Write a table of photos, their vectors and their local features, 64 photos at a time."""
    snapshot = request.collection.snapshot
    photos = named_photos(snapshot)
    with appearing(request.out) as scratch:
        writer = None
        for start, batch in photo_batches(request, photos, local=snapshot.settings.local is not None):
            writer = writer or pyarrow.parquet.ParquetWriter(scratch, batch.schema, compression="zstd")
            writer.write_table(batch)
            request.progress("writing photos", start + len(batch), len(photos))
        if writer is not None:
            writer.close()
    return f"{len(photos)} photos"


def photo_batches(request: Request, photos: NamedPhotos, local: bool) -> Iterator[tuple[int, pa.Table]]:
    """The first position and the rows of 64 photos at a time, with `local` features where asked for."""
    snapshot = request.collection.snapshot
    vectors = _Vectors(request)
    for start in range(0, len(photos), BLOCK):
        rows = photos.rows[start : start + BLOCK]
        found = snapshot.tables.find("row", rows.tolist(), [*COLUMNS, "path_bytes"])
        table = found.select(COLUMNS)
        paths = [os.fsdecode(path) for path in found["path_bytes"].to_pylist()]
        table = table.add_column(1, "path", pa.array(paths, pa.string()))
        if vectors.known:
            table = table.append_column("vector", vectors.column(rows))
        if local:
            features = features_of(snapshot.tables, rows)
            for name, column in _local_columns(features).items():
                table = table.append_column(name, column)
        yield start, table


class _Vectors:
    """Global descriptors, where the recipe has them, by row."""

    def __init__(self, request: Request) -> None:
        self.known = request.collection.snapshot.settings.vector is not None
        if self.known:
            self.rows, self.matrix = request.collection.vectors()

    def column(self, rows: Int64) -> pa.Array:
        """As a column of lists of D numbers, null for photos without."""
        places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        values = np.ascontiguousarray(self.matrix[places], np.float32)
        absent = pa.array(self.rows[places] != rows)
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1], mask=absent)


def _local_columns(features: Sequence[LocalFeatures]) -> dict[str, pa.Array]:
    """Local features of some photos as columns of lists."""
    ends = np.cumsum([0, *(len(found) for found in features)]).astype(np.int32)
    points = [np.column_stack([f.xy, f.scale, f.angle]).astype(np.float32) for f in features]
    flat = {"keypoints": np.concatenate(points), "descriptors": np.concatenate(_same_width(features))}
    columns = {name: _lists(ends, _rows(values)) for name, values in flat.items()}
    columns["strength"] = _lists(ends, pa.array(np.concatenate([f.strength for f in features])))
    return columns


def _same_width(features: Sequence[LocalFeatures]) -> list[Float32]:
    """Descriptors of every photo; those of photos without any have the others' dimension."""
    dim = max(f.dim for f in features)
    return [f.descriptors if len(f) else np.empty((0, dim), np.float32) for f in features]


def _rows(values: Float32) -> pa.Array:
    """The rows (n, d) of a matrix as lists; without a fixed length, which photos without features could not know."""
    n, d = values.shape
    return _lists(d * np.arange(n + 1), pa.array(np.ascontiguousarray(values).ravel()))


def _lists(ends: NDArray[Any], values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values)
