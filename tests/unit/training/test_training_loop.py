"""The loop alone, on a small regression."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from resight.errors import CollectionError, UsageError
from resight.training.checkpoint import Checkpoint
from resight.training.loop import Epoch, Gradient, Rules, Task, json_log, train

X = torch.from_numpy(np.random.default_rng(0).normal(size=(48, 6)).astype(np.float32))
Y = X.sum(dim=1, keepdim=True).tanh()


def network(*, dropout=0.5):
    generator = torch.Generator().manual_seed(3)
    module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(dropout), nn.ReLU(), nn.Linear(8, 1))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module


def batches(epoch):
    order = np.random.default_rng((7, epoch)).permutation(len(X))
    return [order[first : first + 20] for first in range(0, len(X), 20)]


def regression(module, optimiser=None, *, judged=True, rate=None):
    def loss(rows):
        return (module(X[rows]) - Y[rows]).square().mean()

    def validate():
        assert not module.training
        with torch.no_grad():
            return float((module(X) - Y).square().mean())

    optimiser = torch.optim.Adam(module.parameters(), 0.02) if optimiser is None else optimiser
    return Task(module, optimiser, batches, loss, validate if judged else None, rate)


def scripted(scores):
    """A task whose validation scores are `scores`, and whose weight at the end of epoch n is -n."""
    module, left = nn.Linear(1, 1, bias=False), iter(scores)
    nn.init.zeros_(module.weight)
    optimiser = torch.optim.SGD(module.parameters(), 1.0)
    return Task(module, optimiser, lambda _: [[0]], lambda _: module.weight.sum(), lambda: next(left))


def test_epochs_are_told_and_the_best_is_kept():
    told = []
    torch.manual_seed(0)
    trained = train(regression(network(dropout=0.1)), Rules(40), on_epoch=told.append)
    assert [epoch.number for epoch in trained.epochs] == list(range(41))
    assert told == list(trained.epochs[1:])
    assert trained.epochs[0].loss is None
    assert trained.stopped == "done"
    best = trained.epochs[trained.best]
    assert best.validation == min(epoch.validation for epoch in trained.epochs) < 0.5 * trained.epochs[0].validation
    with torch.no_grad():
        assert float((trained.model(X) - Y).square().mean()) == best.validation
    assert not trained.model.training


@pytest.mark.parametrize(
    ("better", "scores", "best", "number"),
    [("lower", [5, 4, 4, 4.5, 3], 1, 3), ("higher", [5, 6, 5, 6, 7], 1, 3), ("lower", [1, 2, 3, 0], 0, 2)],
)
def test_patience_ends_training_and_the_first_of_equal_scores_counts(better, scores, best, number):
    trained = train(scripted(scores), Rules(50, patience=2, better=better))
    assert (trained.stopped, trained.best, trained.epochs[-1].number) == ("patience", best, number)
    assert trained.model.weight.item() == -best


def test_validation_is_taken_every_so_many_epochs_and_after_the_last():
    trained = train(scripted([9, 8, 7, 6]), Rules(7, every=3))
    assert [e.number for e in trained.epochs if e.validation is not None] == [0, 3, 6, 7]
    assert trained.best == 7


def test_without_validation_the_last_state_counts():
    module = network()
    trained = train(regression(module, judged=False), Rules(3))
    assert (trained.best, trained.stopped) == (3, "done")
    assert all(epoch.validation is None for epoch in trained.epochs)
    judged = train(regression(network(), judged=False), Rules(0))
    assert judged.best == 0
    for one, two in zip(judged.model.parameters(), network().parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_learning_rate_follows_its_schedule_in_every_group():
    module, seen = network(), []
    groups = [{"params": module[0].parameters()}, {"params": module[4].parameters(), "lr": 0.1}]
    optimiser = torch.optim.SGD(groups, 0.01)
    task = regression(module, optimiser, rate=lambda epoch: 1 / epoch)
    train(task, Rules(3), on_epoch=lambda _: seen.append([group["lr"] for group in optimiser.param_groups]))
    assert seen == [[0.01, 0.1], [0.01 * (1 / 2), 0.1 * (1 / 2)], [0.01 * (1 / 3), 0.1 * (1 / 3)]]


class Killed(Exception):
    pass


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize("kind", ["adam", "sgd"])
@pytest.mark.parametrize("killed", [1, 4, 5])
def test_a_killed_training_ends_as_one_that_was_not(tmp_path, judged, kind, killed):
    def task():
        module = network()
        one = torch.optim.Adam(module.parameters(), 0.02)
        other = torch.optim.SGD(module.parameters(), 0.02, momentum=0.9)
        return regression(module, one if kind == "adam" else other, judged=judged, rate=lambda epoch: 0.9**epoch)

    def kill(epoch):
        if epoch.number == killed:
            raise Killed

    checkpoint = Checkpoint(tmp_path / "training.safetensors", "key", every=2)
    torch.manual_seed(5)
    whole = train(task(), Rules(6))
    torch.manual_seed(5)
    with pytest.raises(Killed):
        train(task(), Rules(6), checkpoint=checkpoint, on_epoch=kill)
    # by then another process, whose generator is elsewhere, unless nothing was stored
    torch.manual_seed(99 if killed > 1 else 5)
    told = []
    again = train(task(), Rules(6), checkpoint=checkpoint, on_epoch=lambda epoch: told.append(epoch.number))
    assert told[0] == killed // 2 * 2 + 1
    assert again.epochs == whole.epochs
    assert (again.best, again.stopped) == (whole.best, whole.stopped)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name


def test_a_finished_training_is_not_repeated(tmp_path):
    checkpoint = Checkpoint(tmp_path / "training.safetensors", "key")
    first = train(regression(network()), Rules(2), checkpoint=checkpoint)
    told = []
    again = train(regression(network()), Rules(2), checkpoint=checkpoint, on_epoch=told.append)
    assert not told
    assert again.epochs == first.epochs
    assert torch.equal(again.model[0].weight, first.model[0].weight)


def test_checkpoints_of_another_training_or_damaged_are_refused(tmp_path):
    path = tmp_path / "training.safetensors"
    train(regression(network()), Rules(1), checkpoint=Checkpoint(path, "key"))
    assert Checkpoint(path, "key").fits()
    assert not Checkpoint(path, "other").fits()
    assert not Checkpoint(tmp_path / "none", "key").fits()
    with pytest.raises(UsageError, match="other data or settings"):
        train(regression(network()), Rules(1), checkpoint=Checkpoint(path, "other"))
    smaller = nn.Sequential(nn.Linear(6, 2), nn.BatchNorm1d(2), nn.Dropout(), nn.ReLU(), nn.Linear(2, 1))
    with pytest.raises(CollectionError, match="damaged"):
        train(regression(smaller), Rules(1), checkpoint=Checkpoint(path, "key"))
    path.write_bytes(path.read_bytes()[:-9])
    assert not Checkpoint(path, "key").fits()
    with pytest.raises(CollectionError, match="damaged"):
        train(regression(network()), Rules(1), checkpoint=Checkpoint(path, "key"))


def failing(number, value):
    """A task without validation whose loss is `value` from epoch `number` on, and 1 before."""
    module, now = nn.Linear(1, 1, bias=False), [0]
    nn.init.zeros_(module.weight)

    def given(epoch):
        now[0] = epoch
        return [[0]]

    def loss(_):
        return module.weight.sum() * 1.0 - module.weight.sum().detach() + (value if now[0] >= number else 1.0)

    return Task(module, torch.optim.SGD(module.parameters(), 1.0), given, loss)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1.2])
def test_a_loss_that_diverges_ends_training_with_the_last_sound_state(value):
    trained = train(failing(4, value), Rules(9, rise=0.1))
    assert (trained.stopped, trained.best, len(trained.epochs)) == ("diverged", 2, 4)
    assert trained.model.weight.item() == -2
    assert train(failing(4, 1.05), Rules(9, rise=0.1)).stopped == "done"


def test_weights_or_scores_that_are_no_numbers_end_training():
    task = scripted([3, 2, math.nan, 1])
    trained = train(task, Rules(9))
    assert (trained.stopped, trained.best, trained.model.weight.item()) == ("diverged", 1, -1)
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    huge = torch.optim.SGD(module.parameters(), 1e30)
    trained = train(Task(module, huge, lambda _: [[0]], lambda _: 1e20 * module.weight.sum()), Rules(9))
    assert (trained.stopped, trained.best, trained.model.weight.item()) == ("diverged", 0, 0)


def test_losses_of_batches_weigh_by_their_size():
    module = nn.Linear(1, 1)
    optimiser = torch.optim.SGD(module.parameters(), 0.0)

    def loss(batch):
        return module.weight.sum() * 0 + float(np.mean(batch))

    trained = train(Task(module, optimiser, lambda _: [[1, 2, 3], [6]], loss), Rules(1))
    assert trained.epochs[1].loss == pytest.approx(3)


def test_a_log_is_one_line_of_json_an_epoch(tmp_path):
    write = json_log(tmp_path / "log.jsonl")
    write(Epoch(1, 0.5, None, 0.1))
    write(Epoch(2, 0.25, 0.75, 0.1))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[0] == {"number": 1, "loss": 0.5, "validation": None, "seconds": 0.1}
    assert lines[1]["validation"] == 0.75


class Kill(Exception):
    pass


class Made(list):
    """Batches that tell which of them were made."""

    def __init__(self, batches, told):
        super().__init__(batches)
        self.told = told

    def __getitem__(self, part):
        return Made(super().__getitem__(part), self.told)

    def __iter__(self):
        for batch in super().__iter__():
            self.told.append(tuple(batch))
            yield batch


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize("last", [2, 4, 5])
def test_a_training_killed_within_an_epoch_goes_on_with_the_next_batch(tmp_path, judged, last):
    told, memory = [], {}

    def task(stop=None):
        made = regression(network(), judged=judged)

        def mined(epoch):
            if int(made.memory.get("epoch", torch.tensor(0))) != epoch:
                made.memory["epoch"], made.memory["drawn"] = torch.tensor(epoch), torch.rand(1)
            memory[epoch] = float(made.memory["drawn"])
            return Made(batches(epoch), told)

        def loss(rows):
            if stop is not None and len(told) > stop:
                raise Kill
            return made.loss(rows) * float(made.memory["drawn"])

        return Task(made.module, made.optimiser, mined, loss, made.validate, made.rate, made.memory)

    torch.manual_seed(5)
    whole = train(task(), Rules(3))
    expected, drawn = list(told), dict(memory)
    told.clear()
    checkpoint = Checkpoint(tmp_path / "c.safetensors", "k", minutes=0)
    torch.manual_seed(5)
    with pytest.raises(Kill):
        train(task(stop=last), Rules(3), checkpoint=checkpoint)
    told.pop()
    memory.clear()
    torch.manual_seed(99)
    again = train(task(), Rules(3), checkpoint=checkpoint)
    assert told == expected
    assert memory.items() <= drawn.items()
    assert again.epochs == whole.epochs
    assert again.best == whole.best
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name


def test_a_gradient_of_parts_is_that_of_the_whole():
    def parts(module):
        def add(rows):
            total = 0.0
            for row in rows:
                loss = (module(X[row : row + 1]) - Y[row : row + 1]).square().sum() / len(rows)
                loss.backward()
                total += float(loss.detach())
            return total

        return Gradient(add)

    found = []
    for in_parts in (False, True):
        module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(0.1 * torch.arange(parameter.numel()).reshape(parameter.shape).cos())
        made = regression(module)
        loss = parts(module) if in_parts else made.loss
        found.append(train(Task(module, made.optimiser, batches, loss, made.validate), Rules(3)))
    for one, other in zip(found[0].epochs, found[1].epochs, strict=True):
        assert one.validation == pytest.approx(other.validation, rel=1e-4)


@pytest.mark.parametrize(("spoilt", "said"), [("loss", "the loss is nan"), ("gradient", "the gradient is NaN")])
def test_a_batch_that_gives_nan_is_named_and_the_best_state_kept(spoilt, said):
    module = network(dropout=0.0)
    made = regression(module)

    def loss(rows):
        value = made.loss(rows)
        if 13 in rows and len(told) == 2:
            return value * math.nan if spoilt == "loss" else value + (X[13].sum() * 0 + module[0].bias * 0).sqrt().sum()
        return value

    told = []
    task = Task(module, made.optimiser, batches, loss, made.validate, name=lambda rows: f"rows {sorted(rows)[:1]}")
    trained = train(task, Rules(9), on_epoch=told.append)
    assert trained.stopped == "diverged"
    place = next(place for place, rows in enumerate(batches(3), 1) if 13 in rows)
    assert trained.fault.startswith(f"in batch {place} of epoch 3, rows [")
    assert said in trained.fault
    assert made.validate() == min(epoch.validation for epoch in trained.epochs)
