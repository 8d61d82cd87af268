"""The global descriptors of a collection, ready to search: whitening learnt from them, their index, their calibration.

Whitening and calibration are derived files; the descriptors themselves lie unwhitened in the tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from resight.artifacts.inverted_file import read_confidence, write_confidence
from resight.errors import CollectionError
from resight.features.whitening import Whitening, fit_pca, fit_zca
from resight.index.approximate import ApproximateIndex, choose_index
from resight.index.exact import ExactIndex
from resight.progress import Progress, silent
from resight.ranking.confidence import Confidence, calibrate_vectors
from resight.recipes.settings import GlobalSettings
from resight.store.folder import derived_path
from resight.store.tables import Tables
from resight.types import Float32, Int64

Index: TypeAlias = ExactIndex | ApproximateIndex

WHITENING = "whitening.safetensors"
LISTS = "vector_lists.safetensors"  # the approximate index of large collections
CONFIDENCE = "vector_confidence.json"
FEWEST = 32  # vectors below which a whitening would only fit their accidents
OUTGROWN = 2  # the whitening is learnt anew when the collection has so many times the photos it was learnt from
PCA_POWER = 0.25
ZCA_SHRINKAGE = 0.5
GIVEN = "given"  # provenance of a whitening that the user fitted: it stays


@dataclass(frozen=True, eq=False)
class Vectors:
    """`index` over the whitened descriptors of `rows` (N,) ascending, and what made it so."""

    index: Index
    rows: Int64
    matrix: Float32
    whitening: Whitening | None
    confidence: Confidence

    def whiten(self, vectors: Float32) -> Float32:
        """Raw descriptors (n, D) as the index holds them."""
        return vectors if self.whitening is None else self.whitening.apply(vectors)


def load_vectors(tables: Tables, settings: GlobalSettings) -> Vectors:
    """Read descriptors and derived files. Missing derived files count as not made yet.

    Peak memory: twice the descriptors, 4 · D bytes a photo. Raises `CollectionError` when a file is damaged.
    """
    whitening = _stored_whitening(tables.folder)
    rows, raw = tables.vectors()
    matrix = raw if whitening is None or not len(raw) else whitening.apply(raw)
    path = derived_path(tables.folder, CONFIDENCE)
    confidence = read_confidence(path) if path.exists() else None
    if confidence is None or not confidence.fits(len(rows), _name(whitening)):
        confidence = calibrate_vectors(matrix, _name(whitening))
    index = None if settings.half else _stored_index(tables.folder, rows, matrix)
    return Vectors(index or _index(rows, matrix, settings), rows, matrix, whitening, confidence)


def sync_vectors(
    tables: Tables, settings: GlobalSettings, *, given: Whitening | None = None, progress: Progress = silent
) -> Vectors:
    """Bring whitening and calibration up to the descriptors in `tables`; the caller is the collection's only writer.

    `given`: a whitening to use from now on. One that was given stays; one that was learnt is learnt anew when the
    collection has doubled.
    """
    folder = tables.folder
    raw_rows, raw = tables.vectors()
    known = _usable(folder)
    whitening = given or _current(known, raw, settings, progress)
    if whitening is not None and _name(whitening) != _name(known):
        derived_path(folder, WHITENING).parent.mkdir(exist_ok=True)
        whitening.save(derived_path(folder, WHITENING))
    if whitening is None:
        derived_path(folder, WHITENING).unlink(missing_ok=True)  # a damaged one
    matrix = raw if whitening is None or not len(raw) else whitening.apply(raw)
    confidence = calibrate_vectors(matrix, _name(whitening))
    write_confidence(derived_path(folder, CONFIDENCE), confidence)
    index = _sync_index(folder, raw_rows, matrix, settings, same=_name(whitening) == _name(known), progress=progress)
    return Vectors(index, raw_rows, matrix, whitening, confidence)


def fit_whitening(raw: Float32, method: str, dim: int | None = None) -> Whitening:
    """A whitening learnt from descriptors (N, D) without labels: `pca` of power 0.25, or `zca`, half shrunk."""
    if method == "pca":
        return fit_pca(raw, dim, PCA_POWER)
    return fit_zca(raw, ZCA_SHRINKAGE)


def _current(known: Whitening | None, raw: Float32, settings: GlobalSettings, progress: Progress) -> Whitening | None:
    if known is not None and (known.provenance.get("origin") == GIVEN or not _outgrown(known, len(raw))):
        return known
    if settings.whiten == "none" or len(raw) < FEWEST:
        return known
    progress("learning the whitening", 0, 1)
    whitening = fit_whitening(raw, settings.whiten, settings.whiten_dim)
    progress("learning the whitening", 1, 1)
    return whitening


def _outgrown(whitening: Whitening, photos: int) -> bool:
    samples = whitening.provenance.get("samples", "")
    return not samples.isdecimal() or photos >= OUTGROWN * int(samples)


def _name(whitening: Whitening | None) -> str:
    return "" if whitening is None else whitening.fingerprint


def _index(rows: Int64, matrix: Float32, settings: GlobalSettings) -> Index:
    """A new index that fits the number of vectors."""
    dim = matrix.shape[1]
    index = ExactIndex(dim, half=True) if settings.half else choose_index(len(rows), dim)
    if len(rows):
        index.add(rows, matrix)
    return index


def _sync_index(
    folder: Path, rows: Int64, matrix: Float32, settings: GlobalSettings, *, same: bool, progress: Progress
) -> Index:
    """An index of the vectors; an approximate one, whose making takes minutes, is kept as a file and followed."""
    path = derived_path(folder, LISTS)
    if settings.half or not isinstance(choose_index(len(rows), matrix.shape[1]), ApproximateIndex):
        path.unlink(missing_ok=True)
        return _index(rows, matrix, settings)
    try:
        index: Index | None = _stored_index(folder, rows, matrix) if same else None
    except CollectionError:
        index = None  # a damaged one is made again
    progress("building the index", 0, 1)
    index = index or _index(rows, matrix, settings)
    assert isinstance(index, ApproximateIndex)
    index.save(path)
    progress("building the index", 1, 1)
    return index


def _stored_index(folder: Path, rows: Int64, matrix: Float32) -> ApproximateIndex | None:
    """The stored approximate index brought up to `rows`, None when there is none or it is of another whitening."""
    path = derived_path(folder, LISTS)
    if not path.exists():
        return None
    index = ApproximateIndex.load(path)
    if index.dim != matrix.shape[1]:
        return None
    index.remove(np.setdiff1d(index.rows, rows))
    new = ~np.isin(rows, index.rows)
    index.add(rows[new], matrix[new])
    return index


def _stored_whitening(folder: Path) -> Whitening | None:
    path = derived_path(folder, WHITENING)
    return Whitening.load(path) if path.exists() else None


def _usable(folder: Path) -> Whitening | None:
    """As `_stored_whitening`; a damaged file counts as missing, since it is about to be made again."""
    try:
        return _stored_whitening(folder)
    except CollectionError:
        return None


def given(whitening: Whitening) -> Whitening:
    """`whitening`, marked as the user's choice: it is never learnt anew by itself."""
    return replace(whitening, provenance={**whitening.provenance, "origin": GIVEN})
