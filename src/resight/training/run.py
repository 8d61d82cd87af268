"""What the trainings of descriptors share: where they run, their optimiser, their tuples, and what comes out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from resight.errors import UsageError
from resight.progress import Progress, silent
from resight.training.checkpoint import Checkpoint
from resight.training.data import Examples, drawn_pairs
from resight.training.loop import Epoch, Gradient, Rules, Task, Trained, train
from resight.training.mining import proven_negatives
from resight.training.networks import Precise, Start, set_precision
from resight.training.parallel import add_up, gathered, rank, size
from resight.training.recipes import Recipe, Settings
from resight.training.tuples.batches import Batch, Batches, Drawn
from resight.training.tuples.photos import Photos, describe, forward
from resight.training.validation import Judged
from resight.types import Float32, Int64

Network = TypeVar("Network", bound=Precise)
SHOWN = 12  # hardest negatives that a report shows


@dataclass(frozen=True)
class Place:
    """Where a training runs. `device` of torch; `precision` of the trunk, auto, float32 or bfloat16; `compiled` by
    `torch.compile`. `checkpoint`: a file to save to, every so many `minutes`, and to continue from."""

    device: str = "cpu"
    precision: str = "auto"
    compiled: bool = False
    checkpoint: Path | None = None
    minutes: float = 10.0


@dataclass(frozen=True, eq=False)
class Data:
    """Photos to `learn` from, and others to `judge` by."""

    learn: Examples
    judge: Examples

    @property
    def key(self) -> str:
        """Fingerprint of both."""
        return f"{self.learn.key} {self.judge.key}"


@dataclass(frozen=True)
class Hard:
    """A mined negative that was as similar to its query as `similarity`: names of the files, the positive's too."""

    query: str
    positive: str
    negative: str
    similarity: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """A `network` as it came out of a training, the story of that, how the photos held back were found `before` and
    `after`, and the `hardest` negatives of the last epoch, where some were mined."""

    network: Precise
    trained: Trained[nn.Module]
    before: Judged
    after: Judged
    hardest: tuple[Hard, ...]


@dataclass(frozen=True, eq=False)
class Bench:
    """A network at work: what trains it, on which data, and where."""

    network: Precise
    describer: nn.Module
    recipe: Recipe
    data: Data
    start: Start
    place: Place
    device: torch.device
    progress: Progress = silent

    @property
    def settings(self) -> Settings:
        """Of the recipe."""
        return self.recipe.settings

    @cached_property
    def learn(self) -> Photos:
        """The photos to learn from, as the network takes them."""
        return self._photos(self.data.learn)

    @cached_property
    def judge(self) -> Photos:
        """The photos to judge by."""
        return self._photos(self.data.judge)

    def _photos(self, examples: Examples) -> Photos:
        return Photos(examples.files, self.settings.side, self.start.mean, self.start.std)


