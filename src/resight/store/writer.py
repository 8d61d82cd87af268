"""Writing to a collection: one writer at a time, each operation one commit that is done or not done.

A killed writer leaves a collection that opens; what it had begun and not committed is cleared by the next writer.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from resight.errors import ArrayError, CollectionError, UsageError
from resight.store import scalar_indices
from resight.store.checksums import record
from resight.store.folder import IMAGES, LOCAL, collection_folder, lance_faults, remove_stale_scratch
from resight.store.lock import write_lock
from resight.store.records import IMAGES_SCHEMA, LOCAL_SCHEMA
from resight.store.remote import hold, push, remote
from resight.store.stamp import read_stamp
from resight.store.tables import NEXT_ROW, Tables, snapshot
from resight.types import Int64, as_array

ROWS_PER_FRAGMENT = 2048  # full fragments are never rewritten, so tidying costs the same however large the collection
MAX_SMALL_FRAGMENTS = 64
MAX_DELETED = 0.25
READER_GRACE = timedelta(minutes=1)  # how long the files of a replaced state stay for those who still read them


class Writer:
    """The one writer of a collection; `writing` gives it. Not for several threads at once.

    After an error, an interrupt included, the next operation first clears what the failed one left.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = secrets.token_hex(8)  # tells this writer from all others
        self._clean = False
        self._next_row = 0
        self._recover()

    @property
    def tables(self) -> Tables:
        """A snapshot of the collection as it is now."""
        return snapshot(self.folder)

    @property
    def next_row(self) -> int:
        """The row for the next photo to append; the one after it gets the next number, and so on."""
        self._recover()
        return self._next_row

    def append_photos(self, images: pa.Table, local: pa.Table) -> None:
        """Add photos (`images_batch`) and the features of those that were decoded (`local_batch`), in one commit.

        A photo whose id is in the collection takes the place of its older version in the same commit. Rows must ascend
        from `next_row` on. Raises `UsageError` when the batches do not fit each other or the collection, and
        `CollectionError` when the disk refuses; of the batch then all photos are in the collection, or none.
        """
        with self._change() as tables:
            images = _conform("images", images, tables.images_dataset.schema)
            local = _conform("local", local, tables.local_dataset.schema)
            _check_batches(images, local, self._next_row)
            if len(images):
                self._append(tables, images, local)
        self._tidy_if_it_pays()

    def remove_rows(self, rows: Any) -> None:
        """Remove the photos of `rows` (n,) int64 and their features, in one commit.

        Raises `UsageError` when a row is not in the collection, and `CollectionError` when the disk refuses; then all
        of them are gone, or none.
        """
        rows = np.unique(as_array("rows", rows, np.int64, (None,)))
        with self._change() as tables:
            unknown = np.setdiff1d(rows, tables.find("row", rows.tolist(), ["row"])["row"].to_numpy())
            if len(unknown):
                raise UsageError(f"row {unknown[0]} is not in {self.folder}: nothing was removed")
            self._remove(tables, rows)
        self._tidy_if_it_pays()

    def set_tags(self, tags: Mapping[int, Sequence[str]]) -> None:
        """Give the photos of some rows these tags in place of theirs, in one commit.

        Raises `UsageError` when a row is not in the collection, and `CollectionError` when the disk refuses; then all
        photos have their new tags, or none.
        """
        rows = np.array(sorted(tags), np.int64)
        with self._change() as tables:
            if len(unknown := np.setdiff1d(rows, tables.rows)):
                raise UsageError(f"row {unknown[0]} is not in {self.folder}: no tag was changed")
            if len(rows):
                column = pa.array([list(tags[row]) for row in rows.tolist()], IMAGES_SCHEMA.field("tags").type)
                with lance_faults("tag photos of", self.folder):
                    update = tables.images_dataset.merge_insert("row").when_matched_update_all()
                    update.execute(pa.table({"row": rows, "tags": column}))
        self._tidy_if_it_pays()

    def tidy(self) -> None:
        """Merge small fragments, give back the space of removed photos, and drop states replaced a minute ago.

        Appending and removing call it when it pays. It may be killed at any moment. Peak memory: about twice the
        features of `ROWS_PER_FRAGMENT` images, and one column that is indexed.
        """
        with self._change() as tables:
            for dataset in (tables.local_dataset, tables.images_dataset):
                with lance_faults("tidy", self.folder):
                    dataset.optimize.compact_files(target_rows_per_fragment=ROWS_PER_FRAGMENT)
            self._index(tables)
            for dataset in (tables.local_dataset, tables.images_dataset):
                _drop_old_states(dataset, self.folder)

    def rebuild_indices(self) -> None:
        """Make the scalar indices of the tables anew."""
        with self._change() as tables:
            for name, dataset in _named(tables):
                scalar_indices.rebuild(dataset, name, self.folder)
                _drop_old_states(dataset, self.folder, timedelta(0))  # no reader is served by damaged ones

    def delete_leftovers(self) -> None:
        """Delete features that belong to no photo; reads the row numbers of both tables."""
        with self._change() as tables:
            _delete(tables.local_dataset, np.setdiff1d(tables.stored_rows, tables.feature_rows), self.folder)

    @contextmanager
    def _change(self) -> Iterator[Tables]:
        """Tables of our own to change. Unless the end is reached, the next change begins with recovery."""
        self._recover()
        self._clean = False
        if (view := remote(self.folder)) is not None:
            push(view)  # first: what says that the tables are about to change
            hold(view)
        yield snapshot(self.folder)
        record(self.folder)
        self._clean = True

    def _recover(self) -> None:
        """Delete what a stopped writer left, and states that no reader needs now; read what the next rows need."""
        if self._clean:
            return
        remove_stale_scratch(self.folder)
        tables = snapshot(self.folder)
        for dataset in (tables.local_dataset, tables.images_dataset):
            _drop_old_states(dataset, self.folder)
        if tables.leftovers:
            _delete(tables.local_dataset, np.setdiff1d(tables.stored_rows, tables.feature_rows), self.folder)
        self._next_row = tables.next_row
        record(self.folder)
        self._clean = True

    def _index(self, tables: Tables) -> None:
        """Bring the scalar indices up where that pays."""
        late = [(name, dataset) for name, dataset in _named(tables) if scalar_indices.behind(dataset, name)]
        if late:
            self._keep_next_row(tables)  # so that finding it looks at later rows alone
        for name, dataset in late:
            scalar_indices.follow(dataset, name, self.folder)

    def _keep_next_row(self, tables: Tables) -> None:
        with lance_faults("write to", self.folder):
            tables.images_dataset.update_config({NEXT_ROW: str(self._next_row)})

    def _append(self, tables: Tables, images: pa.Table, local: pa.Table) -> None:
        ids, rows = images["id"].to_pylist(), images["row"].to_pylist()
        replaced, version = tables.find("id", ids, ["row"])["row"].to_pylist(), tables.images_dataset.version
        with lance_faults("add photos to", self.folder):
            stored = lance.write_dataset(local, tables.local_dataset, mode="append")
            if replaced:
                upsert = tables.images_dataset.merge_insert("id")
                upsert.when_matched_update_all().when_not_matched_insert_all().execute(images)
                written = tables.images_dataset
            else:
                written = lance.write_dataset(images, tables.images_dataset, mode="append")
        if written.version != version + 1:  # only where a lease failed: Lance itself lets both commit
            raise CollectionError(
                f"another process wrote to {self.folder} at the same time: stop it, and run resight check --repair"
            )
        _delete(stored, np.asarray(replaced, np.int64), self.folder)
        self._next_row = rows[-1] + 1

    def _remove(self, tables: Tables, rows: Int64) -> None:
        # Kept first: without the photo of the highest row, the table alone would give its number again.
        self._keep_next_row(tables)
        _delete(tables.images_dataset, rows, self.folder)
        _delete(tables.local_dataset, rows, self.folder)

    def _tidy_if_it_pays(self) -> None:
        tables = snapshot(self.folder)
        if any(_untidy(dataset) or scalar_indices.behind(dataset, name) for name, dataset in _named(tables)):
            self.tidy()


