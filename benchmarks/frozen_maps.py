"""Feature maps of a network that is not trained any further: computed once, kept on disk, read again in a millisecond."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
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
    """Maps of photos by name and longest side, float16 in one file each under `folder`, and the graphs of their cells,
    which no training changes either, in memory: some 200 kB for a map of 512 pixels."""

    folder: Path
    known: dict[tuple[str, int, int, float], list[CellGraph]] = field(default_factory=dict)

    def compute(self, photos: Iterable[tuple[str, Path]], backbone: Path, sides: Sequence[int]) -> None:
        """Make those that are missing, of (name, file)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        missing = [(name, file, side) for name, file in photos for side in sides if not self._file(name, side).exists()]
        network = open_backbone(backbone) if missing else None
        for name, file, side in missing:
            pixels, place = _sized(decode(file).pixels, side), self._file(name, side)
            with open(f"{place}.part", "wb") as part:
                np.save(part, network.forward(pixels).astype(np.float16))  # type: ignore[union-attr]
            os.replace(f"{place}.part", place)

    def __call__(self, name: str, side: int) -> Tensor:
        """Maps (1, C, h, w) float32."""
        return torch.from_numpy(np.load(self._file(name, side)).astype(np.float32))

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
