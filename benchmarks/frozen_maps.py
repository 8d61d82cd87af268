"""Feature maps of a network that is not trained any further: computed once, kept on disk, in memory projected."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from resight.features.local.context import Context, Seen
from resight.features.local.reweighting import CellGraph, GraphReweighting
from resight.features.networks.backbone import IMAGENET_MEAN, IMAGENET_STD
from resight.features.networks.open import open_backbone
from resight.images.decode import decode


@dataclass(frozen=True, eq=False)
class FrozenMaps:
    """Maps of photos by name and longest side, float16 in one file each under `folder`.

    With a `basis` (C, c) they are projected onto its columns and held in memory as float16, 0.4 MB for 512 pixels and
    256 columns; so are the graphs of their cells, which no training changes either, 0.2 MB each.
    """

    folder: Path
    basis: Tensor | None = None
    held: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    known: dict[tuple[str, int, int, float], list[CellGraph]] = field(default_factory=dict)

    def compute(self, photos: Iterable[tuple[str, Path]], backbone: Path, sides: Sequence[int]) -> None:
        """Make those that are missing, of (name, file)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        missing = [(name, file, side) for name, file in photos for side in sides if not self._file(name, side).exists()]
        if not missing:
            return
        network = open_backbone(backbone, threads=1)

        def one(name: str, file: Path, side: int) -> None:
            place = self._file(name, side)
            with open(f"{place}.part", "wb") as part:
                np.save(part, network.forward(_sized(decode(file).pixels, side)).astype(np.float16))
            os.replace(f"{place}.part", place)

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for _ in threads.map(one, *zip(*missing, strict=True)):
                pass

    def strongest(self, names: Sequence[str], side: int, channels: int) -> tuple[FrozenMaps, float]:
        """These maps on the `channels` strongest directions of those of `names`, and the share of energy kept there.

        The mean is not removed, so lengths, which are attention, stay nearly what they were.
        """
        outer = sum(rows.T @ rows for rows in (self(name, side)[0].flatten(1).T for name in names))
        values, vectors = torch.linalg.eigh(outer)  # ascending
        return FrozenMaps(self.folder, vectors[:, -channels:].clone()), float(values[-channels:].sum() / values.sum())

    def __call__(self, name: str, side: int) -> Tensor:
        """Maps (1, c, h, w) float32."""
        if (name, side) in self.held:
            return self.held[name, side].float()
        maps = torch.from_numpy(np.load(self._file(name, side)).astype(np.float32))
        if self.basis is None:
            return maps
        self.held[name, side] = torch.einsum("nchw,cd->ndhw", maps, self.basis).contiguous().half()
        return self(name, side)

    def look(self, context: Context, name: str, side: int) -> Seen:
        """What the blocks of `context` see there."""
        maps, block = self(name, side), context.reweighting
        if not isinstance(block, GraphReweighting):
            return context.look(maps)
        key = name, side, block.k, block.power
        if key not in self.known:
            self.known[key] = block.graphs(maps)
        return context.look(maps, self.known[key])

    def _file(self, name: str, side: int) -> Path:
        return self.folder / f"{name.replace('/', '__')}@{side}.npy"


def _sized(pixels: Any, side: int) -> Any:
    factor = side / max(pixels.shape[:2])
    size = round(pixels.shape[1] * factor), round(pixels.shape[0] * factor)
    mean, deviation = 255 * np.float32(IMAGENET_MEAN), 255 * np.float32(IMAGENET_STD)
    image = (cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) - mean) / deviation
    return image.transpose(2, 0, 1)[None].astype(np.float32)
