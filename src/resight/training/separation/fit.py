"""Training of guided similarity separation, without labels (Liu et al., NeurIPS 2019)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from resight.errors import UsageError
from resight.graph.propagation_matrix import Propagation, propagation_matrix
from resight.graph.separation import Mixing, Precision, SimilaritySeparation, as_tensor, smoothed
from resight.training.separation.batches import batches, neighbourhood
from resight.training.separation.beta import Percentile, similarity_percentile
from resight.training.separation.files import Progressed, fingerprint, read_checkpoint, write_checkpoint
from resight.training.separation.loss import check_beta, sampled_loss, similarity_separation
from resight.training.separation.watch import Watch, found_again, hide_pairs
from resight.types import Float32, KnnGraph

WATCH_EVERY = 5
CHECKPOINT_EVERY = 10
BATCH_NEIGHBOURS = 16
DIVERGED = 0.01  # share by which a loss may exceed that at the start


@dataclass(frozen=True)
class Epoch:
    """One pass over the collection: its `number` from 1, the `loss` before its steps (mean over its batches), the fixed
    `beta`, the mean reciprocal rank of hidden neighbours where they were looked for, and the time it took."""

    number: int
    loss: float
    beta: float
    found_again: float | None
    seconds: float


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model, every epoch, the `beta` used, the epoch whose end the model is (0: untrained), and why training
    stopped: all epochs done, hidden neighbours no longer found better, or a loss that diverged."""

    model: SimilaritySeparation
    epochs: tuple[Epoch, ...]
    beta: Percentile
    best: int
    stopped: Literal["done", "patience", "diverged"]


@dataclass(frozen=True)
class SeparationSettings:
    """How to train; see `fit_separation`."""

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


