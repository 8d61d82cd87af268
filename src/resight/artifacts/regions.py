"""Regions of activation maps of a collection's photos, for deep spatial matching: 60 KB a photo, read as needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from resight.artifacts import files
from resight.errors import ArrayError, CollectionError
from resight.matching.affine_frames import AffineFrames
from resight.matching.deep_spatial import SCALES, DeepRegions
from resight.regular_files import check_regular
from resight.store.tensor_file import write_tensors
from resight.store.writer import Writer
from resight.types import Float32, Int64

FORMAT = "resight regions 1"
PARTS = ("xy", "shape", "word", "strength", "scale")


@dataclass(frozen=True, eq=False)
class StoredRegions:
    """Regions of the photos `rows` (N,) ascending in an open `file`: those of photo i are `starts`[i] to `starts`[i+1],
    its `cells` (N, s) are pixels per cell at each scale, 0 for a photo that could not be described.

    `model`: fingerprint of the network. The file is mapped: only what is asked for is read.
    """

    file: Any
    rows: Int64
    starts: Int64
    cells: Float32
    model: str

    def __call__(self, rows: Int64) -> list[DeepRegions]:
        """The regions of each of `rows` (n,). Raises `CollectionError` for a row that is not there, and damage."""
        places = np.searchsorted(self.rows, rows)
        missing = ~np.isin(rows, self.rows)
        if missing.any():
            raise CollectionError(f"{missing.sum()} photos have no regions: run {files.REGIONS.command} again")
        return [self._one(int(place)) for place in places]

    def _one(self, place: int) -> DeepRegions:
        if not (self.cells[place] > 0).all():
            return no_regions()
        part = slice(int(self.starts[place]), int(self.starts[place + 1]))
        try:
            xy, shape, word, strength, scale = (self.file.get_slice(name)[part] for name in PARTS)
            frames = AffineFrames(xy, shape, word.astype(np.int64), strength)
            return DeepRegions(frames, scale.astype(np.int64), self.cells[place])
        except (SafetensorError, ArrayError) as error:
            raise CollectionError(f"the stored regions are damaged ({error}): run {files.REGIONS.command}") from error


def no_regions() -> DeepRegions:
    """Nothing at all, of a photo that is too small or cannot be read."""
    none = np.empty(0, np.float32)
    frames = AffineFrames(none.reshape(0, 2), none.reshape(0, 2, 2), np.empty(0, np.int64), none)
    return DeepRegions(frames, np.empty(0, np.int64), np.ones(len(SCALES), np.float32))


def save_regions(writer: Writer, rows: Int64, regions: Sequence[DeepRegions | None], model: str) -> None:
    """Keep the regions of photos `rows` (N,) ascending, None for one that could not be described, in place of earlier
    ones. Memory: all of them twice.
    """
    known = [no_regions() if one is None else one for one in regions]
    cells = [np.zeros(len(SCALES), np.float32) if one is None else one.cells for one in regions]
    tensors = {
        "rows": np.asarray(rows, np.int64),
        "starts": np.cumsum([0, *map(len, known)]).astype(np.int64),
        "cells": np.array(cells, np.float32).reshape(-1, len(SCALES)),
        "xy": _joined([one.frames.xy for one in known], (2,)),
        "shape": _joined([one.frames.shape for one in known], (2, 2)),
        "word": _joined([one.frames.word.astype(np.int32) for one in known], (), np.int32),
        "strength": _joined([one.frames.strength for one in known], ()),
        "scale": _joined([one.scale.astype(np.uint8) for one in known], (), np.uint8),
    }
    write_tensors(files.place(writer, files.REGIONS), FORMAT, tensors, {"model": model})


def load_regions(folder: Path, model: str) -> StoredRegions | None:
    """What `save_regions` wrote for the network of fingerprint `model`; None where there is nothing, or of another one.

    Raises `CollectionError` when it is damaged.
    """
    return files.read(files.REGIONS, folder, lambda path: _open(path, model))


def _open(path: Path, model: str) -> StoredRegions | None:
    try:
        check_regular(path)
        file: Any = safe_open(path, "numpy")
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise CollectionError(f"{path} holds {metadata.get('format')!r}, expected {FORMAT!r}")
        rows, starts, cells = (file.get_tensor(name) for name in ("rows", "starts", "cells"))
        counts = {file.get_slice(name).get_shape()[0] for name in PARTS}
    except (OSError, SafetensorError) as error:
        raise CollectionError(f"{path} is damaged ({error})") from error
    whole = starts.shape == (len(rows) + 1,) and cells.shape == (len(rows), len(SCALES))
    if not whole or (np.diff(starts) < 0).any() or (np.diff(rows) <= 0).any() or counts != {int(starts[-1])}:
        raise CollectionError(f"{path} is damaged (its parts do not belong together)")
    return StoredRegions(file, rows, starts, cells, metadata["model"]) if metadata.get("model") == model else None


def _joined(parts: list[Any], shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    return np.concatenate([np.empty((0, *shape), dtype), *parts])
