"""Descriptors of a benchmark's photos and of distractors, as recipes for feature files take them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resight.evaluation.streaming import stream_vectors
from resight.types import Float32, Int64


@dataclass(frozen=True, eq=False)
class Database:
    """Descriptors of a benchmark's own photos, `vectors` (N, D), and a file of distractors behind them. `images` (N,)
    int64: the photo of each where they are local descriptors, several of a photo.
    """

    vectors: Float32
    distractors: Path | None = None
    images: Int64 | None = None

    def blocks(self) -> Iterator[Float32]:
        """All descriptors in row order, a block at a time."""
        yield self.vectors
        if self.distractors is not None:
            yield from stream_vectors(self.distractors, self.vectors.shape[1])

    def all(self) -> Float32:
        """All descriptors at once, (N, D): what recipes that need a graph hold in memory."""
        return self.vectors if self.distractors is None else np.concatenate(list(self.blocks()))