def _named(tables: Tables) -> tuple[tuple[str, Any], tuple[str, Any]]:
    """Both tables, `local` first, whose features are written before their photos."""
    return (LOCAL, tables.local_dataset), (IMAGES, tables.images_dataset)


@contextmanager
def writing(path: str | os.PathLike[str], command: str) -> Iterator[Writer]:
    """Open the collection at `path` for writing, as its only writer; `command` tells others who it is.

    Raises `CollectionLocked` when there is another one, `CollectionError` when the folder cannot be written, and as
    `read_stamp` does.
    """
    folder = collection_folder(path)
    read_stamp(folder)
    with write_lock(folder, command):
        yield Writer(folder)
        if (view := remote(folder)) is not None:
            push(view)


def _conform(name: str, batch: pa.Table, schema: pa.Schema) -> pa.Table:
    """`batch` with just the columns of `schema`; columns that were added to the table later may be missing."""
    required = set((IMAGES_SCHEMA if name == "images" else LOCAL_SCHEMA).names)
    given = set(batch.schema.names)
    if wrong := sorted((required - given) | (given - set(schema.names))):
        what = "lacks" if wrong[0] in required else "has the unknown"
        raise UsageError(f"a batch for table {name} {what} column {wrong[0]!r}")
    columns = [batch[f.name] if f.name in given else pa.nulls(len(batch), f.type) for f in schema]
    try:
        return pa.table(columns, names=schema.names).cast(schema)
    except pa.ArrowException as error:
        raise UsageError(f"a batch for table {name} has values of the wrong type: {error}") from error


