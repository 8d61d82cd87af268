"""The global descriptors of a collection, ready to search: whitening learned from them, their index, their calibration.

Whitening and calibration are artifacts; the descriptors themselves lie unwhitened in the tables. A collection that
keeps local features alone has VLAD of them instead (`resight.artifacts.vlad`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np

from resight.artifacts import files
from resight.artifacts.inverted_file import read_confidence, write_confidence
from resight.artifacts.refined_vectors import follow_refined, load_refined, remove_refined
from resight.features.whitening import Whitening, fit_pca, fit_zca
from resight.index.approximate import ApproximateIndex, choose_index
from resight.index.exact import ExactIndex
from resight.index.refined import RefinedIndex
from resight.progress import Progress, silent
from resight.ranking.confidence import Confidence, calibrate_vectors
from resight.ranking.vector_database import VectorDatabase
from resight.recipes.settings import GlobalSettings
from resight.store.tables import Tables
from resight.store.writer import Writer
from resight.types import Float32, Int64, Queries

Index: TypeAlias = ExactIndex | ApproximateIndex | RefinedIndex

FEWEST = 32  # vectors below which a whitening would only fit their accidents
REFINED_VALUES = 2**30  # N x D beyond which vectors are searched by codes and lie on disk: 2 GiB in half precision
OUTGROWN = 2  # the whitening is learned anew when the collection has so many times the photos it was learned from
PCA_POWER = 0.25
ZCA_SHRINKAGE = 0.5
GIVEN = "given"  # provenance of a whitening that the user fitted: it stays


@dataclass(frozen=True, eq=False)
class Descriptors:
    """`index` over the whitened descriptors `matrix` (N, D) of `rows` (N,) ascending, and what made them: the
    fingerprint of their `model`, a `whitening`. `describe`: how queries get theirs, None where they carry them.
    """

    index: Index
    rows: Int64
    matrix: Float32
    whitening: Whitening | None
    confidence: Confidence
    model: str = ""
    describe: Callable[[Queries], Float32] | None = None

    def whiten(self, vectors: Float32) -> Float32:
        """Raw descriptors (n, D) as the index holds them."""
        return vectors if self.whitening is None else self.whitening.apply(vectors)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what makes descriptors, hexadecimal: model and whitening."""
        return hashlib.sha256(f"{self.model} {_name(self.whitening) or 'none'}".encode()).hexdigest()

    @cached_property
    def made_from(self) -> str:
        """What a graph over these descriptors is made from: what makes them, and which photos."""
        return f"{self.fingerprint}:{hashlib.sha256(self.rows.astype('<i8').tobytes()).hexdigest()}"

    @cached_property
    def database(self) -> VectorDatabase:
        """As stages that follow graphs take them."""
        return VectorDatabase(self.matrix, self.rows, self.index)


def load_descriptors(tables: Tables, settings: GlobalSettings, model: str) -> Descriptors:
    """Read descriptors and their artifacts; `model`: fingerprint of their network. Missing artifacts count as not made.

    Peak memory: twice the descriptors, 4 · D bytes a photo. Raises `CollectionError` when a file is damaged.
    """
    whitening = files.read(files.WHITENING, tables.folder, Whitening.load)
    rows, raw = tables.vectors()
    matrix = raw if whitening is None or not len(raw) else whitening.apply(raw)
    confidence = files.read(files.VECTOR_CONFIDENCE, tables.folder, read_confidence)
    if confidence is None or not confidence.fits(len(rows), _name(whitening)):
        confidence = calibrate_vectors(matrix, _name(whitening))
    index = None if settings.half else _stored_index(tables.folder, rows, matrix, settings)
    return Descriptors(index or _index(rows, matrix, settings), rows, matrix, whitening, confidence, model)


