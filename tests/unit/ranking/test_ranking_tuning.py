"""Settings chosen without labels: what helps chains, what leaves small groups alone, and collections with nothing."""

from __future__ import annotations

import numpy as np
import pytest

from chains import plant_chains
from resight.errors import ArrayError
from resight.ranking import tuning as automatic
from resight.ranking.tuning import choose_settings
from resight.types import KnnGraph, Ranking


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(automatic, "MOST", 40)
    monkeypatch.setattr(automatic, "EXPANSIONS", {"n": (1, 5), "alpha": (0.0, 3.0)})
    monkeypatch.setattr(automatic, "DIFFUSIONS", {"k": (5, 20), "seeds": (1, 5), "alpha": (0.9,)})


def groups(rng, things, views, dim=64, noise=0.6):
    return unit(
        np.repeat(rng.normal(size=(things, dim)), views, axis=0) + noise * rng.normal(size=(things * views, dim))
    )


@pytest.mark.usefixtures("quick")
def test_chains_are_worth_following():
    world = plant_chains(600, 12)
    found = choose_settings(world.vectors)
    assert (found.source, found.queries) == ("mutual neighbours", 40)
    assert found.traversal.worthwhile
    assert found.traversal.score > found.traversal.plain + 0.05
    assert 0.3 < found.traversal.settings["threshold"] < 0.95
    assert "of 11 settings" in found.traversal.reason


@pytest.mark.usefixtures("quick")
def test_expansion_does_not_reach_beyond_small_groups():
    found = choose_settings(groups(np.random.default_rng(0), 150, 3))
    settings = dict(found.expansion.settings)
    assert settings["n"] == 1 or settings["alpha"] > 0, "five equal neighbours in groups of three are strangers"
    tried = {tuple(settings.values()): score for settings, score in found.expansion.tried}
    assert tried[(5, 0.0)] < tried[(1, 0.0)]


@pytest.mark.usefixtures("quick")
def test_verified_pairs_take_the_place_of_guesses():
    rng = np.random.default_rng(1)
    vectors = groups(rng, 40, 4, noise=0.9)
    thing = np.repeat(np.arange(40), 4)
    ids = np.array([[j for j in np.flatnonzero(thing == thing[i]) if j != i] for i in range(160)])
    found = choose_settings(vectors, KnnGraph(ids, np.full(ids.shape, 30.0)))
    assert (found.source, found.groups, found.photos) == ("verified pairs", 40, 160)
    weak = choose_settings(vectors, KnnGraph(ids, np.full(ids.shape, 19.0)))
    assert weak.photos == 0
    with pytest.raises(ArrayError, match="160 nodes, expected one for each of 100"):
        choose_settings(vectors[:100], KnnGraph(ids, np.full(ids.shape, 30.0)))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("vectors", [unit(np.eye(8)), unit(np.ones((1, 8))), np.zeros((30, 8), np.float32)])
def test_nothing_is_chosen_where_nothing_belongs_together(vectors):
    found = choose_settings(vectors)
    for choice in (found.expansion, found.traversal, found.diffusion):
        assert not choice.worthwhile
        assert "too few photos" in choice.reason
    assert found.expansion.settings == {"n": 1, "alpha": 0.0}


@pytest.mark.usefixtures("quick")
def test_the_same_seed_chooses_the_same():
    vectors = groups(np.random.default_rng(2), 60, 4)
    assert choose_settings(vectors, seed=5) == choose_settings(vectors, seed=5)


def test_precision_counts_all_but_the_photo_that_asks():
    trial = automatic._Trial(None, None, np.array([0, 0, 0, 1, 1, -1]), np.array([0, 3]))
    ranking = Ranking([[0, 5, 1, 3, 2], [4, 3, -1, -1, -1]], [[5.0, 4, 3, 2, 1], [2.0, 1, *[-np.inf] * 3]])
    np.testing.assert_allclose(automatic._average_precision(ranking, trial), [(1 / 2 + 2 / 4) / 2, 1.0])
