"""`resight check`: the tables of a collection, and what is derived from them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from resight.artifacts.state import load_state, sync_state
from resight.collection.collection import open_collection
from resight.collection.ingest import missing_files
from resight.errors import CollectionError
from resight.progress import Progress, silent
from resight.recipes.settings import settings_of
from resight.store.check import Finding, check_tables, repair_tables
from resight.store.folder import DERIVED
from resight.store.tables import open_tables
from resight.store.writer import writing

REBUILD = "rebuild it from the features"


def check_collection(path: str | os.PathLike[str]) -> list[Finding]:
    """Everything that can be said about the collection at `path`. Raises `CollectionNotFound` when there is none."""
    findings = check_tables(path)
    if not all(finding.ok for finding in findings if finding.name in ("stamp", "tables")):
        return findings
    return [*findings, _check_index(Path(path)), _check_files(Path(path))]


def repair_collection(path: str | os.PathLike[str], *, progress: Progress = silent) -> list[Finding]:
    """Repair the tables, rebuild damaged derived files, and check again. Photos whose features were lost are forgotten:
    the next `resight index` of their folder reads them again. Raises as `writing` does."""
    repair_tables(path)
    collection = open_collection(path)
    with writing(path, "repair") as writer:
        broken = not _check_index(Path(path)).ok
        if broken:
            _forget_unusable(collection.path)
        sync_state(writer.tables, collection.settings, progress=progress)
    return check_collection(path)


def _forget_unusable(folder: Path) -> None:
    for file in (folder / DERIVED).glob("*.json"):
        file.unlink()  # learnt from the index that is about to change


def _check_index(path: Path) -> Finding:
    tables = open_tables(path)
    stamp = open_collection(path).stamp
    settings = settings_of(stamp.recipe, stamp.parameters)
    try:
        state = load_state(tables, settings)
        rows = tables.feature_rows[tables.counts(tables.feature_rows) > 0]
    except CollectionError as error:
        return Finding("index", False, str(error), REBUILD)
    if settings.local is None and state.vectors is not None:
        return Finding("index", True, f"{len(state.vectors.rows)} photos have a global descriptor")
    indexed = np.empty(0, np.int64) if state.local.index is None else state.local.index.rows
    behind = len(np.setxor1d(rows, indexed))
    if behind:
        return Finding("index", False, f"{behind} photos differ between index and features", REBUILD)
    return Finding("index", True, f"{len(indexed)} photos indexed")


def _check_files(path: Path) -> Finding:
    gone = missing_files(open_tables(path))
    if not gone:
        return Finding("files", True, "every photo is where it was")
    shown = ", ".join(gone[:3]) + (", ..." if len(gone) > 3 else "")
    message = f"{len(gone)} photos are gone from the disk ({shown}): resight remove --missing forgets them"
    return Finding("files", True, message)