def fit_separation(
    X: Float32,
    graph: KnnGraph,
    *,
    layers: int = 2,
    residual: float = 0.3,
    beta: float | None = None,
    beta_percentile: float = 98.0,
    epochs: int = 200,
    learning_rate: float = 1e-4,
    patience: int | None = None,
    trusted: Any = None,
    batch: int | None = None,
    seed: int = 0,
    precision: Precision = "float32",
    device: str = "cpu",
    checkpoint: str | Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> SimilaritySeparation:
    """Fit a network to L2-normalised `X` (N, D) float32 and its neighbour `graph`; `extend` it to queries right away.

    Defaults are those of the paper, whose k counts the photo itself: its k = 5 is a graph of 4 neighbours.
    `beta`: similarity that separates near from far; None: the `beta_percentile` of the similarities at the start, exact
    or within the error that `similarity_percentile` states. `epochs` of Adam over all pairs; with `batch` rows at a
    time, over the pairs of a batch and their sampled neighbourhoods, an unbiased estimate of the same loss but for
    neighbours beyond 16 of a row.
    `patience`: stop once a tenth of the `trusted` pairs (P, 2), hidden, have not been found better for so many epochs,
    and keep the best state; None for trusted: photos that list each other. Without patience all epochs are run.
    `precision` bfloat16 rounds the factors of products. `checkpoint`: a file to save to and to continue from.
    A loss that is not finite, or above that at the start, ends training with the last good state.

    Memory: about seven arrays of N x D beside X while training, and three blocks of 2048 x 2048. An epoch takes some
    3 N² D + 6 L N D² floating-point operations. The same seed gives the same model on the same machine.
    Raises as `propagation_matrix` does, `UsageError` for settings out of range, or a checkpoint of other data.
    """
    settings = SeparationSettings(
        layers, residual, beta, beta_percentile, epochs, learning_rate, patience, batch, seed, precision
    )
    return train_separation(
        X, graph, settings, trusted=trusted, device=device, checkpoint=checkpoint, on_epoch=on_epoch
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
) -> Trained:
    """As `fit_separation`, with the story of the training."""
    propagation = propagation_matrix(X, graph)
    X = np.asarray(X, np.float32)
    model = SimilaritySeparation(
        X.shape[1], settings.layers, settings.residual, seed=settings.seed, precision=settings.precision
    ).to(_device(device))
    watch = None if settings.patience is None else hide_pairs(X, graph, trusted, settings.seed)
    path = None if checkpoint is None else Path(checkpoint)
    data = "" if path is None else fingerprint(X, graph, settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    state = None if path is None or not path.exists() else read_checkpoint(path, data, model, optimizer)
    if state is None:
        state = Progressed([], _beta(X, propagation, model, settings), _weights(model), 0, -np.inf)
        if watch is not None:
            state.best_found = found_again(model, X, watch)
    run = _Run(X, propagation, settings, model, optimizer, watch)
    stopped = run.all_epochs(state, path, data, on_epoch)
    with torch.no_grad():
        for parameter, kept in zip(model.parameters(), state.kept, strict=True):
            parameter.copy_(kept)
    model.embed(X, propagation)
    epochs = tuple(Epoch(*epoch) for epoch in state.epochs)
    return Trained(model, epochs, Percentile(*state.beta), state.best, stopped)


def json_log(path: str | Path) -> Callable[[Epoch], None]:
    """An `on_epoch` that appends one JSON object per epoch to a file of lines."""

    def write(epoch: Epoch) -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(epoch.__dict__) + "\n")

    return write


def tensorboard_log(folder: str | Path) -> Callable[[Epoch], None]:
    """An `on_epoch` that writes loss, beta and what hidden neighbours say to event files that TensorBoard shows.

    Raises `UsageError` when the package tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError("event files need tensorboard: pip install 'resight[tensorboard]'") from error
    writer = SummaryWriter(str(folder))

    def write(epoch: Epoch) -> None:
        for name in ("loss", "beta", "found_again", "seconds"):
            value = getattr(epoch, name)
            if value is not None:
                writer.add_scalar(name, value, epoch.number)
        writer.flush()

    return write


@dataclass(frozen=True, eq=False)
class _Run:
    X: Float32
    propagation: Propagation
    settings: SeparationSettings
    model: SimilaritySeparation
    optimizer: torch.optim.Adam
    watch: Watch | None

    def all_epochs(
        self, state: Progressed, path: Path | None, data: str, on_epoch: Callable[[Epoch], None] | None
    ) -> Literal["done", "patience", "diverged"]:
        """Train; `state` follows. With a watch `state.kept` is the best state, else the last one known to be good."""
        whole = None
        if self.settings.batch is None:
            mixing = Mixing.build(self.propagation.matrix, self.model.device, symmetric=True)
            whole = (as_tensor(self.X, self.model.device), mixing)
        patience = self.settings.patience
        while (number := len(state.epochs) + 1) <= self.settings.epochs:
            if patience is not None and number - 1 - state.best >= patience:
                return "patience"
            started, before = time.perf_counter(), _weights(self.model)
            loss = self._batched(number, state.beta[0]) if whole is None else self._whole(*whole, state.beta[0])
            start = state.epochs[0][1] if state.epochs else loss
            if not np.isfinite(loss) or loss > start + DIVERGED * abs(start):
                return "diverged"
            if self.watch is None:
                state.kept, state.best = before, number - 1
            found = self._look(number, state)
            epoch = Epoch(number, loss, state.beta[0], found, time.perf_counter() - started)
            state.epochs.append((epoch.number, epoch.loss, epoch.beta, epoch.found_again, epoch.seconds))
            if on_epoch is not None:
                on_epoch(epoch)
            if path is not None and (number % CHECKPOINT_EVERY == 0 or number == self.settings.epochs):
                write_checkpoint(path, data, self.model, self.optimizer, state)
        if self.watch is None:
            if not all(bool(torch.isfinite(weight).all()) for weight in self.model.parameters()):
                return "diverged"
            state.kept, state.best = _weights(self.model), len(state.epochs)
        return "done"

    def _whole(self, x: Tensor, mixing: Mixing, beta: float) -> float:
        """One step over all pairs; the loss before it."""
        self.optimizer.zero_grad()
        precision = torch.bfloat16 if self.settings.precision == "bfloat16" else None
        embedded = self.model(x, [mixing] * self.model.layers)
        loss = similarity_separation(embedded, beta, precision=precision)
        sound = _all_unit(embedded.detach())
        del embedded  # its memory is needed for the gradient
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach()) if sound else np.nan

    def _batched(self, number: int, beta: float) -> float:
        """Steps over batches of all rows; the mean of their losses."""
        rng = np.random.default_rng((self.settings.seed, number))
        losses, device = [], self.model.device
        for rows in batches(len(self.X), self.settings.batch or 0, rng):
            used, matrices = neighbourhood(self.propagation.matrix, rows, self.model.layers, BATCH_NEIGHBOURS, rng)
            self.optimizer.zero_grad()
            embedded = self.model(as_tensor(self.X[used], device), [Mixing.build(m, device) for m in matrices])
            loss = sampled_loss(embedded, beta, len(self.X))
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            losses.append(float(loss.detach()) if _all_unit(embedded.detach()) else np.nan)
        return float(np.mean(losses))

    def _look(self, number: int, state: Progressed) -> float | None:
        """How well hidden neighbours are found, where that is watched and due; keep the weights if best."""
        if self.watch is None or (number % WATCH_EVERY and number != self.settings.epochs):
            return None
        found = found_again(self.model, self.X, self.watch)
        if found > state.best_found:
            state.kept, state.best, state.best_found = _weights(self.model), number, found
        return found


def _beta(
    X: Float32, propagation: Propagation, model: SimilaritySeparation, settings: SeparationSettings
) -> tuple[float, float]:
    """Beta and its error."""
    if settings.beta is not None:
        return settings.beta, 0.0
    start = smoothed(X, propagation, settings.layers, settings.residual, model.device)
    found = similarity_percentile(start, settings.beta_percentile, seed=settings.seed)
    # All similarities of a collection can be 1: beta must stay below for there to be a far side.
    return min(found.value, 1 - 1e-6), found.error


def _weights(model: SimilaritySeparation) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def _all_unit(e: Tensor) -> bool:
    """Whether rows `e` are L2-normalised: weights that are too large overflow into zeros, which have a finite loss."""
    return bool((torch.linalg.vector_norm(e, dim=1) - 1).abs().max() < 0.01)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device
