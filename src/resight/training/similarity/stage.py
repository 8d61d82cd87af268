"""One stage of the training of a similarity network: its options, its batches, its loss."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from resight.errors import UsageError
from resight.matching.similarity import DeepSimilarity
from resight.progress import Progress
from resight.training.checkpoint import Checkpoint
from resight.training.loop import Rules, Task, Trained, train
from resight.training.losses import deep_similarity
from resight.types import Bool, Float32

BLOCK = 1024  # pairs of a validation pass held at a time


@dataclass(frozen=True)
class Options:
    """How a stage is trained: `epochs`, pairs per `batch`, learning `rate`, `optimiser`, `seed`.

    `decay`: the rate falls along half a cosine to 0 over the epochs; else it stays, as published. `patience`: epochs
    without a lower validation loss that end the training; None for none. Raises `UsageError` on numbers that cannot be.
    """

    epochs: int
    batch: int = 100
    rate: float = 1e-3
    patience: int | None = None
    optimiser: Literal["adam", "sgd"] = "adam"
    decay: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, 1 if self.patience is None else self.patience) < 1 or not self.rate > 0:
            raise UsageError(f"{self}: epochs, batch, patience and rate must all be positive")
        if self.optimiser not in ("adam", "sgd"):
            raise UsageError(f"optimiser={self.optimiser!r} is neither adam nor sgd")
        if self.seed < 0:
            raise UsageError(f"seed={self.seed} must not be negative")


@dataclass(frozen=True, eq=False)
class Batch:
    """Descriptors `x` and `y` (n, D) of n pairs, their `cosine` (n,), and whether they are `matching` (n,)."""

    x: Float32
    y: Float32
    cosine: Float32
    matching: Bool

    def __len__(self) -> int:
        return len(self.x)

    def select(self, index: slice) -> Batch:
        """The pairs at `index`."""
        return Batch(self.x[index], self.y[index], self.cosine[index], self.matching[index])


def train_stage(
    name: str,
    start: DeepSimilarity,
    batches: Callable[[int], Iterable[Batch]],
    held: Sequence[Batch],
    delta: float,
    options: Options,
    *,
    data: str,
    checkpoint: str | Path | None,
    progress: Progress,
) -> Trained[DeepSimilarity]:
    """Train a copy of `start` on what `batches` gives for each epoch from 1 on, with loss `deep_similarity`.

    `held`: batches that are never trained on; their mean losses, averaged, choose the epoch. `data`: a fingerprint of
    what is trained on. Raises `UsageError` when the loss is not finite any more, or `checkpoint` is of other training.
    """
    module = _network(start)
    task = Task(
        module,
        _optimiser(module, options),
        batches,
        lambda batch: _loss(module, start.symmetric, batch, delta),
        lambda: _validate(module, start.symmetric, held, delta),
        (lambda epoch: (1 + math.cos(math.pi * (epoch - 1) / options.epochs)) / 2) if options.decay else None,
    )
    facts = [name, start.fingerprint, delta, asdict(options), data]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    trained = train(
        task,
        Rules(options.epochs, options.patience),
        checkpoint=None if checkpoint is None else Checkpoint(Path(checkpoint), key),
        on_epoch=lambda epoch: progress(name, epoch.number, options.epochs),
    )
    if trained.stopped == "diverged":
        raise UsageError(f"{name} diverged in epoch {len(trained.epochs)}: give a rate below {options.rate:g}")
    return Trained(_similarity(module, start, name, options), trained.epochs, trained.best, trained.stopped)


def _network(start: DeepSimilarity) -> nn.Sequential:
    layers: list[nn.Module] = []
    for weight, bias in zip(start.weights, start.biases, strict=True):
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(weight))
            linear.bias.copy_(torch.tensor(bias))
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _optimiser(module: nn.Module, options: Options) -> torch.optim.Optimizer:
    if options.optimiser == "adam":
        return torch.optim.Adam(module.parameters(), options.rate)
    return torch.optim.SGD(module.parameters(), options.rate, momentum=0.9)


def _validate(module: nn.Sequential, symmetric: bool, held: Sequence[Batch], delta: float) -> float:
    means = []
    with torch.inference_mode():
        for batch in held:
            parts = [batch.select(slice(first, first + BLOCK)) for first in range(0, len(batch), BLOCK)]
            losses = [float(_loss(module, symmetric, part, delta)) * len(part) for part in parts]
            means.append(sum(losses) / len(batch))
    return sum(means) / len(means)


def _loss(module: nn.Sequential, symmetric: bool, batch: Batch, delta: float) -> Tensor:
    x, y = torch.from_numpy(batch.x), torch.from_numpy(batch.y)
    scores: Tensor = module(torch.hstack((x, y)))[:, 0]
    if symmetric:
        scores = (scores + module(torch.hstack((y, x)))[:, 0]) / 2
    return deep_similarity(scores, torch.from_numpy(batch.cosine), torch.from_numpy(batch.matching), delta)


def _similarity(module: nn.Sequential, start: DeepSimilarity, name: str, options: Options) -> DeepSimilarity:
    arrays = [tensor.numpy() for tensor in module.state_dict().values()]  # weight and bias of each layer in turn
    facts = {"method": name, "start": start.fingerprint, "options": json.dumps(asdict(options))}
    return replace(start, weights=tuple(arrays[::2]), biases=tuple(arrays[1::2]), provenance=facts)
