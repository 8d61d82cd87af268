"""Is a collection whole? Every byte of its tables is read; what is wrong is said, and repaired on request."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resight.errors import CollectionError, CollectionNotFound
from resight.store.checksums import changed_files, is_index
from resight.store.folder import IMAGES, collection_folder, lance_faults, table_uri
from resight.store.records import local_column
from resight.store.remote import remote
from resight.store.stamp import check_copy, read_stamp, restorable, restore_stamp
from resight.store.tables import Tables, snapshot
from resight.store.writer import writing
from resight.types import Int64

BATCH = 64
RESTORE = "write the stamp and its copy again, from the one that is whole"
EXTRACT_AGAIN = "forget these photos; the next resight index or add of their folder extracts them again"


@dataclass(frozen=True)
class Finding:
    """The answer to one question about a collection: a short `name`, whether it is `ok`, a `message` for people, and
    what `repair_tables` would do about it, None when nothing is to be done or nothing can be.
    """

    name: str
    ok: bool
    message: str
    repair: str | None = None


@dataclass(frozen=True, eq=False)
class _Damage:
    """Rows that something is wrong with, each (n,) int64, ascending."""

    same_id: Int64  # another photo of a higher row has the same id
    lost: Int64  # decoded, but not just once in `local`
    unreadable: Int64  # in `local`, but not what was written
    leftover: Int64  # in `local` without a photo


def check_tables(path: str | os.PathLike[str]) -> list[Finding]:
    """Check stamp and tables of the collection at `path`; reads all features, `BATCH` images at a time.

    A collection that another process writes to may show leftovers. Raises `CollectionNotFound` when there is none.
    """
    folder = collection_folder(path)
    try:
        stamp = read_stamp(folder)
    except CollectionError as error:
        if isinstance(error, CollectionNotFound) and (
            remote(folder) is not None or not os.path.exists(table_uri(folder, IMAGES))
        ):
            raise
        return [Finding("stamp", False, str(error), RESTORE if restorable(folder) else None)]
    findings = [Finding("stamp", True, f"format {stamp.format}, recipe {stamp.recipe}, made {stamp.created}")]
    if problem := check_copy(folder):
        findings.append(Finding("copy of the stamp", False, problem, RESTORE))
    try:
        tables = snapshot(folder)
        damage, changed = _inspect(tables), changed_files(folder)
    except CollectionError as error:
        return [*findings, Finding("tables", False, str(error))]
    findings.append(Finding("tables", True, f"{len(tables)} photos, {tables.readable} with features"))
    return [*findings, *_report(damage), _files_finding(folder, changed), _indices_finding(changed)]


def repair_tables(path: str | os.PathLike[str]) -> list[Finding]:
    """Do what `check_tables` proposes, and check again.

    A stamp is restored from its copy.
    Photos whose features are lost or damaged are removed, so that the next run on their folder extracts them again.
    Raises as `writing` does.
    """
    restore_stamp(collection_folder(path))
    changed = [name for name in changed_files(collection_folder(path)) if is_index(name)]
    with writing(path, "repair") as writer:
        writer.delete_leftovers()
        if changed:
            writer.rebuild_indices()
        tables = writer.tables
        damage = _inspect(tables)
        bad = np.concatenate([damage.same_id, damage.lost, damage.unreadable])
        writer.remove_rows(np.intersect1d(bad, tables.rows))
    return check_tables(path)


def _inspect(tables: Tables) -> _Damage:
    stored, times = np.unique(tables.stored_rows, return_counts=True)
    lost = np.setdiff1d(tables.feature_rows, stored[times == 1])
    return _Damage(
        same_id=_older_of_same_id(tables),
        lost=lost,
        unreadable=_unreadable(tables, np.setdiff1d(tables.feature_rows, lost)),
        leftover=np.setdiff1d(stored, tables.feature_rows),
    )


def _older_of_same_id(tables: Tables) -> Int64:
    table = tables.images(["id", "row"])
    ids, rows = table["id"].to_pylist(), table["row"].to_pylist()  # by row, so the newest of an id comes last
    newest = dict(zip(ids, rows, strict=True))
    return np.asarray([row for id_, row in zip(ids, rows, strict=True) if newest[id_] != row], np.int64)


def _unreadable(tables: Tables, rows: Int64) -> Int64:
    return np.unique(np.concatenate([_unreadable_kind(tables, rows, kind) for kind in ("", *tables.kinds)]))


def _unreadable_kind(tables: Tables, rows: Int64, kind: str) -> Int64:
    column = local_column("crc32", kind)
    with lance_faults("read", tables.local_dataset.uri):
        table = tables.local_dataset.to_table(columns=["row", column])
    checksums = dict(zip(table["row"].to_pylist(), table[column].to_pylist(), strict=True))
    bad: list[int] = []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        counts = tables.counts(batch, kind).tolist()
        for row, count, packed in zip(batch.tolist(), counts, _read(tables, batch, kind), strict=True):
            if packed is None or count < 0 or len(packed) < count or zlib.crc32(packed) != checksums[row]:
                bad.append(row)
    return np.asarray(bad, np.int64)


def _read(tables: Tables, rows: Int64, kind: str) -> list[bytes | None]:
    """Packed features of `rows`, None where they cannot be read."""
    try:
        return list(tables.local(rows, kind))
    except CollectionError:
        if len(rows) == 1:
            return [None]
        return [_read(tables, rows[k : k + 1], kind)[0] for k in range(len(rows))]


def _report(damage: _Damage) -> list[Finding]:
    return [
        _finding("ids", damage.same_id, "share their id with a newer one", "keep the newest of each id"),
        _finding("features", damage.lost, "have lost their features", EXTRACT_AGAIN),
        _finding("content", damage.unreadable, "have features that are not what was written", EXTRACT_AGAIN),
        _finding("leftovers", damage.leftover, "are left of a write that was stopped (harmless)", "delete them"),
    ]


def _indices_finding(changed: list[str]) -> Finding:
    damaged = [name for name in changed if is_index(name)]
    if not damaged:
        return Finding("indices", True, "none are wrong")
    message = f"{len(damaged)} files of scalar indices are not what was written: photos may not be found by id or path"
    return Finding("indices", False, message, "make them again from the tables")


def _files_finding(folder: Path, changed: list[str]) -> Finding:
    changed = [name for name in changed if not is_index(name)]
    if not changed:
        return Finding("checksums", True, "the files of table images are what was written")
    message = (
        f"{len(changed)} files of table images in {folder} are not what was written ({', '.join(changed[:3])}): "
        "what is known of some photos may be wrong; restore it from a backup, or index the photos into a new collection"
    )
    return Finding("checksums", False, message)


def _finding(name: str, rows: Int64, what: str, repair: str) -> Finding:
    if not len(rows):
        return Finding(name, True, "none are wrong")
    shown = ", ".join(map(str, rows[:5].tolist())) + (", ..." if len(rows) > 5 else "")
    return Finding(name, False, f"{len(rows)} rows {what}: {shown}", repair)
