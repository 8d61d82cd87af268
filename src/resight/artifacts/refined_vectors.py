"""Refined indexes of a collection's descriptors: codes in one file, vectors in half precision in another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from resight.artifacts import files
from resight.index.refined import RefinedIndex
from resight.store.writer import Writer
from resight.types import Float32, Int64

BLOCK = 8192


def follow_refined(
    writer: Writer, where: files.RefinedFiles, rows: Int64, vectors: Float32, *, anew: bool = False, **options: Any
) -> RefinedIndex:
    """The stored index brought up to `vectors` (N, D) of `rows` (N,) ascending, and stored; built where it is missing,
    damaged or of another dimension, or is wanted `anew`. `options`: of `RefinedIndex`. Memory: see there.
    """
    stored = None if anew else usable_refined(writer.folder, where)
    if stored is None or stored.dim != vectors.shape[1]:
        stored = RefinedIndex(vectors.shape[1], files.place(writer, where.vectors), **options)
    bring_up(stored, rows, vectors)
    stored.save(files.place(writer, where.codes))
    return stored


def bring_up(index: RefinedIndex, rows: Int64, vectors: Float32) -> None:
    """Take photos out of `index` that are none of `rows` (N,) ascending, and add those it lacks, in blocks."""
    index.remove(np.setdiff1d(index.rows, rows))
    lacking = np.flatnonzero(~np.isin(rows, index.rows))
    index.extend(_blocks(rows, vectors, lacking))


def load_refined(folder: Path, where: files.RefinedFiles) -> RefinedIndex | None:
    """The stored index, None where there is none. Raises `CollectionError` when it is damaged."""
    return files.read(where.codes, folder, lambda path: _load(path, where, folder))


def usable_refined(folder: Path, where: files.RefinedFiles) -> RefinedIndex | None:
    """As `load_refined`, but an index that cannot be used counts as missing, since it is about to be made again."""
    return files.usable(where.codes, folder, lambda path: _load(path, where, folder))


def remove_refined(writer: Writer, where: files.RefinedFiles) -> None:
    """Delete the files, where they are there."""
    files.remove(writer, where.codes, where.vectors)


def _load(path: Path, where: files.RefinedFiles, folder: Path) -> RefinedIndex:
    return RefinedIndex.load(path, where.vectors.path(folder))


def _blocks(rows: Int64, vectors: Float32, lacking: Int64) -> Iterator[tuple[Int64, Float32]]:
    for start in range(0, len(lacking), BLOCK):
        part = lacking[start : start + BLOCK]
        yield rows[part], vectors[part]
