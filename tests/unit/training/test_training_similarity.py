import dataclasses

import numpy as np
import pytest
import torch

from resight.errors import ArrayError, CollectionError, UsageError
from resight.matching.oasis import Oasis
from resight.matching.similarity import new_similarity
from resight.training.losses import deep_similarity
from resight.training.similarity import (
    Options,
    Pairs,
    hardest,
    learn_cosine,
    learn_deep_similarity,
    learn_hard,
    learn_oasis,
    learn_pairs,
    pairs_from_groups,
    random_pairs,
)

DIM = 8
SHORT = Options(epochs=3, rate=2e-3)


@pytest.fixture(scope="module")
def world():
    """Photos of 30 things: descriptors that share a nuisance direction, and their groups."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 4)
    X = rng.standard_normal((30, DIM))[groups] + 0.4 * rng.standard_normal((120, DIM))
    X[:, 0] = 2.5 * rng.standard_normal(120)
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32), groups


@pytest.fixture(scope="module")
def cosine():
    return learn_cosine(new_similarity(DIM, (64, 32)), pairs=3000, options=Options(epochs=6, rate=5e-3)).model


def separation(scores, pairs):
    """Share of (matching, other) couples of pairs that the scores put in the right order."""
    return (scores[pairs.matching][:, None] > scores[~pairs.matching]).mean()


def gap(scores, pairs):
    return scores[pairs.matching].mean() - scores[~pairs.matching].mean()


def test_random_pairs():
    x, y, cosine = random_pairs(4000, 5, 1)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose((x * y).sum(axis=1), cosine, atol=1e-5)
    assert np.abs(np.histogram(cosine, bins=8, range=(-1, 1))[0] / 500 - 1).max() < 0.2
    assert np.array_equal(random_pairs(3, 5, 1)[0], random_pairs(3, 5, 1)[0])
    assert not np.array_equal(random_pairs(3, 5, 1)[0], random_pairs(3, 5, 2)[0])
    with pytest.raises(UsageError, match="at least 2"):
        random_pairs(3, 1, 0)


def test_the_loss_of_pairs_by_hand():
    scores, cosine = torch.tensor([0.9, 0.1], requires_grad=True), torch.tensor([0.5, 0.4])
    loss = deep_similarity(scores, cosine, torch.tensor([True, False]), 0.2)
    assert loss.item() == pytest.approx((0.2 + 0.1) / 2)
    loss.backward()
    assert scores.grad.tolist() == [0.5, -0.5]
    with pytest.raises(ArrayError, match="expected"):
        deep_similarity(scores, cosine[:1], torch.tensor([True, False]))


def test_cosine_is_learned(cosine):
    x, y, true = random_pairs(1000, DIM, 77)
    assert np.abs(cosine.pairs(x, y) - true).mean() < 0.08
    assert np.abs(new_similarity(DIM, (64, 32)).pairs(x, y) - true).mean() > 0.2
    assert cosine.provenance["method"] == "DeepCosine"


def test_the_published_start_learns_too():
    start = new_similarity(DIM, (64, 32), paired=False)
    trained = learn_cosine(start, pairs=2000, options=Options(epochs=8, rate=5e-3))
    assert trained.epochs[trained.best].validation < 0.5 * trained.epochs[0].validation


def test_gradient_descent_as_published_learns_too():
    options = Options(epochs=4, rate=1e-3, optimiser="sgd", decay=False)
    trained = learn_cosine(new_similarity(DIM, (64, 32)), pairs=2000, options=options)
    assert trained.epochs[trained.best].validation < 0.5 * trained.epochs[0].validation


def test_a_symmetric_network_is_trained_as_one():
    start = new_similarity(DIM, (32, 16), symmetric=True)
    trained = learn_cosine(start, pairs=2000, options=SHORT)
    x, y, true = random_pairs(1000, DIM, 77)
    assert trained.model.symmetric
    assert np.abs(trained.model.pairs(x, y) - true).mean() == pytest.approx(
        trained.epochs[trained.best].validation, abs=0.03
    )


def test_pairs_move_apart_and_hard_ones_further(world, cosine):
    X, groups = world
    pairs = pairs_from_groups(groups, others=10, seed=1)
    unseen = groups >= 20  # the pairs of groups 0 to 19 train
    train = pairs.select(~unseen[pairs.left] & ~unseen[pairs.right])
    judged = pairs.select(unseen[pairs.left] & unseen[pairs.right])
    options = Options(epochs=12, rate=2e-3, patience=4)
    second = learn_pairs(cosine, X, train, options=options)
    third = learn_hard(second.model, X, train, options=options)
    before, after = (s.pairs(X[judged.left], X[judged.right]) for s in (cosine, second.model))
    assert separation(after, judged) > separation(before, judged) + 0.02
    assert gap(before, judged) < gap(after, judged)
    difficult = hardest(second.model, X, train, 0.5)
    second_gap, third_gap = (
        gap(s.model.pairs(X[difficult.left], X[difficult.right]), difficult) for s in (second, third)
    )
    assert third_gap > second_gap + 0.2
    assert [s.model.provenance["method"] for s in (second, third)] == ["DeepSim", "DeepSimH"]


def test_the_best_epoch_is_kept_and_patience_ends_training(world, cosine):
    X, groups = world
    pairs = pairs_from_groups(groups[:24], others=4)
    trained = learn_pairs(cosine, X[:24], pairs, options=Options(epochs=200, rate=3e-3, patience=3, decay=False))
    numbers = [epoch.validation for epoch in trained.epochs]
    assert len(numbers) < 200
    assert trained.best == len(numbers) - 1 - 3
    assert trained.epochs[trained.best].validation == min(numbers)


def test_hardest_pairs():
    X = np.eye(4, dtype=np.float32)
    oasis = Oasis([[0, 1, 2, 3], [0, 0, 5, 4], [0, 0, 0, 0], [0, 0, 0, 0]])
    pairs = Pairs([0, 0, 0, 1, 1], [1, 2, 3, 2, 3], [True, True, True, False, False])
    kept = hardest(oasis, X, pairs, 0.5)
    assert list(zip(kept.left, kept.right, strict=True)) == [(0, 1), (0, 2), (1, 2)]
    assert len(hardest(oasis, X, pairs, 1.0)) == 5
    with pytest.raises(UsageError, match="keep=0"):
        hardest(oasis, X, pairs, 0)


def test_seeds_decide(world):
    X, groups = world
    start = new_similarity(DIM, (16, 8))
    pairs = pairs_from_groups(groups, others=4)
    runs = [learn_pairs(start, X, pairs, options=dataclasses.replace(SHORT, seed=seed)) for seed in (1, 1, 2)]
    assert runs[0].model.fingerprint == runs[1].model.fingerprint != runs[2].model.fingerprint
    assert runs[0].epochs[1:] == runs[1].epochs[1:]


class Stop(Exception):
    pass


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_a_stopped_training_continues_as_if_nothing_had_been(tmp_path, world, optimiser):
    X, groups = world
    start, pairs = new_similarity(DIM, (16, 8)), pairs_from_groups(groups, others=4)
    options, file = Options(epochs=4, rate=1e-3, optimiser=optimiser), tmp_path / "checkpoint.safetensors"

    def stop(step, done, total):
        assert (step, total) == ("DeepSim", 4)
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        learn_pairs(start, X, pairs, options=options, checkpoint=file, progress=stop)
    told = []
    again = learn_pairs(start, X, pairs, options=options, checkpoint=file, progress=lambda *step: told.append(step[1]))
    assert told == [3, 4]
    whole = learn_pairs(start, X, pairs, options=options)
    assert again.model.fingerprint == whole.model.fingerprint
    assert again.epochs[1:] == whole.epochs[1:]
    learn_pairs(start, X, pairs, options=options, checkpoint=file, progress=lambda *step: told.append(step[1]))
    assert told == [3, 4]


def test_a_checkpoint_of_other_training_is_refused(tmp_path, world):
    X, groups = world
    start, pairs, file = new_similarity(DIM, (16, 8)), pairs_from_groups(groups, others=4), tmp_path / "c.safetensors"
    learn_pairs(start, X, pairs, options=SHORT, checkpoint=file)
    for changed in (
        {"X": X + np.float32(1e-3)},
        {"pairs": pairs_from_groups(groups, others=4, seed=2)},
        {"delta": 0.3},
        {"options": Options(epochs=4)},
        {"start": new_similarity(DIM, (16, 8), seed=1)},
    ):
        arguments = {"start": start, "X": X, "pairs": pairs, "options": SHORT, **changed}
        with pytest.raises(UsageError, match="other data or settings"):
            learn_pairs(**arguments, checkpoint=file)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CollectionError, match="damaged"):
        learn_pairs(start, X, pairs, options=SHORT, checkpoint=file)


def test_three_stages_in_one_call(tmp_path, world):
    X, groups = world
    pairs, told = pairs_from_groups(groups, others=4), []
    short = Options(epochs=2, rate=1e-3)
    arguments = {"cosine_pairs": 300, "cosine": short, "options": short, "checkpoints": tmp_path}
    stages = learn_deep_similarity(
        new_similarity(DIM, (16, 8)), X, pairs, **arguments, progress=lambda *step: told.append(step[0])
    )
    assert told == ["DeepCosine"] * 2 + ["DeepSim"] * 2 + ["DeepSimH"] * 2
    assert stages.hard.model.provenance["start"] == stages.pairs.model.fingerprint
    again = learn_deep_similarity(new_similarity(DIM, (16, 8)), X, pairs, **arguments)
    assert again.hard.model.fingerprint == stages.hard.model.fingerprint


def test_what_cannot_be_trained_is_refused_at_once(world):
    X, groups = world
    start, pairs = new_similarity(DIM, (16, 8)), pairs_from_groups(groups, others=4)
    for learn in (learn_pairs, learn_hard, learn_deep_similarity):
        with pytest.raises(UsageError, match="cannot train a similarity"):
            learn(start, X, pairs.select(~pairs.matching))
        with pytest.raises(ArrayError, match="descriptors for rows 0 to 99"):
            learn(start, X[:100], pairs)
        with pytest.raises(ArrayError, match=r"X has shape \(120, 7\)"):
            learn(start, X[:, 1:], pairs)
    with pytest.raises(UsageError, match="cannot train a similarity"):
        learn_oasis(Oasis.identity(DIM), X, pairs.select(~pairs.matching))
    with pytest.raises(UsageError, match="pairs=0"):
        learn_cosine(start, pairs=0)
    for bad in ({"epochs": 0}, {"epochs": 1, "rate": 0.0}, {"epochs": 1, "patience": 0}, {"epochs": 1, "batch": 0}):
        with pytest.raises(UsageError, match="must all be positive"):
            Options(**bad)
    with pytest.raises(UsageError, match="neither adam nor sgd"):
        Options(1, optimiser="lbfgs")


def test_diverging_training_says_so(world):
    X, groups = world
    options = Options(epochs=20, rate=1e18, optimiser="sgd")
    with pytest.raises(UsageError, match=r"DeepSim diverged in epoch .* give a rate below 1e"):
        learn_pairs(new_similarity(DIM, (16, 8)), X, pairs_from_groups(groups, others=4), options=options)


def test_oasis_learns_to_leave_out_the_nuisance(world):
    X, groups = world
    pairs = pairs_from_groups(groups, others=10, seed=1)
    trained = learn_oasis(Oasis.identity(DIM), X, pairs, C=0.05, epochs=6)
    matrix = trained.model.matrix
    assert matrix[0, 0] < 0.5 * np.diag(matrix)[1:].min()
    assert min(epoch.validation for epoch in trained.epochs) < 0.8 * trained.epochs[0].validation
    assert trained.model.provenance["method"] == "OASIS"
    whole = learn_oasis(Oasis.identity(DIM), X, pairs, C=0.05, epochs=2, semidefinite=True).model.matrix
    np.testing.assert_allclose(whole, whole.T, atol=1e-12)
    assert np.linalg.eigvalsh(whole).min() > -1e-9


def test_oasis_keeps_the_start_where_learning_does_not_help():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, DIM)).astype(np.float32)
    pairs = pairs_from_groups(rng.permutation(np.repeat(np.arange(20), 4)), others=6)
    trained = learn_oasis(Oasis.identity(DIM), X, pairs, C=10.0, epochs=30, patience=2)
    lowest = min(trained.epochs, key=lambda epoch: epoch.validation)
    assert (trained.best, trained.stopped) == (lowest.number, "patience")
    assert len(trained.epochs) == lowest.number + 3
