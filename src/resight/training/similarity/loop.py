"""The loop that fits a similarity network: epochs, validation, early stop, and a checkpoint after every epoch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from resight.errors import UsageError
from resight.matching.similarity import DeepSimilarity
from resight.progress import Progress
from resight.store.tensor_file import read_tensors, write_tensors
from resight.training.losses import deep_similarity
from resight.types import Bool, Float32

CHECKPOINT_FORMAT = "resight similarity training 1"
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


@dataclass(frozen=True)
class Epoch:
    """Mean losses of one epoch; number 0 is the start, before any training (NaN for `train`)."""

    number: int
    train: float
    validation: float


@dataclass(frozen=True, eq=False)
class Trained:
    """The network of the epoch with the lowest validation loss, and the losses of every epoch from 0 on."""

    similarity: DeepSimilarity
    history: tuple[Epoch, ...]

    @property
    def best(self) -> Epoch:
        """The epoch whose network was kept."""
        return min(self.history, key=lambda epoch: epoch.validation)


@dataclass(frozen=True, eq=False)
class Batch:
    """Descriptors `x` and `y` (n, D) of n pairs, their `cosine` (n,), and whether they are `matching` (n,)."""

    x: Float32
    y: Float32
    cosine: Float32
    matching: Bool


@dataclass
class _Run:
    module: nn.Sequential
    optimiser: torch.optim.Optimizer
    best: dict[str, Tensor]
    history: list[Epoch] = field(default_factory=list)

    def stopped(self, options: Options) -> bool:
        lowest = min(self.history, key=lambda epoch: epoch.validation).number
        done = self.history[-1].number
        return done >= options.epochs or (options.patience is not None and done - lowest >= options.patience)


def fit(
    name: str,
    start: DeepSimilarity,
    batches: Callable[[int], Iterable[Batch]],
    held: Sequence[Batch],
    delta: float,
    options: Options,
    *,
    data: str = "",
    checkpoint: str | Path | None = None,
    progress: Progress,
) -> Trained:
    """Train a copy of `start` on what `batches` gives for each epoch from 1 on, with loss `deep_similarity`.

    `held`: batches that are never trained on; their mean losses, averaged, choose the epoch. `data`: a fingerprint of
    what is trained on. Raises `UsageError` when the loss is not finite any more, or `checkpoint` is of other training.
    """
    run = _begin(start, options)
    key = _key(name, start, delta, options, data)
    if checkpoint is not None and Path(checkpoint).exists():
        _resume(run, checkpoint, key)
    else:
        run.history.append(Epoch(0, math.nan, _validate(run.module, start.symmetric, held, delta)))
    while not run.stopped(options):
        epoch = run.history[-1].number + 1
        train = _train(run, start.symmetric, batches(epoch), delta, options, epoch)
        lowest = min(one.validation for one in run.history)
        run.history.append(Epoch(epoch, train, _validate(run.module, start.symmetric, held, delta)))
        if not (math.isfinite(train) and math.isfinite(run.history[-1].validation)):
            raise UsageError(f"{name} diverged in epoch {epoch}: give a rate below {options.rate:g}")
        if run.history[-1].validation < lowest:
            run.best = _copy(run.module.state_dict())
        if checkpoint is not None:
            _save(run, checkpoint, key)
        progress(name, epoch, options.epochs)
    return Trained(_similarity(run.best, start, name, options), tuple(run.history))


def _begin(start: DeepSimilarity, options: Options) -> _Run:
    layers: list[nn.Module] = []
    for weight, bias in zip(start.weights, start.biases, strict=True):
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(weight))
            linear.bias.copy_(torch.tensor(bias))
        layers += [linear, nn.ReLU()]
    module = nn.Sequential(*layers[:-1])
    if options.optimiser == "adam":
        optimiser: torch.optim.Optimizer = torch.optim.Adam(module.parameters(), options.rate)
    else:
        optimiser = torch.optim.SGD(module.parameters(), options.rate, momentum=0.9)
    return _Run(module, optimiser, _copy(module.state_dict()))


def _train(run: _Run, symmetric: bool, batches: Iterable[Batch], delta: float, options: Options, epoch: int) -> float:
    rate = options.rate
    if options.decay:
        rate *= (1 + math.cos(math.pi * (epoch - 1) / options.epochs)) / 2
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    total, count = 0.0, 0
    for batch in batches:
        loss = _loss(run.module, symmetric, batch, delta)
        run.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        run.optimiser.step()
        total, count = total + float(loss.detach()) * len(batch.x), count + len(batch.x)
    return total / max(count, 1)


def _validate(module: nn.Sequential, symmetric: bool, held: Sequence[Batch], delta: float) -> float:
    means = []
    with torch.inference_mode():
        for batch in held:
            spans = [slice(first, first + BLOCK) for first in range(0, len(batch.x), BLOCK)]
            parts = [Batch(batch.x[s], batch.y[s], batch.cosine[s], batch.matching[s]) for s in spans]
            losses = [float(_loss(module, symmetric, part, delta)) * len(part.x) for part in parts]
            means.append(sum(losses) / len(batch.x))
    return sum(means) / len(means)


def _loss(module: nn.Sequential, symmetric: bool, batch: Batch, delta: float) -> Tensor:
    x, y = torch.from_numpy(batch.x), torch.from_numpy(batch.y)
    scores: Tensor = module(torch.hstack((x, y)))[:, 0]
    if symmetric:
        scores = (scores + module(torch.hstack((y, x)))[:, 0]) / 2
    return deep_similarity(scores, torch.from_numpy(batch.cosine), torch.from_numpy(batch.matching), delta)


def _similarity(layers: dict[str, Tensor], start: DeepSimilarity, name: str, options: Options) -> DeepSimilarity:
    arrays = [tensor.numpy() for tensor in layers.values()]  # weight and bias of each layer in turn
    facts = {"method": name, "start": start.fingerprint, "options": json.dumps(asdict(options))}
    return replace(start, weights=tuple(arrays[::2]), biases=tuple(arrays[1::2]), provenance=facts)


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _key(name: str, start: DeepSimilarity, delta: float, options: Options, data: str) -> str:
    facts = [name, start.fingerprint, delta, asdict(options), data]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _save(run: _Run, checkpoint: str | Path, key: str) -> None:
    tensors = {f"layers.{name}": tensor.numpy() for name, tensor in run.module.state_dict().items()}
    tensors |= {f"best.{name}": tensor.numpy() for name, tensor in run.best.items()}
    for i, state in run.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{i}.{name}": tensor.numpy() for name, tensor in state.items()}
    history = json.dumps([[epoch.number, epoch.train, epoch.validation] for epoch in run.history])
    write_tensors(checkpoint, CHECKPOINT_FORMAT, tensors, {"key": key, "history": history})


def _resume(run: _Run, checkpoint: str | Path, key: str) -> None:
    """Put `run` where the checkpoint left off."""

    def build(tensors: dict[str, Any], facts: dict[str, str]) -> None:
        if facts["key"] != key:
            return
        part = {
            kind: {
                name.removeprefix(f"{kind}."): torch.tensor(t) for name, t in tensors.items() if name.startswith(kind)
            }
            for kind in ("layers", "best", "optimiser")
        }
        run.module.load_state_dict(part["layers"])
        run.best = {name: part["best"][name] for name in run.best}  # in the order of the layers
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part["optimiser"].items():
            number, _, what = name.partition(".")
            state.setdefault(int(number), {})[what] = tensor
        run.optimiser.load_state_dict({**run.optimiser.state_dict(), "state": state})
        run.history = [Epoch(*numbers) for numbers in json.loads(facts["history"])]

    read_tensors(checkpoint, CHECKPOINT_FORMAT, build)
    if not run.history:
        raise UsageError(f"{checkpoint} belongs to a training with other data or options: remove it, or name another")
