"""Training blocks of context over frozen maps: the scripts label_free_context.py and frozen_maps.py of benchmarks."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in ("frozen_maps", "label_free_context"):
        sys.modules.pop(name, None)


@pytest.fixture
def maps(tmp_path):
    """Maps of 24 photos on disk: twelve things seen twice, each time with other noise."""
    from frozen_maps import FrozenMaps

    rng, made = np.random.default_rng(0), FrozenMaps(tmp_path)
    for thing in range(12):
        seen = rng.normal(0, 1, (1, 16, 5, 6))
        for view in range(2):
            noisy = np.maximum(seen + rng.normal(0, 0.7, seen.shape), 0)
            np.save(tmp_path / f"{thing * 100 + view:06d}@80.npy", noisy.astype(np.float16))
    return made


NAMES = [f"{thing * 100 + view:06d}" for thing in range(12) for view in range(2)]


@pytest.mark.parametrize("loss", ["softmax", "contrastive"])
def test_losses_of_a_batch_are_those_of_plain_loops(loss):
    from label_free_context import GRAPH, Variant, batch_loss

    x = torch.nn.functional.normalize(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    clusters, total = torch.tensor([0, 0, 1, 1, 0, 0, 2, 2]), 0.0  # two pairs are of one cluster
    for row in range(8):
        near = float(x[row] @ x[row ^ 1])
        far = [float(x[row] @ x[other]) for other in range(8) if clusters[other] != clusters[row]]
        if loss == "softmax":
            total += math.log(1 + sum(math.exp((one - near) / 0.05) for one in far))
        else:
            total += 1 - near + sum(max(0.0, 0.8 - math.sqrt(2 - 2 * one)) ** 2 / 2 for one in far)
    assert batch_loss(Variant(GRAPH, loss), x, clusters).item() == pytest.approx(total / 8, rel=1e-4)


def test_projected_maps_keep_products(maps):
    whole, kept = maps.strongest(NAMES, 80, 16)
    assert kept == pytest.approx(1)
    one, other = maps(NAMES[0], 80).flatten(2)[0], whole(NAMES[0], 80).flatten(2)[0]
    torch.testing.assert_close(one.T @ one, other.T @ other, atol=0.05, rtol=0.01)
    fewer, kept = maps.strongest(NAMES, 80, 4)
    assert fewer(NAMES[0], 80).shape == (1, 4, 5, 6)
    assert 0.3 < kept < 0.9


def test_training_lowers_the_loss_and_a_seed_gives_the_same_weights(maps, monkeypatch):
    import label_free_context as study

    from resight.training.data import of_pairs

    monkeypatch.setattr(study, "DIM", 8)
    examples = of_pairs(NAMES, NAMES, np.arange(24).reshape(12, 2), "a test")
    variant = study.Variant({**study.BOTH, "k": 4}, side=80, batch=6, epochs=8, rate=3e-3, identity=True)
    heads = []
    for seed in (0, 0, 1):
        head = study.start(variant, maps, NAMES, 80, seed)
        first, last = study.train(head, variant, examples, seed)["loss"]
        assert last < 0.9 * first
        heads.append(head.context.state_dict())
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
    assert not torch.equal(heads[0]["reweighting.inner"], heads[2]["reweighting.inner"])
