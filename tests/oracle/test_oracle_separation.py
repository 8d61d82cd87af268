"""Guided similarity separation against the formulas in plain loops and against the published program."""

from pathlib import Path

import numpy as np
import pytest
import torch

from resight.graph.knn_graph import build_knn_graph, neighbours
from resight.graph.propagation_matrix import listed_graph
from resight.graph.separation import SimilaritySeparation
from resight.training.separation import SeparationSettings, train_separation
from resight.training.separation import loss as separation_loss
from resight.training.separation.loss import loss_and_gradient

REFERENCE = Path(__file__).parents[2] / "../shared/reference"
torch.set_num_threads(1)


def plain_loss(e, beta, alpha):
    """Every pair one by one."""
    n = len(e)
    total, gradient = 0.0, np.zeros_like(e)
    for i in range(n):
        for j in range(n):
            s = float(e[i] @ e[j])
            total += -alpha / 2 * (max(s, 0) - beta) ** 2
            if s > 0:
                gradient[i] += -alpha * (s - beta) * e[j]
                gradient[j] += -alpha * (s - beta) * e[i]
    return total / n**2, gradient / n**2


def plain_embedding(x, lists, weights, biases, residual):
    """The network over full matrices; `lists` name the neighbours of every row."""
    n = len(x)
    adjacency = np.eye(n)
    for i, row in enumerate(lists):
        for j in row:
            if i != j:
                adjacency[i, j] = adjacency[j, i] = x[i] @ x[j]
    scale = np.diag(adjacency.sum(axis=1) ** -0.5)
    mixing = scale @ adjacency @ scale
    h, before = x, None
    for weight, bias in zip(weights, biases, strict=True):
        z = mixing @ h @ weight + bias
        elu = np.where(z > 0, z, np.expm1(z))
        h = elu if before is None else before + residual * elu
        before = z
    return h / np.linalg.norm(h, axis=1, keepdims=True)


@pytest.mark.parametrize("method", ["direct", "closed"])
@pytest.mark.parametrize("common", [0.0, 0.6, 3.0])
@pytest.mark.parametrize("beta", [-0.2, 0.3, 0.9])
def test_loss_and_gradient(monkeypatch, method, common, beta):
    monkeypatch.setattr(separation_loss, "BLOCK", 7)
    rng = np.random.default_rng(0)
    e = rng.normal(size=(40, 9)) + common
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    expected, gradient = plain_loss(e, beta, 1.3)
    loss, found = loss_and_gradient(torch.from_numpy(e), beta, 1.3, method=method)
    assert loss == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(found.numpy(), gradient, atol=1e-12)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_network(layers):
    rng = np.random.default_rng(layers)
    x = rng.normal(size=(30, 8)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    model = SimilaritySeparation(8, layers, residual=0.4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.from_numpy(rng.normal(size=tuple(parameter.shape)).astype(np.float32))
    graph = build_knn_graph(x, 3)
    weights, biases = ([p.detach().numpy().astype(float) for p in ps] for ps in (model.weights, model.biases))
    expected = plain_embedding(x.astype(float), graph.ids, weights, biases, 0.4)
    np.testing.assert_allclose(model.embed(x, graph), expected, atol=2e-6)


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference cases are not here")
@pytest.mark.parametrize(
    ("case", "layers", "query_neighbours", "rate"),
    [("small_k5_kq5_L2", 2, 5, 1e-3), ("small_k5_kq5_L1", 1, 5, 1e-4), ("small_sv_k5_kq10_L2", 2, 10, 1e-3)],
)
def test_published_program(case, layers, query_neighbours, rate):
    reference, data = np.load(REFERENCE / "gss_tf.npz"), np.load(REFERENCE / "data_small.npz")
    queries, vectors = data["Q"], data["X"]
    if "sv" in case:
        graph = listed_graph(reference["sv_x_list"], vectors, vectors, 5, same=True)
        near = listed_graph(reference["sv_q_list"], queries, vectors, query_neighbours)
    else:
        graph, near = build_knn_graph(vectors, 4), neighbours(queries, vectors, query_neighbours)

    def every(model):
        index = model.embed(vectors, graph)
        return np.vstack([model.extend(queries, near), index])

    def published(stage):
        model = SimilaritySeparation(64, layers)
        with torch.no_grad():
            for layer in range(layers):
                model.weights[layer].copy_(torch.from_numpy(reference[f"{case}_{stage}_GCN_{layer + 1}.w"]))
                model.biases[layer].copy_(torch.from_numpy(reference[f"{case}_{stage}_GCN_{layer + 1}.b"]))
        return every(model)

    np.testing.assert_allclose(published("init")[20:], reference[f"{case}_emb_init"], atol=1e-6)
    np.testing.assert_allclose(published("final"), reference[f"{case}_emb_all_final"], atol=1e-6)
    losses = reference[f"{case}_loss"]
    settings = SeparationSettings(layers=layers, epochs=len(losses), learning_rate=rate, seed=1)
    trained = train_separation(vectors, graph, settings)
    assert trained.beta.value == pytest.approx(float(reference[f"{case}_beta"]), abs=2e-5)
    np.testing.assert_allclose([epoch.loss for epoch in trained.epochs[1:]], losses, atol=1e-4)
    assert (every(trained.model) * reference[f"{case}_emb_all_final"]).sum(axis=1).min() > 0.99999
    first = train_separation(vectors, graph, SeparationSettings(layers, epochs=1, learning_rate=rate)).model
    # the first step of Adam is the sign of a gradient, which for tiny ones depends on the noise of the start
    assert (every(first) * reference[f"{case}_emb_all_ep1"]).sum(axis=1).min() > 0.99999
