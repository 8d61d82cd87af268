"""How guided similarity separation is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resight.errors import UsageError
from resight.graph.separation import Precision
from resight.training.separation.loss import check_beta

MOST_LAYERS = 64  # two are published


@dataclass(frozen=True)
class SeparationSettings:
    """How to train; the defaults are those of the paper.

    `layers` and `residual`: of the network. `beta`: similarity that separates near from far; None: the
    `beta_percentile` of the similarities at the start, exact or within the error that `similarity_percentile` states.
    `epochs` of Adam at `learning_rate` over all pairs; with `batch` rows at a time, over the pairs of a batch and their
    sampled neighbourhoods, an unbiased estimate of the same loss but for neighbours beyond 16 of a row.
    `patience`: stop once hidden pairs have not been found better for so many epochs, and keep the best state; None runs
    all epochs and hides nothing. `seed` decides weights, batches, samples and what is hidden. `precision`: bfloat16
    rounds the factors of products. Raises `UsageError` for settings out of range.
    """

    layers: int = 2
    residual: float = 0.3
    beta: float | None = None
    beta_percentile: float = 98.0
    epochs: int = 200
    learning_rate: float = 1e-4
    patience: int | None = None
    batch: int | None = None
    seed: int = 0
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if not 1 <= self.layers <= MOST_LAYERS:
            raise UsageError(f"layers={self.layers}: a network has 1 to {MOST_LAYERS}")
        if self.seed < 0:
            raise UsageError(f"seed={self.seed}: give 0 or more")
        if self.beta is not None:
            check_beta(self.beta)
        if not 0 <= self.beta_percentile <= 100:
            raise UsageError(f"beta_percentile={self.beta_percentile} must lie between 0 and 100")
        if self.epochs < 0 or not 0 < self.learning_rate < np.inf:
            raise UsageError(f"{self.epochs} epochs at learning rate {self.learning_rate} cannot be trained")
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"patience={self.patience}: give at least 1 epoch, or None to train all epochs")
        if self.batch is not None and self.batch < 2:
            raise UsageError(f"batch={self.batch}: a batch needs at least 2 rows to form a pair")
