"""The loop that trains a network: epochs, validation, learning rate, early stop, and checkpoints to continue from.

A training says what differs: its batches, their loss, how a state is judged (`Task`), and for how long (`Rules`).
Random choices of an epoch must follow from its number alone, with a generator made for it, or come from torch's own
generator, which checkpoints keep: then a training that was killed ends as one that was not, bit for bit on a CPU.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sized
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from resight.extras import needed
from resight.training.checkpoint import Checkpoint, copied, read_checkpoint, write_checkpoint

Module = TypeVar("Module", bound=nn.Module)
Model = TypeVar("Model")
Batch = TypeVar("Batch", bound=Sized)
Stopped = Literal["done", "patience", "diverged"]


@dataclass(frozen=True)
class Epoch:
    """One pass over the data: its `number`, the mean training `loss` of its batches, each before the step it leads to,
    the `validation` score of the state at its end, None where none was taken, and the time it took. Number 0 is the
    start, before any training, and has no loss."""

    number: int
    loss: float | None
    validation: float | None
    seconds: float = field(compare=False)


@dataclass(frozen=True, eq=False)
class Trained(Generic[Model]):
    """A trained `model`, its `epochs` from 0 on, the number of the `best` one, whose end the model is, and why training
    stopped: all epochs done, validation no longer better, or a loss that diverged."""

    model: Model
    epochs: tuple[Epoch, ...]
    best: int
    stopped: Stopped


@dataclass(frozen=True, eq=False)
class Task(Generic[Module, Batch]):
    """What is trained. `batches(n)`: those of epoch n, from 1 on. `loss(batch)`: a scalar, the mean over a batch; NaN
    says that the network is of no use any more. `validate()`: the score of the network as it is; without, the last
    state counts. `rate(n)`: what the learning rate of the optimiser is multiplied by in epoch n."""

    module: Module
    optimiser: torch.optim.Optimizer
    batches: Callable[[int], Iterable[Batch]]
    loss: Callable[[Batch], Tensor]
    validate: Callable[[], float] | None = None
    rate: Callable[[int], float] | None = None


@dataclass(frozen=True)
class Rules:
    """How long to train: `epochs` in all, or until validation, taken `every` so many epochs and after the last, has not
    been better for `patience` epochs. `better`: whether low or high scores are. `rise`: share by which a loss may
    exceed that of the first epoch; beyond, it diverges."""

    epochs: int
    patience: int | None = None
    every: int = 1
    better: Literal["lower", "higher"] = "lower"
    rise: float = math.inf

    def improves(self, score: float, epochs: Iterable[Epoch]) -> bool:
        """Whether `score` is better than that of all `epochs`."""
        sign = 1 if self.better == "higher" else -1
        return all(e.validation is None or sign * score > sign * e.validation for e in epochs)

    def over(self, number: int, best: int) -> Literal["done", "patience"] | None:
        """Why training ends after epoch `number`, `best` being the best; None if it goes on."""
        if number >= self.epochs:
            return "done"
        return "patience" if self.patience is not None and number - best >= self.patience else None


@dataclass(eq=False)
class _State:
    """How far a training has come, and the weights to return if it ended now, those of the end of epoch `best`."""

    epochs: list[Epoch]
    kept: dict[str, Tensor]
    best: int


def train(
    task: Task[Module, Batch],
    rules: Rules,
    *,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Trained[Module]:
    """Train `task.module` in place and leave it, in evaluation mode, as it was at the end of its best epoch.

    The best is the epoch with the best validation score, the earliest of equal ones; without validation the last one. A
    loss, score or weight that is not finite, or a loss that rises too far, ends training with the best state so far,
    without validation the last one whose loss was sound. A `checkpoint` that exists is continued from. `on_epoch` is
    called with every epoch, once it is stored. Raises `UsageError` when the checkpoint is of another training,
    `CollectionError` when it is damaged or cannot be written.
    """
    rates = [group["lr"] for group in task.optimiser.param_groups]
    state = _begin(task) if checkpoint is None or not checkpoint.path.exists() else _resume(task, checkpoint)
    stopped: Stopped | None
    while (stopped := rules.over(len(state.epochs) - 1, state.best)) is None:
        number = len(state.epochs)
        for group, rate in zip(task.optimiser.param_groups, rates, strict=True):
            group["lr"] = rate if task.rate is None else rate * task.rate(number)
        if not _one_epoch(task, rules, state):
            stopped = "diverged"
            break
        if checkpoint is not None and (number % checkpoint.every == 0 or number == rules.epochs):
            story = json.dumps([[asdict(epoch) for epoch in state.epochs], state.best], allow_nan=False)
            write_checkpoint(checkpoint, task.module, task.optimiser, state.kept, story)
        if on_epoch is not None:
            on_epoch(state.epochs[-1])
    if stopped == "done" and task.validate is None:
        state.kept, state.best = copied(task.module), len(state.epochs) - 1
    task.module.load_state_dict(state.kept)
    task.module.eval()
    return Trained(task.module, tuple(state.epochs), state.best, stopped)


def json_log(path: str | Path) -> Callable[[Epoch], None]:
    """An `on_epoch` that appends one JSON object per epoch to a file of lines."""

    def write(epoch: Epoch) -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(epoch)) + "\n")

    return write


def tensorboard_log(folder: str | Path) -> Callable[[Epoch], None]:
    """An `on_epoch` that writes loss, validation score and time to event files that TensorBoard shows.

    Raises `UsageError` when the package tensorboard is not installed.
    """
    with needed("writing event files"):
        from torch.utils.tensorboard import SummaryWriter
    writer = SummaryWriter(str(folder))

    def write(epoch: Epoch) -> None:
        for name in ("loss", "validation", "seconds"):
            value = getattr(epoch, name)
            if value is not None:
                writer.add_scalar(name, value, epoch.number)
        writer.flush()

    return write


def _begin(task: Task[Module, Batch]) -> _State:
    started = time.perf_counter()
    score = _score(task)
    return _State([Epoch(0, None, score, time.perf_counter() - started)], copied(task.module), 0)


def _resume(task: Task[Module, Batch], checkpoint: Checkpoint) -> _State:
    kept, (epochs, best) = read_checkpoint(checkpoint, task.module, task.optimiser)
    return _State([Epoch(**epoch) for epoch in epochs], kept, best)


def _one_epoch(task: Task[Module, Batch], rules: Rules, state: _State) -> bool:
    """Train, judge and record the next epoch; whether the network is sound."""
    started, number = time.perf_counter(), len(state.epochs)
    before = copied(task.module) if task.validate is None else {}
    loss = _pass(task, number)
    first = state.epochs[1].loss if number > 1 else loss
    if first is None or not math.isfinite(loss) or loss > first + rules.rise * abs(first):
        return False
    if task.validate is None:  # what the loss has judged
        state.kept, state.best = before, number - 1
    if not all(bool(torch.isfinite(weight).all()) for weight in task.module.parameters()):
        return False
    score = _score(task) if number % rules.every == 0 or number == rules.epochs else None
    if score is not None:
        if not math.isfinite(score):
            return False
        if rules.improves(score, state.epochs):
            state.kept, state.best = copied(task.module), number
    state.epochs.append(Epoch(number, loss, score, time.perf_counter() - started))
    return True


def _pass(task: Task[Module, Batch], number: int) -> float:
    """A step for every batch of an epoch; their mean loss, NaN as soon as one is not finite."""
    task.module.train()
    total, count = 0.0, 0
    for batch in task.batches(number):
        task.optimiser.zero_grad()
        loss = task.loss(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            return math.nan
        loss.backward()  # type: ignore[no-untyped-call]
        task.optimiser.step()
        total, count = total + value * len(batch), count + len(batch)
    return total / max(count, 1)


def _score(task: Task[Module, Batch]) -> float | None:
    task.module.eval()
    return None if task.validate is None else task.validate()
