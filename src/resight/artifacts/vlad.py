"""VLAD: global descriptors of a collection that keeps local features alone, for graphs and all that is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from resight.artifacts import files
from resight.artifacts.descriptors import Descriptors
from resight.artifacts.inverted_file import features_of
from resight.errors import ArrayError
from resight.index.approximate import choose_index
from resight.index.vlad import Vlad
from resight.progress import Progress, silent
from resight.ranking.confidence import calibrate_vectors
from resight.ranking.search import local_features
from resight.store.tables import Tables
from resight.store.tensor_file import read_tensors, write_tensors
from resight.store.writer import Writer
from resight.types import Float32, Int64

FORMAT = "resight VLAD of photos 1"
SAMPLED = 2000  # photos that VLAD is learned from
BLOCK = 256


def load_vlad(tables: Tables) -> Descriptors | None:
    """The stored VLAD of the photos, None where there is none. Raises `CollectionError` when a file is damaged."""
    vlad = files.read(files.VLAD, tables.folder, Vlad.load)
    if vlad is None:
        return None
    rows, vectors = _stored(tables.folder, vlad) or (np.empty(0, np.int64), np.empty((0, vlad.dim), np.float32))
    kept = np.isin(rows, tables.feature_rows)
    return _descriptors(vlad, rows[kept], vectors[kept])


def make_vlad(writer: Writer, progress: Progress = silent) -> Descriptors:
    """Learn VLAD where there is none, and describe the photos that it does not know, some hundred a second.

    Raises `UsageError` with too few photos, `CollectionError` when a file is damaged.
    """
    tables = writer.tables
    rows = tables.feature_rows[tables.counts(tables.feature_rows) > 0]
    vlad = files.read(files.VLAD, tables.folder, Vlad.load)
    if vlad is None:
        sample = np.random.default_rng(0).choice(rows, min(SAMPLED, len(rows)), replace=False)
        vlad = Vlad.fit(features_of(tables, np.sort(sample)))
        vlad.save(files.place(writer, files.VLAD))
    return _describe_all(writer, vlad, tables, rows, progress)


def follow_vlad(writer: Writer, progress: Progress = silent) -> Descriptors | None:
    """As `make_vlad`, but only where VLAD was made before."""
    return make_vlad(writer, progress) if files.VLAD.exists(writer.folder) else None


def _describe_all(writer: Writer, vlad: Vlad, tables: Tables, rows: Int64, progress: Progress) -> Descriptors:
    known, old = _stored(tables.folder, vlad) or (np.empty(0, np.int64), np.empty((0, vlad.dim), np.float32))
    kept, new = np.isin(known, rows), rows[~np.isin(rows, known)]
    parts = [old[kept]]
    for start in range(0, len(new), BLOCK):
        parts.append(vlad.describe(features_of(tables, new[start : start + BLOCK])))
        progress("describing photos", min(start + BLOCK, len(new)), len(new))
    every = np.concatenate([known[kept], new])
    order = np.argsort(every, kind="stable")
    vectors = np.concatenate(parts)[order]
    if len(new) or not kept.all():
        path = files.place(writer, files.VLAD_VECTORS)
        write_tensors(path, FORMAT, {"rows": every[order], "vectors": vectors}, {"made_from": vlad.fingerprint})
    return _descriptors(vlad, every[order], vectors)


def _stored(folder: Path, vlad: Vlad) -> tuple[Int64, Float32] | None:
    """Rows and their descriptors, as stored; None where there are none, or of another VLAD."""

    def build(tensors: dict[str, Any], metadata: dict[str, str]) -> tuple[Int64, Float32] | None:
        if metadata["made_from"] != vlad.fingerprint:
            return None
        if tensors["vectors"].shape != (len(tensors["rows"]), vlad.dim):
            raise ArrayError("its parts do not belong together")
        return tensors["rows"], tensors["vectors"]

    return files.read(files.VLAD_VECTORS, folder, lambda path: read_tensors(path, FORMAT, build))


def _descriptors(vlad: Vlad, rows: Int64, vectors: Float32) -> Descriptors:
    index = choose_index(len(rows), vlad.dim)
    if len(rows):
        index.add(rows, vectors)
    confidence = calibrate_vectors(vectors, vlad.fingerprint)
    return Descriptors(
        index, rows, vectors, None, confidence, vlad.fingerprint, lambda queries: vlad.describe(local_features(queries))
    )