def device_of(name: str) -> torch.device:
    """The device of that name. Raises `UsageError` when torch cannot use it."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def vectors_of(bench: Bench, photos: Photos, rows: Int64, step: str = "describing photos") -> Float32:
    """Descriptors (n, D) of the photos of `rows` (n,); each process describes its part."""
    mine = rows[rank() :: size()]
    asked = mine if len(mine) else rows[:1]

    def told(done: int) -> None:
        bench.progress(step, min(done * size(), len(rows)), len(rows))

    found = describe(bench.describer, photos, asked, bench.device, told)
    return gathered(found[: len(mine)], len(rows))


def optimiser_of(network: Precise, settings: Settings) -> torch.optim.Optimizer:
    """Adam or SGD: the trunk at its own rate, GeM's exponent at its own and without decay, as are the biases of
    learnable smoothing, which decay would pull home. Raises `UsageError` when nothing is left to train."""
    if settings.trunk_rate == 0:
        network.trunk.requires_grad_(False)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(_rate(name, settings), []).append(parameter)
    if not groups:
        raise UsageError("nothing is left to train: the trunk's rate is 0, and there is no block or layer beside it")
    made = [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in groups.items()]
    if settings.optimiser == "sgd":
        return torch.optim.SGD(made, lr=settings.rate, momentum=0.9)
    return torch.optim.Adam(made, lr=settings.rate)


def _rate(name: str, settings: Settings) -> tuple[float, float]:
    if name == "p":
        return settings.rate * settings.p_rate, 0.0
    if name.startswith("trunk.") and not name.startswith("trunk.attention."):
        return settings.rate * settings.trunk_rate, settings.decay
    return settings.rate, 0.0 if name.endswith("smoothing.bias") else settings.decay


def run(
    bench: Bench,
    batches: Callable[[int], Iterable[Batch]],
    loss: Gradient[Batch],
    judge: Callable[[], Judged],
    memory: dict[str, Tensor],
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Outcome:
    """Train `bench.network` on the one loop, judged by the mAP of what `judge` gives; the best state is kept.

    Raises `UsageError` as `train` does, and when the loss diverges before any epoch was better than none.
    """
    settings, network = bench.settings, bench.network
    torch.manual_seed(settings.seed)
    network.to(bench.device)
    bench.describer.to(bench.device)
    set_precision(network, bench.place.precision, bench.device, compiled=bench.place.compiled)
    network.eval()
    before = judge()
    told = bench.data.learn.names
    task: Task[nn.Module, Batch] = Task(
        network,
        optimiser_of(network, settings),
        batches,
        loss,
        lambda: judge().map,
        settings.rate_of,
        memory,
        lambda batch: _called(batch, told),
    )
    trained = train(
        task,
        Rules(settings.epochs, settings.patience, settings.every, "higher"),
        checkpoint=_checkpoint(bench),
        on_epoch=on_epoch,
    )
    return Outcome(network, trained, before, judge(), _hardest(bench.data.learn, memory))


def _checkpoint(bench: Bench) -> Checkpoint | None:
    if bench.place.checkpoint is None:
        return None
    facts = [bench.recipe.name, asdict(bench.settings), bench.data.key, bench.start.sha256, bench.place.precision]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return Checkpoint(bench.place.checkpoint, key, minutes=bench.place.minutes, writes=rank() == 0)


def _called(batch: Batch, names: Sequence[str]) -> str:
    rows = batch.drawn.rows.ravel()
    return f"with the photos {', '.join(names[row] for row in rows[:3])}, ..."


def mined_batches(bench: Bench, memory: dict[str, Tensor]) -> Callable[[int], Batches]:
    """Tuples of each epoch: random pairs, each with its hardest negatives, mined with the network as it then is.

    `memory` keeps the tuples of the epoch that is running, and which clusters turned out to be one.
    """
    learn, settings = bench.data.learn, bench.settings
    photos = bench.learn
    ahead = bench.recipe.loss != "solar"  # whose loss takes all tuples of a batch at once, and loads them twice

    def batches(epoch: int) -> Batches:
        if "epoch" not in memory or int(memory["epoch"]) != epoch:
            _mine(bench, photos, memory, epoch)
        rows, pairs, seeds = (memory[name].numpy() for name in ("rows", "pairs", "seeds"))
        regions = None if learn.regions is None else learn.regions[pairs]
        drawn = Drawn(rows, seeds, regions)
        share = rank(), size()
        return Batches(drawn, settings.batch, photos, settings.augmentation, ahead, share=share)

    return batches


def _mine(bench: Bench, photos: Photos, memory: dict[str, Tensor], epoch: int) -> None:
    learn, settings = bench.data.learn, bench.settings
    rng = np.random.default_rng((settings.seed, epoch))
    numbers = drawn_pairs(learn, settings.queries, rng)
    pairs = learn.pairs[numbers]
    every = rng.permutation(len(learn))
    pool = np.sort(every if settings.pool is None else every[: settings.pool])
    asked = np.union1d(pool, pairs[:, 0])
    vectors = vectors_of(bench, photos, asked, f"mining negatives of epoch {epoch}")
    queries, others = (vectors[np.searchsorted(asked, part)] for part in (pairs[:, 0], pool))
    clusters = memory["clusters"].numpy() if "clusters" in memory else learn.clusters
    count, proven = settings.negatives, learn.proven
    negatives, clusters = proven_negatives(queries, pairs[:, 0], others, pool, clusters, count, proven)
    nearest = others[np.searchsorted(pool, negatives[:, 0])]
    rows = np.concatenate((pairs, negatives), axis=1)
    memory.clear()
    arrays = {
        "epoch": np.array(epoch),
        "rows": rows,
        "pairs": numbers,
        "seeds": rng.integers(2**62, size=rows.shape),
        "clusters": clusters,
        "similarity": np.einsum("qd,qd->q", queries, nearest),
    }
    memory.update({name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()})


def tuple_gradient(bench: Bench, loss: Callable[[Tensor, Tensor], Tensor]) -> Gradient[Batch]:
    """Of the sum of `loss(descriptors, labels)` of the tuples of a batch, one after the other in memory; it gives the
    mean."""
    photos, network = bench.learn, bench.network

    def add(batch: Batch) -> float:
        labels, total = torch.from_numpy(batch.drawn.select(slice(1)).labels).to(bench.device), 0.0
        for images in batch.images:
            if images:
                total += propagated(loss(forward(network, photos, images, bench.device, network.pass_pixels), labels))
        return add_up(network, total) / len(batch)

    return Gradient(add)


def propagated(loss: Tensor) -> float:
    """Add the gradient of a loss, where it is finite, and give its value."""
    if bool(torch.isfinite(loss)) and loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _hardest(learn: Examples, memory: dict[str, Tensor]) -> tuple[Hard, ...]:
    if "similarity" not in memory:
        return ()
    rows, similarity = memory["rows"].numpy(), memory["similarity"].numpy()
    order = np.argsort(-similarity, kind="stable")[:SHOWN]
    files = learn.files
    names = [[files[row] for row in rows[place, :3]] for place in order]
    return tuple(
        Hard(query, positive, negative, float(similarity[place]))
        for (query, positive, negative), place in zip(names, order, strict=True)
    )