def _check_batches(images: pa.Table, local: pa.Table, next_row: int) -> None:
    for table, names in ((images, ("row", "id", "uri", "path_bytes")), (local, LOCAL_SCHEMA.names)):
        if empty := [name for name in names if table[name].null_count]:
            raise UsageError(f"column {empty[0]!r} of a batch holds nulls: every photo needs a value")
    rows = images["row"].to_numpy()
    if len(rows) and (rows[0] < next_row or (np.diff(rows) <= 0).any()):
        raise ArrayError(f"rows of new photos must ascend from {next_row} on, got {rows[:5].tolist()}...")
    decoded = rows[images["error_kind"].is_null().to_numpy()]
    if not np.array_equal(local["row"].to_numpy(), decoded):
        raise ArrayError("the batches do not fit: local features are needed for just the photos without an error")
    ids = images["id"].to_pylist()
    if len(set(ids)) < len(ids) or "" in ids:
        raise UsageError("ids of new photos must not be empty, and each may come only once in a batch")


def _delete(dataset: Any, rows: Int64, folder: Path) -> None:
    if len(rows):
        with lance_faults("remove photos from", folder):
            dataset.delete(f"row IN ({','.join(map(str, rows.tolist()))})")


def _untidy(dataset: Any) -> bool:
    fragments = dataset.get_fragments()
    small = sum(fragment.count_rows() < ROWS_PER_FRAGMENT for fragment in fragments)
    deleted = sum(fragment.num_deletions for fragment in fragments)
    return bool(small > MAX_SMALL_FRAGMENTS or deleted > MAX_DELETED * (dataset.count_rows() + deleted))


def _drop_old_states(dataset: Any, folder: Path, grace: timedelta | None = None) -> None:
    oldest = datetime.now(UTC) - (READER_GRACE if grace is None else grace)
    with lance_faults("tidy", folder):
        versions = dataset.versions()
        # A state ends when the next begins: keep those that were the newest one within the grace time.
        begun = [version["timestamp"].astimezone(UTC) for version in versions]
        keep = 1 + sum(begin >= oldest for begin in begun[1:])
        # There is no other writer, so files that no state names are what killed ones left.
        dataset.cleanup_old_versions(older_than=timedelta(0), retain_versions=keep, delete_unverified=True)
