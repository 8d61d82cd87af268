"""Learned similarities against loops that follow the formulas, and OASIS against reference numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from resight.matching.oasis import Oasis
from resight.matching.similarity import new_similarity
from resight.training.losses import deep_similarity

FOLDER = Path(__file__).parents[2] / "../shared/reference"


def unit(n, dim, seed):
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def forward(network, q, x):
    """One pair, one unit at a time."""
    values = [*q.tolist(), *x.tolist()]
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        sums = [sum(w * v for w, v in zip(row, values, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        values = sums if layer == len(network.weights) - 1 else [max(0.0, value) for value in sums]
    return values[0]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("hidden", [(7,), (9, 5), (6, 4, 3)])
def test_network(hidden, symmetric):
    network = new_similarity(4, hidden, seed=2, symmetric=symmetric)
    queries, vectors = unit(3, 4, 0), unit(5, 4, 1)
    slow = np.array([[forward(network, q, x) for x in vectors] for q in queries])
    if symmetric:
        slow = (slow + np.array([[forward(network, x, q) for x in vectors] for q in queries])) / 2
    np.testing.assert_allclose(network.score(queries, vectors), slow, atol=1e-5)
    np.testing.assert_allclose(network.pairs(queries, vectors[:3]), np.diag(slow), atol=1e-5)


def passive_aggressive(X, triplets, C):
    matrix, losses = np.eye(X.shape[1]), []
    for a, b, c in triplets:
        p, better, worse = (X[row].astype(np.float64) for row in (a, b, c))
        losses.append(max(0.0, 1 - p @ matrix @ better + p @ matrix @ worse))
        gradient = np.outer(p, better - worse)
        size = (gradient**2).sum()
        if size > 0:
            matrix = matrix + min(C, losses[-1] / size) * gradient
    return matrix, losses


@pytest.mark.parametrize("C", [1e-4, 0.1, 5.0])
def test_oasis(C):
    X, triplets = unit(20, 6, 3), np.random.default_rng(4).integers(20, size=(50, 3))
    matrix, losses = passive_aggressive(X, triplets, C)
    learnt, met = Oasis.identity(6).learn(X, triplets, C)
    np.testing.assert_allclose(learnt.matrix, matrix, atol=1e-10)
    np.testing.assert_allclose(met, losses, atol=1e-10)


@pytest.mark.skipif(not FOLDER.exists(), reason=f"no reference numbers at {FOLDER}")
def test_oasis_gives_the_reference_numbers():
    X = np.load(FOLDER / "data_small.npz", allow_pickle=False)["X"]
    with np.load(FOLDER / "misc.npz", allow_pickle=False) as reference:
        learnt, losses = Oasis.identity(64).learn(X, reference["oasis_triplets"], C=0.1)
        np.testing.assert_allclose(learnt.matrix, reference["oasis_W_C0.1"], atol=1e-6)
        np.testing.assert_allclose(losses, reference["oasis_losses"], atol=1e-6)


def test_loss_of_pairs():
    rng = np.random.default_rng(0)
    scores, cosine, matching = rng.standard_normal(30), rng.uniform(-1, 1, 30), rng.random(30) < 0.5
    slow = [
        abs(s - (c + 0.8)) if match else abs(s - (c - 0.8))
        for s, c, match in zip(scores, cosine, matching, strict=True)
    ]
    fast = deep_similarity(*map(torch.from_numpy, (scores, cosine, matching)), delta=0.8)
    assert fast.dtype == torch.float64
    assert float(fast) == pytest.approx(np.mean(slow), rel=1e-12)