def follow_descriptors(
    writer: Writer,
    settings: GlobalSettings,
    model: str,
    *,
    given: Whitening | None = None,
    progress: Progress = silent,
) -> Descriptors:
    """Bring whitening, calibration and index up to the descriptors in the tables.

    `given`: a whitening to use from now on. One that was given stays; one that was learned is learned anew when the
    collection has doubled. Raises `CollectionError` when the whitening is damaged: it may be the user's own.
    """
    folder = writer.folder
    rows, raw = writer.tables.vectors()
    known = None if given is not None else files.read(files.WHITENING, folder, Whitening.load)
    whitening = given or _current(known, raw, settings, progress)
    same = _name(whitening) == _name(known)
    if whitening is not None and not same:
        whitening.save(files.place(writer, files.WHITENING))
    matrix = raw if whitening is None or not len(raw) else whitening.apply(raw)
    confidence = calibrate_vectors(matrix, _name(whitening))
    write_confidence(writer, files.VECTOR_CONFIDENCE, confidence)
    index = _follow_index(writer, rows, matrix, settings, same=same, progress=progress)
    return Descriptors(index, rows, matrix, whitening, confidence, model)


def fit_whitening(raw: Float32, method: str, dim: int | None = None) -> Whitening:
    """A whitening learned from descriptors (N, D) without labels: `pca` of power 0.25, or `zca`, half shrunk."""
    if method == "pca":
        return fit_pca(raw, dim, PCA_POWER)
    return fit_zca(raw, ZCA_SHRINKAGE)


def given(whitening: Whitening) -> Whitening:
    """`whitening`, marked as the user's choice: it is never learned anew by itself."""
    return replace(whitening, provenance={**whitening.provenance, "origin": GIVEN})


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


def _follow_index(
    writer: Writer, rows: Int64, matrix: Float32, settings: GlobalSettings, *, same: bool, progress: Progress
) -> Index:
    """An index of the vectors; an approximate one, whose making takes minutes, is kept as a file and followed."""
    if _refined(rows, matrix, settings):
        files.remove(writer, files.VECTOR_LISTS)
        progress("building the index", 0, 1)
        refined = follow_refined(writer, files.VECTORS_CODED, rows, matrix, anew=not same)
        progress("building the index", 1, 1)
        return refined
    remove_refined(writer, files.VECTORS_CODED)
    if settings.half or not isinstance(choose_index(len(rows), matrix.shape[1]), ApproximateIndex):
        files.remove(writer, files.VECTOR_LISTS)
        return _index(rows, matrix, settings)
    stored = files.usable(files.VECTOR_LISTS, writer.folder, ApproximateIndex.load) if same else None
    progress("building the index", 0, 1)
    index = _followed(stored, rows, matrix) or _index(rows, matrix, settings)
    assert isinstance(index, ApproximateIndex)
    index.save(files.place(writer, files.VECTOR_LISTS))
    progress("building the index", 1, 1)
    return index


def _refined(rows: Int64, matrix: Float32, settings: GlobalSettings) -> bool:
    return not settings.half and len(rows) * matrix.shape[1] > REFINED_VALUES


def _stored_index(folder: Path, rows: Int64, matrix: Float32, settings: GlobalSettings) -> Index | None:
    """The stored index brought up to `rows`, None when there is none or it is of another whitening. Files of a refined
    one belong to the writer: where a run that was stopped left it behind the tables, there is none."""
    if _refined(rows, matrix, settings):
        refined = load_refined(folder, files.VECTORS_CODED)
        return refined if refined is not None and np.array_equal(refined.rows, rows) else None
    return _followed(files.read(files.VECTOR_LISTS, folder, ApproximateIndex.load), rows, matrix)


def _followed(index: ApproximateIndex | None, rows: Int64, matrix: Float32) -> ApproximateIndex | None:
    if index is None or index.dim != matrix.shape[1]:
        return None
    index.remove(np.setdiff1d(index.rows, rows))
    new = ~np.isin(rows, index.rows)
    index.add(rows[new], matrix[new])
    return index
