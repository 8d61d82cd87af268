"""A collection at rest, for readers: one consistent snapshot of its tables `images` and `local`.

Readers need no lock. Writing is `resight.store.writer`. Lance (https://lance.org, version 2.1 files) makes each write
one atomic commit; a commit of table `images` is what makes photos appear and disappear, and features in `local` whose
row is not in `images` belong to a write that did not finish: they are not seen.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from resight.errors import CollectionError, UsageError
from resight.store.folder import (
    DERIVED,
    IMAGES,
    LOCAL,
    STAMP,
    collection_folder,
    faults,
    lance_faults,
    table_options,
    table_uri,
)
from resight.store.lock import write_lock
from resight.store.records import GLOBAL, IMAGES_SCHEMA, LOCAL_SCHEMA, images_schema, local_column, local_schema
from resight.store.remote import RemoteFolder, bucket, remote
from resight.store.stamp import Stamp, read_stamp, write_stamp
from resight.types import Bool, Float32, Int64, as_array

STORAGE_VERSION = "2.1"  # pinned: collections must not change format with the version of Lance that made them
NEXT_ROW = "resight.next_row"
OPEN_ATTEMPTS = 20
WHOLE = 65_536  # rows up to which the short columns are read once, whole, and kept
ASKED = 4096  # rows that are looked up at a time
# Caches of one snapshot. Lance keeps gigabytes unless it is told otherwise.
INDEX_CACHE, METADATA_CACHE = 64 << 20, 32 << 20  # bytes


@dataclass(frozen=True, eq=False)
class Tables:
    """One snapshot of a collection; later writes do not change it.

    It can be read for at least a minute after a later writer has tidied; after that `CollectionError` says to open the
    collection again. Photos and features are found through the scalar indices of the tables. `rows`, `feature_rows` and
    `stored_rows` read columns whole, for work on the whole collection: about 50 bytes a photo, kept. Lance keeps at
    most `INDEX_CACHE` + `METADATA_CACHE` for each table.
    """

    folder: Path
    images_dataset: Any
    local_dataset: Any
    _further: dict[str, Int64] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Number of live photos, those that could not be decoded included."""
        return self._photo_count

    @cached_property
    def _photo_count(self) -> int:
        with lance_faults("read", self.images_dataset.uri):
            return int(self.images_dataset.count_rows())

    @cached_property
    def readable(self) -> int:
        """Number of live photos that were decoded."""
        with lance_faults("read", self.images_dataset.uri):
            return int(self.images_dataset.count_rows("error_kind IS NULL"))

    @cached_property
    def leftovers(self) -> int:
        """How many rows of table `local` are there too many, from a writer that was stopped; less than 0: lost."""
        with lance_faults("read", self.local_dataset.uri):
            return int(self.local_dataset.count_rows()) - self.readable

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
        later = self._read(self.images_dataset, ["row"], pc.field("row") >= int(kept))["row"]
        return max(int(kept), pc.max(later).as_py() + 1 if len(later) else 0)

    def images(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Table `images` without its vectors, or some `columns` of it, sorted by row: all of them in memory.

        Raises `UsageError` on an unknown column.
        """
        names = self._names(columns)
        return self._read(self.images_dataset, sorted({*names, "row"})).sort_by("row").select(names)

    def stream(self, columns: Sequence[str], condition: Any = None) -> Iterator[pa.RecordBatch]:
        """Table `images` a batch at a time, in no order: some `columns`, where an expression `condition` holds.

        Raises `UsageError` on an unknown column.
        """
        names = self._names(columns)
        with lance_faults("read", self.images_dataset.uri):
            yield from self.images_dataset.to_batches(columns=names, filter=condition, batch_readahead=2)

    def _names(self, columns: Sequence[str] | None) -> list[str]:
        """`columns` of table `images`, all but the vectors where it is None."""
        every = self.images_dataset.schema.names
        if columns is None:
            return [name for name in every if name != GLOBAL]
        if unknown := sorted(set(columns) - set(every)):
            raise UsageError(f"table images has no column {unknown[0]!r}: it has {', '.join(every)}")
        return list(columns)

    def find(self, column: str, values: Sequence[str | int | bytes], columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of table `images`, ascending, whose `column` is one of `values`; some `columns` of them.

        Looks them up, `ASKED` at a time; more than one in sixteen photos are picked from the column as it streams by.
        """
        wanted = self._names(columns)
        names = sorted({*wanted, "row", column})
        schema = pa.schema([self.images_dataset.schema.field(name) for name in names])
        if len(values) > max(ASKED, len(self) // 16):
            every = pa.array(values, schema.field(column).type)
            batches = (batch.filter(pc.is_in(batch[column], every)) for batch in self.stream(names))
            return pa.Table.from_batches(batches, schema).sort_by("row").select(wanted)
        parts = [
            self._read(self.images_dataset, names, pc.field(column).isin(pa.array(values[start : start + ASKED])))
            for start in range(0, len(values), ASKED)
        ]
        found = pa.concat_tables(parts) if parts else schema.empty_table()
        return found.sort_by("row").select(wanted)

    def decoded(self, rows: Any) -> Bool:
        """Which of `rows` (n,) int64 are live photos that have local features, (n,)."""
        asked = as_array("rows", rows, np.int64, (None,))
        if "_photos" in self.__dict__ or self._photo_count <= WHOLE or len(asked) > ASKED:
            return np.isin(asked, self.feature_rows)
        found = self.find("row", np.unique(asked).tolist(), ["row", "error_kind"])
        return np.isin(asked, found["row"].to_numpy()[found["error_kind"].is_null().to_numpy()])

    def _read(self, dataset: Any, columns: Sequence[str], condition: Any = None, address: bool = False) -> pa.Table:
        """Some columns of a data set, where an expression `condition` holds; `address`: with those of the rows."""
        with lance_faults("read", dataset.uri):
            return dataset.to_table(columns=list(columns), filter=condition, with_row_address=address)

    def photos_from(self, row: int) -> int:
        """Number of live photos of `row` or a later one."""
        with lance_faults("read", self.images_dataset.uri):
            return int(self.images_dataset.count_rows(f"row >= {row}"))

    def features_from(self, row: int, kind: str = "") -> tuple[Int64, Int64]:
        """Rows of the live photos from `row` on that have local features, ascending, (n,) int64, and the number of
        features of each, (n,) int64.
        """
        name = self._count_column(kind)
        table = self._read(self.local_dataset, ["row", name], pc.field("row") >= row).sort_by("row")
        rows, counts = table["row"].to_numpy(), table[name].to_numpy().astype(np.int64)
        live = self.decoded(rows) if self.leftovers else np.ones(len(rows), np.bool_)
        return rows[live], counts[live]

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
        table = self._read(self.images_dataset, ["row", GLOBAL], f"{GLOBAL} IS NOT NULL")
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
        return self._find(rows, kind)[0]

    def local(self, rows: Any, kind: str = "") -> list[bytes]:
        """The packed features of `rows` (n,) int64, in that order; all of them lie in memory at once.

        `kind`: of a further kind than the first. Raises `UsageError` for a row without features and `CollectionError`
        when they are lost or cannot be read.
        """
        asked = self._find(rows, kind)[1]
        if not len(asked):
            return []
        addresses, back = np.unique(asked, return_inverse=True)  # Lance keeps only ascending order in all versions
        with lance_faults("read", self.local_dataset.uri):
            blobs = self.local_dataset.take_blobs(local_column("packed", kind), addresses=addresses.tolist())
            packed = [blob.readall() for blob in blobs]
        if len(packed) != len(addresses):
            raise CollectionError(f"features of some rows are lost in {self.folder}: run resight check on it")
        return [packed[k] for k in back.tolist()]

    @cached_property
    def _photos(self) -> tuple[Int64, Bool]:
        """Rows of `images`, ascending, and which of them were decoded."""
        table = self._read(self.images_dataset, ["row", "error_kind"])
        rows = table["row"].to_numpy()
        order = np.argsort(rows, kind="stable")
        return rows[order], table["error_kind"].is_null().to_numpy()[order]

    @cached_property
    def _features(self) -> tuple[Int64, Int64, Int64, Int64]:
        """Rows of `local`, ascending, orphans included; their counts, their addresses in the data set, and the order
        in which they lie there.
        """
        table = self._read(self.local_dataset, ["row", "count"], address=True)
        rows, counts, addresses = _features_in(table, "count")
        order = np.argsort(rows, kind="stable")
        return rows[order], counts[order], addresses[order], order

    def _counts(self, kind: str) -> Int64:
        """As the second of `_features`, of a further kind; read once."""
        if kind not in self._further:
            column = self._read(self.local_dataset, [self._count_column(kind)])[self._count_column(kind)]
            self._further[kind] = column.to_numpy()[self._features[3]].astype(np.int64)
        return self._further[kind]

    def _count_column(self, kind: str) -> str:
        name = local_column("count", kind)
        if name not in self.local_dataset.schema.names:
            raise UsageError(f"{self.folder} keeps no {kind} features: index its photos with them")
        return name

    def _find(self, rows: Any, kind: str) -> tuple[Int64, Int64]:
        """Counts and addresses of the features of `rows` (n,), as `local` raises."""
        asked = as_array("rows", rows, np.int64, (None,))
        known, counts, addresses = self._known_features(asked, kind)
        if not len(known):
            known, counts, addresses = np.array([-1]), np.zeros(1, np.int64), np.zeros(1, np.int64)
        places = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        lost = known[places] != asked
        if lost.any() or self.leftovers:
            without = asked[~self.decoded(asked)]
            if len(without):
                raise UsageError(f"row {without[0]} has no features: no photo in {self.folder} that was decoded has it")
        if lost.any():
            lost_row = asked[lost][0]
            raise CollectionError(f"the features of row {lost_row} are lost in {self.folder}: run resight check on it")
        return counts[places], addresses[places]

    def _known_features(self, asked: Int64, kind: str) -> tuple[Int64, Int64, Int64]:
        """Rows, ascending, counts and addresses of `local`: of all of it where that is known or small, or of `asked`"""
        if "_features" in self.__dict__ or self._photo_count <= WHOLE or len(asked) > ASKED:
            rows, counts, addresses, _ = self._features
            return rows, self._counts(kind) if kind else counts, addresses
        name = self._count_column(kind)
        condition = pc.field("row").isin(pa.array(np.unique(asked)))
        table = self._read(self.local_dataset, ["row", name], condition, address=True)
        rows, counts, addresses = _features_in(table, name)
        order = np.argsort(rows, kind="stable")
        return rows[order], counts[order], addresses[order]


def _features_in(table: pa.Table, count: str) -> tuple[Int64, Int64, Int64]:
    """Rows, counts and addresses that a table read from `local` holds."""
    addresses = table["_rowaddr"].to_numpy().astype(np.int64)
    return table["row"].to_numpy(), table[count].to_numpy().astype(np.int64), addresses


def create(path: str | os.PathLike[str], stamp: Stamp, dim: int | None = None, kinds: Sequence[str] = ()) -> Tables:
    """Make an empty collection at `path`, all or nothing: it is built beside it and moved there in one step.

    `dim`: dimension of the global descriptors, None for a collection without. `kinds`: further kinds of local features
    that it keeps. Raises `UsageError` when something is
    there already or the parent folder is missing, and `CollectionError` when the disk refuses.
    """
    folder = collection_folder(path)
    if (view := remote(folder)) is not None:
        _create_remote(view, stamp, images_schema(dim), local_schema(kinds))
        return open_tables(folder)
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


def _create_remote(view: RemoteFolder, stamp: Stamp, images: pa.Schema, local: pa.Schema) -> None:
    """Make the tables, then the stamp, with which the collection is there. What a killed call left is made again."""
    taken = f"{view} already exists: choose another name for the new collection"
    if bucket(view).exists(STAMP):
        raise UsageError(taken)
    with write_lock(view, "make the collection"):
        if bucket(view).exists(STAMP):
            raise UsageError(taken)
        for name, schema in ((IMAGES, images), (LOCAL, local)):
            left = any(True for _ in bucket(view).sizes(f"{name}.lance/"))  # by a call that was killed
            with lance_faults("make", view):
                lance.write_dataset(
                    schema.empty_table(),
                    table_uri(view, name),
                    mode="overwrite" if left else "create",
                    data_storage_version=STORAGE_VERSION,
                    storage_options=table_options(view),
                )
        write_stamp(view, stamp)


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
        dataset = lance.dataset(
            table_uri(folder, name),
            storage_options=table_options(folder),
            index_cache_size_bytes=INDEX_CACHE,
            metadata_cache_size_bytes=METADATA_CACHE,
        )
    for column in schema:
        found = dataset.schema.field(column.name) if column.name in dataset.schema.names else None
        if found is None or found.type != column.type:
            raise CollectionError(
                f"table {name} of {folder} has no column {column.name} of type {column.type}: "
                "the collection is damaged, index the photos into a new one"
            )
    return dataset
