"""Training of guided similarity separation, without labels (Liu et al., NeurIPS 2019)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resight.errors import UsageError
from resight.graph.propagation_matrix import Propagation, propagation_matrix
from resight.graph.separation import Mixing, SimilaritySeparation, as_tensor, smoothed
from resight.training.loop import Epoch, Rules, Task, Trained, train
from resight.training.separation.batches import batches, neighbourhood
from resight.training.separation.beta import Percentile, similarity_percentile
from resight.training.separation.files import checkpoint_of
from resight.training.separation.loss import sampled_loss, similarity_separation
from resight.training.separation.settings import SeparationSettings
from resight.training.separation.watch import found_again, hide_pairs
from resight.types import Float32, KnnGraph

WATCH_EVERY = 5
BATCH_NEIGHBOURS = 16
DIVERGED = 0.01  # share by which a loss may exceed that at the start


@dataclass(frozen=True, eq=False)
class TrainedSeparation(Trained[SimilaritySeparation]):
    """A trained model and the `beta` used. Validation scores of its epochs are the mean reciprocal rank of hidden
    neighbours, 0 to 1, where they were looked for."""

    beta: Percentile


def fit_separation(
    X: Float32,
    graph: KnnGraph,
    *,
    beta: float | None = None,
    beta_percentile: float = 98.0,
    trusted: Any = None,
    device: str = "cpu",
    checkpoint: str | Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    **settings: Any,
) -> SimilaritySeparation:
    """Fit a network to L2-normalised `X` (N, D) float32 and its neighbour `graph`; `extend` it to queries right away.

    `beta`, `beta_percentile` and `settings`: fields of `SeparationSettings`, by name. Its defaults are those of the
    paper, whose k counts the photo itself: its k = 5 is a graph of 4 neighbours. `trusted` (P, 2): pairs of rows of
    which a tenth is hidden to watch with patience; None for photos that list each other. `checkpoint`: a file to save
    to and to continue from. `on_epoch` is called with every epoch.
    A loss that is not finite, or above that at the start, ends training with the last good state.

    Memory: about seven arrays of N x D beside X while training, and three blocks of 2048 x 2048. An epoch takes some
    3 N² D + 6 L N D² floating-point operations. The same seed gives the same model on the same machine.
    Raises as `propagation_matrix` does, `UsageError` for settings out of range, or a checkpoint of other data.
    """
    made = SeparationSettings(beta=beta, beta_percentile=beta_percentile, **settings)
    return train_separation(
        X, graph, made, trusted=trusted, device=device, checkpoint=checkpoint, on_epoch=on_epoch
    ).model


def train_separation(
    X: Float32,
    graph: KnnGraph,
    settings: SeparationSettings,
    *,
    trusted: Any = None,
    device: str = "cpu",
    checkpoint: str | Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> TrainedSeparation:
    """As `fit_separation`, with the story of the training."""
    propagation = propagation_matrix(X, graph)
    X = np.asarray(X, np.float32)
    model = SimilaritySeparation(
        X.shape[1], settings.layers, settings.residual, seed=settings.seed, precision=settings.precision
    ).to(_device(device))
    beta = _beta(X, propagation, model, settings)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    validate = None
    if settings.patience is not None:
        watch = hide_pairs(X, graph, trusted, settings.seed)
        validate = partial(found_again, model, X, watch)
    drawn, loss = _batches(X, propagation, settings, model), _loss(len(X), beta.value, settings, model)
    rules = Rules(settings.epochs, settings.patience, WATCH_EVERY, "higher", DIVERGED)
    file = None if checkpoint is None else checkpoint_of(checkpoint, X, graph, settings)
    trained = train(Task(model, optimiser, drawn, loss, validate), rules, checkpoint=file, on_epoch=on_epoch)
    model.embed(X, propagation)
    return TrainedSeparation(model, trained.epochs, trained.best, trained.stopped, beta)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Descriptors `x` (n, D) that the embedding of a batch depends on, and the matrix of every layer."""

    x: Tensor
    mixings: list[Mixing]

    def __len__(self) -> int:
        return self.mixings[-1].shape[0]


def _batches(
    X: Float32, propagation: Propagation, settings: SeparationSettings, model: SimilaritySeparation
) -> Callable[[int], Iterable[_Rows]]:
    """All rows at once, or in batches with sampled neighbourhoods."""
    matrix, size = propagation.matrix, settings.batch
    if size is None:
        mixing = Mixing.build(matrix, model.device, symmetric=True)
        every = [_Rows(as_tensor(X, model.device), [mixing] * model.layers)]
        return lambda _: every

    def drawn(epoch: int) -> Iterator[_Rows]:
        rng = np.random.default_rng((settings.seed, epoch))
        for rows in batches(len(X), size, rng):
            used, matrices = neighbourhood(matrix, rows, model.layers, BATCH_NEIGHBOURS, rng)
            yield _Rows(as_tensor(X[used], model.device), [Mixing.build(m, model.device) for m in matrices])

    return drawn


def _loss(
    count: int, beta: float, settings: SeparationSettings, model: SimilaritySeparation
) -> Callable[[_Rows], Tensor]:
    """The loss over all `count` rows: exact, or estimated from a batch."""
    precision = torch.bfloat16 if settings.precision == "bfloat16" else None

    def loss(batch: _Rows) -> Tensor:
        e = model(batch.x, batch.mixings)
        exact = settings.batch is None
        value = similarity_separation(e, beta, precision=precision) if exact else sampled_loss(e, beta, count)
        return value if _all_unit(e.detach()) else value * torch.nan

    return loss


def _all_unit(e: Tensor) -> bool:
    """Whether rows `e` are L2-normalised: weights that are too large overflow into zeros, which have a finite loss."""
    return bool((torch.linalg.vector_norm(e, dim=1) - 1).abs().max() < 0.01)


def _beta(
    X: Float32, propagation: Propagation, model: SimilaritySeparation, settings: SeparationSettings
) -> Percentile:
    if settings.beta is not None:
        return Percentile(settings.beta, 0.0)
    start = smoothed(X, propagation, settings.layers, settings.residual, model.device)
    found = similarity_percentile(start, settings.beta_percentile, seed=settings.seed)
    # All similarities of a collection can be 1: beta must stay below for there to be a far side.
    return replace(found, value=min(found.value, 1 - 1e-6))


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device
