"""The context blocks against plain loops over their formulas, and smoothing against the numbers of HOW's program."""

from pathlib import Path

import numpy as np
import pytest
import torch

from resight.features.local.context import Context, ContextSettings
from resight.features.local.reweighting import AttentionReweighting, GraphReweighting, cell_graph
from resight.features.local.smoothing import gaussian_smooth

REFERENCE = Path(__file__).parents[2] / "../shared/reference/cirtorch_how_dir_fire.npz"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason=f"no reference numbers at {REFERENCE}")
torch.set_num_threads(1)


def random_maps(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def draw(module, seed=1):
    """The module in double precision with random parameters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module.double()


def adjacency(unit, k, power):
    """D^-1/2 A D^-1/2 (M, M) of unit rows, cell by cell."""
    count = len(unit)
    chosen = np.zeros((count, count), bool)
    for i in range(count):
        others = sorted((j for j in range(count) if j != i), key=lambda j: (-float(unit[i] @ unit[j]), j))
        chosen[i, others[:k]] = True
    A = np.eye(count)
    for i in range(count):
        for j in range(count):
            if i != j and (chosen[i, j] or chosen[j, i]):
                A[i, j] = max(float(unit[i] @ unit[j]), 0.0) ** power
    degree = A.sum(axis=1)
    return np.array([[A[i, j] / np.sqrt(degree[i] * degree[j]) for j in range(count)] for i in range(count)])


@pytest.mark.parametrize("k", [1, 3, 50])
def test_graph_reweighting_is_its_formula(k):
    maps = random_maps(2, 8, 3, 4)
    block = draw(GraphReweighting(8, k, 3.0))
    W1, W2 = (w.detach().numpy() for w in (block.inner, block.outer))
    got = block(maps).detach().numpy()
    for image, added in zip(maps.numpy(), got, strict=True):
        X = image.reshape(8, 12).T
        unit = X / np.linalg.norm(X, axis=1, keepdims=True)
        A = adjacency(unit, k, 3.0)
        expected = A @ np.maximum(A @ unit @ W1, 0) @ W2
        np.testing.assert_allclose(added.reshape(8, 12).T, expected, atol=1e-12)


def test_edges_are_those_of_the_formula():
    unit = torch.nn.functional.normalize(random_maps(12, 8), dim=1)
    graph, A = cell_graph(unit, 3), adjacency(unit.numpy(), 3, 3.0)
    for cell in range(12):
        columns, weights = graph.neighbours(cell)
        assert (np.diff(weights) <= 0).all()
        row = np.zeros(12)
        row[columns] = weights
        row[cell] = A[cell, cell]
        np.testing.assert_allclose(row, A[cell], atol=1e-6)


def test_self_attention_is_its_formula():
    maps = random_maps(1, 8, 2, 3)
    block = draw(AttentionReweighting(8))
    values = {name: tensor.numpy() for name, tensor in block.state_dict().items()}
    X = maps.numpy().reshape(8, 6).T
    rows = []
    for x in X:
        scaled = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        rows.append((scaled * values["norm.weight"] + values["norm.bias"]) @ values["inner"])
    added = []
    for row in rows:
        logits = np.array([row[:2] @ other[2:4] / np.sqrt(2) for other in rows])
        shares = np.exp(logits) / np.exp(logits).sum()
        added.append(sum(s * other[4:] for s, other in zip(shares, rows, strict=True)) @ values["outer"])
    np.testing.assert_allclose(block(maps).detach().numpy().reshape(8, 6).T, added, atol=1e-10)
    ((cells, shares),) = block.neighbours(maps, np.array([4]), k=2)
    logits = np.array([rows[4][:2] @ other[2:4] / np.sqrt(2) for other in rows])
    expected = np.exp(logits) / np.exp(logits).sum()
    expected[4] = -1
    np.testing.assert_array_equal(cells, np.argsort(-expected)[:2])
    np.testing.assert_allclose(shares, expected[cells], atol=1e-6)


@pytest.mark.parametrize("window", [3, 5, 7])
def test_smoothing_is_its_formula(window):
    maps = random_maps(2, 3, 5, 6)
    a, c = random_maps(2, 5, 6, seed=2).abs(), torch.sigmoid(random_maps(2, 5, 6, seed=3))
    got, reach = gaussian_smooth(maps, a, c, window).numpy(), window // 2
    for n in range(2):
        for y in range(5):
            for x in range(6):
                total, mass = np.zeros(3), 0.0
                for v in range(max(0, y - reach), min(5, y + reach + 1)):
                    for u in range(max(0, x - reach), min(6, x + reach + 1)):
                        weight = float(torch.exp(-a[n, y, x] * ((v - y) ** 2 + (u - x) ** 2)))
                        weight = float(c[n, y, x]) if (v, u) == (y, x) else weight
                        total, mass = total + weight * maps[n, :, v, u].numpy(), mass + weight
                np.testing.assert_allclose(got[n, :, y, x], total / mass, atol=1e-12)


@needs_reference
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("settings", [
    {"reweighting": "none"}, {"reweighting": "graph"}, {"reweighting": "attention"},
    {"confidence_from": "residual"}, {"smoothing": "average"},
])  # fmt: skip
def test_every_start_is_how(scale, settings):
    reference = np.load(REFERENCE, allow_pickle=False)
    maps, expected = torch.tensor(reference[f"how_f{scale}"]), reference[f"how_smooth{scale}"]
    exact = Context(ContextSettings(12, start=20.0, **settings))
    np.testing.assert_allclose(exact(maps).detach(), expected, atol=1e-5)
    spread = torch.nn.functional.max_pool2d(maps, 3, 1, 1) + torch.nn.functional.max_pool2d(-maps, 3, 1, 1)
    off = np.abs(Context(ContextSettings(12, **settings))(maps).detach().numpy() - expected)
    assert (off <= 1e-3 * spread.numpy() + 1e-5).all()
