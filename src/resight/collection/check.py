"""`resight check`: the tables of a collection, and every artifact."""

from __future__ import annotations

import os

from resight.artifacts import files
from resight.collection.collection import Collection
from resight.collection.ingest import missing_files
from resight.collection.open import open_collection
from resight.errors import CollectionError
from resight.progress import Progress, silent
from resight.store.check import Finding, check_tables, repair_tables
from resight.store.writer import writing

REBUILD = "rebuild it from the features"
SET_ASIDE = "set it aside under another name"


def check_collection(path: str | os.PathLike[str]) -> list[Finding]:
    """Everything that can be said about the collection at `path`. Raises `CollectionNotFound` when there is none."""
    findings = check_tables(path)
    if not all(finding.ok for finding in findings if finding.name in ("stamp", "tables")):
        return findings
    collection = open_collection(path)
    broken = [_finding(artifact, problem) for artifact, problem in files.damaged(collection.path)]
    behind = [] if broken else [_check_index(collection)]
    return [*findings, *broken, *behind, _check_files(collection)]


def repair_collection(path: str | os.PathLike[str], *, progress: Progress = silent) -> list[Finding]:
    """Repair the tables, make damaged artifacts again, and check again; what a user taught is set aside, not deleted.

    Photos whose features were lost are forgotten: the next `resight index` of their folder reads them again. Raises as
    `writing` does.
    """
    repair_tables(path)
    collection = open_collection(path)
    with writing(path, "repair") as writer:
        files.remove(writer, files.FOLLOWED)  # so that all is compared row by row
        done = [files.set_aside(writer, artifact) for artifact, _ in files.damaged(collection.path)]
        done += collection.update(writer, progress=progress)
    return [*check_collection(path), *(Finding("repaired", True, sentence) for sentence in done)]


def _finding(artifact: files.Artifact, problem: str) -> Finding:
    return Finding(artifact.name, False, problem, SET_ASIDE if artifact.learned else REBUILD)


def _check_index(collection: Collection) -> Finding:
    """Whether the artifacts that follow the tables by themselves do."""
    snapshot = collection.snapshot
    try:
        gone, lacking = snapshot.compared()
        if behind := len(gone) + len(lacking):
            return Finding("index", False, f"{behind} photos differ between index and features", REBUILD)
        if not snapshot.calibrated:
            return Finding("index", False, "its calibration is missing, since a run was stopped", "learn it again")
        if not snapshot.finished:
            return Finding("index", False, "a run was stopped before its end, or is at work", "finish it")
        if snapshot.settings.vector is not None and snapshot.descriptors is not None:
            return Finding("index", True, f"{len(snapshot.descriptors.rows)} photos have a global descriptor")
    except CollectionError as error:
        return Finding("index", False, str(error), REBUILD)
    return Finding("index", True, f"{0 if snapshot.index is None else len(snapshot.index)} photos indexed")


def _check_files(collection: Collection) -> Finding:
    gone = missing_files(collection.snapshot.tables)
    if not gone:
        return Finding("files", True, "every photo is where it was")
    shown = ", ".join(gone[:3]) + (", ..." if len(gone) > 3 else "")
    message = f"{len(gone)} photos are gone from the disk ({shown}): resight remove --missing forgets them"
    return Finding("files", True, message)
