"""The loop that trains a network: epochs, validation, learning rate, early stop, and checkpoints to continue from.

A training says what differs: its batches, their loss, how a state is judged (`Task`), and for how long (`Rules`).
Random choices of an epoch must follow from its number alone, with a generator made for it, or come from torch's own
generator, which checkpoints keep: then a training that was killed ends as one that was not, bit for bit on a CPU.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import asdict, dataclass, field
from itertools import islice
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
    stopped: all epochs done, validation no longer better, or a loss that diverged, `fault` saying where."""

    model: Model
    epochs: tuple[Epoch, ...]
    best: int
    stopped: Stopped
    fault: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class Gradient(Generic[Batch]):
    """A loss that is propagated by itself: `add(batch)` adds its gradient to that of the parameters, and gives it."""

    add: Callable[[Batch], float]


@dataclass(frozen=True, eq=False)
class Task(Generic[Module, Batch]):
    """What is trained. `batches(n)`: those of epoch n, from 1 on; of a sequence, a training that goes on makes only the
    ones that are left. `loss(batch)`: a scalar, the mean over a batch; NaN says that the network is of no use any more.
    A `Gradient` instead adds the gradient to the parameters by itself, in as many parts as memory needs, and gives the
    value. `validate()`: the score of the network as it is; without, the last state counts. `rate(n)`: what the learning
    rate of the optimiser is multiplied by in epoch n. `memory`: what batches must not make anew after a kill, such as
    negatives that were mined with earlier weights; checkpoints keep it. `name(batch)`: how to call it in a message."""

    module: Module
    optimiser: torch.optim.Optimizer
    batches: Callable[[int], Iterable[Batch]]
    loss: Callable[[Batch], Tensor] | Gradient[Batch]
    validate: Callable[[], float] | None = None
    rate: Callable[[int], float] | None = None
    memory: dict[str, Tensor] = field(default_factory=dict)
    name: Callable[[Batch], str] | None = None


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
    """How far a training has come, and the weights to return if it ended now, those of the end of epoch `best`. Of the
    epoch that is running: how many batches are done, their summed loss and size, and, where nothing else judges them,
    the weights of `before`."""

    epochs: list[Epoch]
    kept: dict[str, Tensor]
    best: int
    done: int = 0
    total: float = 0.0
    count: int = 0
    before: dict[str, Tensor] = field(default_factory=dict)
    saved: float = field(default_factory=time.monotonic)
    fault: str = ""


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
        if not _one_epoch(task, rules, state, checkpoint):
            stopped = "diverged"
            break
        if checkpoint is not None and (number % checkpoint.every == 0 or number == rules.epochs):
            _save(task, state, checkpoint)
        if on_epoch is not None:
            on_epoch(state.epochs[-1])
    if stopped == "done" and task.validate is None:
        state.kept, state.best = copied(task.module), len(state.epochs) - 1
    task.module.load_state_dict(state.kept)
    task.module.eval()
    return Trained(task.module, tuple(state.epochs), state.best, stopped, fault=state.fault)


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
    parts, (epochs, best, done, total, count) = read_checkpoint(checkpoint, task.module, task.optimiser)
    task.memory.clear()
    task.memory.update(parts.get("memory", {}))
    before = {name: parts["before"][name] for name in task.module.state_dict()} if "before" in parts else {}
    return _State([Epoch(**epoch) for epoch in epochs], parts["kept"], best, done, total, count, before)


def _save(task: Task[Module, Batch], state: _State, checkpoint: Checkpoint) -> None:
    told = [[asdict(epoch) for epoch in state.epochs], state.best, state.done, state.total, state.count]
    parts = {"kept": state.kept, "before": state.before if state.done else {}, "memory": task.memory}
    write_checkpoint(checkpoint, task.module, task.optimiser, parts, json.dumps(told, allow_nan=False))
    state.saved = time.monotonic()


def _one_epoch(task: Task[Module, Batch], rules: Rules, state: _State, checkpoint: Checkpoint | None) -> bool:
    """Train, judge and record the next epoch; whether the network is sound."""
    started, number = time.perf_counter(), len(state.epochs)
    if task.validate is None and not state.done:
        state.before = copied(task.module)
    loss = _pass(task, number, state, checkpoint)
    first = state.epochs[1].loss if number > 1 else loss
    if first is None or not math.isfinite(loss) or loss > first + rules.rise * abs(first):
        state.fault = state.fault or f"the loss of epoch {number} is {loss:g}"
        return False
    if task.validate is None:  # what the loss has judged
        state.kept, state.best = state.before, number - 1
    if not all(bool(torch.isfinite(weight).all()) for weight in task.module.parameters()):
        state.fault = f"weights are NaN or infinite after epoch {number}"
        return False
    score = _score(task) if number % rules.every == 0 or number == rules.epochs else None
    if score is not None:
        if not math.isfinite(score):
            state.fault = f"the validation score of epoch {number} is {score}"
            return False
        if rules.improves(score, state.epochs):
            state.kept, state.best = copied(task.module), number
    state.epochs.append(Epoch(number, loss, score, time.perf_counter() - started))
    state.done, state.total, state.count = 0, 0.0, 0
    return True


def _pass(task: Task[Module, Batch], number: int, state: _State, checkpoint: Checkpoint | None) -> float:
    """A step for every batch of an epoch that is not done yet; their mean loss, NaN as soon as one is not finite."""
    task.module.train()
    batches = task.batches(number)
    for batch in batches[state.done :] if isinstance(batches, Sequence) else islice(batches, state.done, None):
        task.optimiser.zero_grad()
        value = _propagate(task.loss, batch)
        if not math.isfinite(value) or not _finite_gradient(task.module):
            named = "" if task.name is None else f", {task.name(batch)}"
            what = f"loss is {value:g}" if not math.isfinite(value) else "gradient is NaN or infinite"
            state.fault = f"in batch {state.done + 1} of epoch {number}{named}, the {what}"
            return math.nan
        task.optimiser.step()
        state.done, state.total, state.count = (
            state.done + 1,
            state.total + value * len(batch),
            state.count + len(batch),
        )
        minutes = None if checkpoint is None else checkpoint.minutes
        if checkpoint is not None and minutes is not None and time.monotonic() - state.saved >= 60 * minutes:
            _save(task, state, checkpoint)
    return state.total / max(state.count, 1)


def _propagate(loss: Callable[[Batch], Tensor] | Gradient[Batch], batch: Batch) -> float:
    if isinstance(loss, Gradient):
        return loss.add(batch)
    found = loss(batch)
    if bool(torch.isfinite(found)):
        found.backward()  # type: ignore[no-untyped-call]
    return float(found.detach())


def _finite_gradient(module: nn.Module) -> bool:
    found = [weight.grad for weight in module.parameters() if weight.grad is not None]
    return not found or bool(torch.isfinite(torch.stack([grad.abs().max() for grad in found if grad.numel()])).all())


def _score(task: Task[Module, Batch]) -> float | None:
    task.module.eval()
    return None if task.validate is None else task.validate()
