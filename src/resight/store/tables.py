"""A collection at rest, for readers: one consistent snapshot of its tables `images` and `local`.

Readers need no lock. Writing is `resight.store.writer`. Lance (https://lance.org, version 2.1 files) makes each write
one atomic commit; a commit of table `images` is what makes photos appear and disappear, and features in `local` whose
row is not in `images` belong to a write that did not finish: they are not seen.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from resight.errors import CollectionError, UsageError
from resight.store.folder import DERIVED, IMAGES, LOCAL, collection_folder, faults, lance_faults, table_uri
from resight.store.records import GLOBAL, IMAGES_SCHEMA, LOCAL_SCHEMA, images_schema, local_column, local_schema
from resight.store.stamp import Stamp, read_stamp, write_stamp
from resight.types import Bool, Float32, Int64, as_array

STORAGE_VERSION = "2.1"  # pinned: collections must not change format with the version of Lance that made them
NEXT_ROW = "resight.next_row"
OPEN_ATTEMPTS = 20


@dataclass(frozen=True, eq=False)
class Tables:
    """One snapshot of a collection; later writes do not change it.

    It can be read for at least a minute after a later writer has tidied; after that `CollectionError` says to open the
    collection again. Keeps about 30 bytes per photo in memory.
    """

    folder: Path
    images_dataset: Any
    local_dataset: Any
    _further: dict[str, Int64] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Number of live photos, those that could not be decoded included."""
        return len(self.rows)

    @property
    def rows(self) -> Int64:
        """Rows of all live photos, ascending, (N,) int64."""
        return self._photos[0]

    @cached_property
    def feature_rows(self) -> Int64:
        """Rows of the live photos that have local features, ascending, (M,) int64."""
        rows, readable = self._photos
        return rows[readable]

    @property
    def stored_rows(self) -> Int64:
        """Rows in table `local`, ascending, those without a live photo included, (L,) int64."""
        return self._features[0]

    @cached_property
    def next_row(self) -> int:
        """The smallest row that no photo ever had."""
        with lance_faults("read", self.images_dataset.uri):
            kept = self.images_dataset.config().get(NEXT_ROW, "0")
        if not kept.isdecimal():
            raise CollectionError(f"table images in {self.folder} is damaged: its next row is {kept!r}")
        return max(int(kept), int(self.rows[-1]) + 1 if len(self.rows) else 0)

    def images(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Table `images` without its vectors, or some `columns` of it, sorted by row.

        Raises `UsageError` on an unknown column.
        """
        every = [name for name in self.images_dataset.schema.names if name != GLOBAL]
        names = list(every if columns is None else columns)
        if unknown := sorted(set(names) - set(self.images_dataset.schema.names)):
            raise UsageError(
                f"table images has no column {unknown[0]!r}: it has {', '.join(self.images_dataset.schema.names)}"
            )
        with lance_faults("read", self.images_dataset.uri):
            table = self.images_dataset.to_table(columns=sorted({*names, "row"}))
        return table.sort_by("row").select(names)

    def find(self, column: str, values: Sequence[str | int | bytes], columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of table `images`, ascending, whose `column` is one of `values`; some `columns` of them."""
        names = [name for name in self.images_dataset.schema.names if name != GLOBAL]
        wanted = list(names if columns is None else columns)
        if not values:
            return self.images_dataset.schema.empty_table().select(wanted)
        with lance_faults("read", self.images_dataset.uri):
            table = self.images_dataset.to_table(
                columns=sorted({*wanted, "row"}), filter=pc.field(column).isin(pa.array(values))
            )
        return table.sort_by("row").select(wanted)

    @property
    def dim(self) -> int | None:
        """Dimension of the global descriptors, None where the collection keeps none."""
        schema = self.images_dataset.schema
        return schema.field(GLOBAL).type.list_size if GLOBAL in schema.names else None

    def vectors(self) -> tuple[Int64, Float32]:
        """The rows that have a global descriptor, ascending, (N,) int64, and the descriptors, (N, D) float32.

        Raises `UsageError` when the collection keeps none, `CollectionError` when they cannot be read or hold NaN.
        """
        if self.dim is None:
            raise UsageError(f"{self.folder} keeps no global descriptors: index its photos with a recipe that has them")
        with lance_faults("read", self.images_dataset.uri):
            table = self.images_dataset.to_table(columns=["row", GLOBAL], filter=f"{GLOBAL} IS NOT NULL")
        rows = table["row"].to_numpy()
        order = np.argsort(rows, kind="stable")
        parts = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table[GLOBAL].chunks]
        flat = np.concatenate(parts) if parts else np.empty(0, np.float32)
        matrix = flat.astype(np.float32, copy=False).reshape(len(rows), self.dim)
        if not np.isfinite(matrix).all():
            raise CollectionError(f"the global descriptors of {self.folder} are damaged: index the photos anew")
        return rows[order], matrix[order]

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Further kinds of local features that table `local` has columns for, as they are called there."""
        suffix = "_packed"
        names = self.local_dataset.schema.names
        return tuple(name.removesuffix(suffix) for name in names if name.endswith(suffix))

    def counts(self, rows: Any, kind: str = "") -> Int64:
        """Number of local features of each of `rows` (n,) int64; `kind`: of a further kind. Raises as `local` does."""
        places = self._find(rows)
        return (self._features[1] if not kind else self._counts(kind))[places]

    def local(self, rows: Any, kind: str = "") -> list[bytes]:
        """The packed features of `rows` (n,) int64, in that order; all of them lie in memory at once.

        `kind`: of a further kind than the first. Raises `UsageError` for a row without features and `CollectionError`
        when they are lost or cannot be read.
        """
        places = self._features[2][self._find(rows)]
        if not len(places):
            return []
        positions, back = np.unique(places, return_inverse=True)  # Lance keeps only ascending order in all versions
        with lance_faults("read", self.local_dataset.uri):
            blobs = self.local_dataset.take_blobs(local_column("packed", kind), indices=positions.tolist())
            packed = [blob.readall() for blob in blobs]
        if len(packed) != len(positions):
            raise CollectionError(f"features of some rows are lost in {self.folder}: run resight check on it")
        return [packed[k] for k in back.tolist()]

    @cached_property
    def _photos(self) -> tuple[Int64, Bool]:
        """Rows of `images`, ascending, and which of them were decoded."""
        with lance_faults("read", self.images_dataset.uri):
            table = self.images_dataset.to_table(columns=["row", "error_kind"])
        rows = table["row"].to_numpy()
        order = np.argsort(rows, kind="stable")
        return rows[order], table["error_kind"].is_null().to_numpy()[order]

    @cached_property
    def _features(self) -> tuple[Int64, Int64, Int64]:
        """Rows of `local`, ascending, orphans included; their counts; their positions in the data set."""
        with lance_faults("read", self.local_dataset.uri):
            table = self.local_dataset.to_table(columns=["row", "count"])
        rows = table["row"].to_numpy()
        order = np.argsort(rows, kind="stable")
        return rows[order], table["count"].to_numpy()[order].astype(np.int64), order

    def _counts(self, kind: str) -> Int64:
        """As the second of `_features`, of a further kind; read once."""
        if kind not in self._further:
            name = local_column("count", kind)
            if name not in self.local_dataset.schema.names:
                raise UsageError(f"{self.folder} keeps no {kind} features: index its photos with them")
            with lance_faults("read", self.local_dataset.uri):
                column = self.local_dataset.to_table(columns=[name])[name]
            self._further[kind] = column.to_numpy()[self._features[2]].astype(np.int64)
        return self._further[kind]

    def _find(self, rows: Any) -> Int64:
        """Indices of `rows` in `_features`."""
        asked = as_array("rows", rows, np.int64, (None,))
        without = asked[~np.isin(asked, self.feature_rows)]
        if len(without):
            raise UsageError(f"row {without[0]} has no features: no photo in {self.folder} that was decoded has it")
        known = self._features[0]
        places = np.searchsorted(known, asked)
        lost = asked[known[np.minimum(places, len(known) - 1)] != asked] if len(known) else asked
        if len(lost):
            raise CollectionError(f"the features of row {lost[0]} are lost in {self.folder}: run resight check on it")
        return places


def create(path: str | os.PathLike[str], stamp: Stamp, dim: int | None = None, kinds: Sequence[str] = ()) -> Tables:
    """Make an empty collection at `path`, all or nothing: it is built beside it and moved there in one step.

    `dim`: dimension of the global descriptors, None for a collection without. `kinds`: further kinds of local features
    that it keeps. Raises `UsageError` when something is
    there already or the parent folder is missing, and `CollectionError` when the disk refuses.
    """
    folder = collection_folder(path)
    _require_free(folder)
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with faults("make", folder):
            scratch.mkdir()
            (scratch / DERIVED).mkdir()
        write_stamp(scratch, stamp)
        for name, schema in ((IMAGES, images_schema(dim)), (LOCAL, local_schema(kinds))):
            with lance_faults("make", folder):
                lance.write_dataset(
                    schema.empty_table(), table_uri(scratch, name), data_storage_version=STORAGE_VERSION
                )
        _require_free(folder)
        with faults("make", folder):
            os.rename(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return open_tables(folder)


def _require_free(folder: Path) -> None:
    if os.path.lexists(folder):
        what = "already exists" if (folder / IMAGES).with_suffix(".lance").exists() else "exists and is no collection"
        raise UsageError(f"{folder} {what}: choose another name for the new collection")
    if not folder.parent.is_dir():
        raise UsageError(f"cannot make {folder}: there is no folder {folder.parent}, make it first")


def open_tables(path: str | os.PathLike[str]) -> Tables:
    """The newest state of the collection at `path`. Raises as `read_stamp` does, and `CollectionError` on damage."""
    folder = collection_folder(path)
    read_stamp(folder)
    return snapshot(folder)


def snapshot(folder: Path) -> Tables:
    """`open_tables` without a look at the stamp."""
    for _ in range(OPEN_ATTEMPTS):
        images = _open_table(folder, IMAGES, IMAGES_SCHEMA)
        local = _open_table(folder, LOCAL, LOCAL_SCHEMA)
        # Features are added before their photos and removed after them: with `images` unchanged, `local` fits it.
        with lance_faults("read", folder):
            if images.latest_version == images.version:
                return Tables(folder, images, local)
    raise CollectionError(f"{folder} is being written too fast to be read: try again when its writer is done")


def _open_table(folder: Path, name: str, schema: pa.Schema) -> Any:
    with lance_faults(f"open table {name} of", folder):
        dataset = lance.dataset(table_uri(folder, name))
    for column in schema:
        found = dataset.schema.field(column.name) if column.name in dataset.schema.names else None
        if found is None or found.type != column.type:
            raise CollectionError(
                f"table {name} of {folder} has no column {column.name} of type {column.type}: "
                "the collection is damaged, index the photos into a new one"
            )
    return dataset
