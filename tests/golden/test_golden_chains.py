"""Chains of views: only methods that follow the graph find a whole chain."""

import numpy as np
import pytest

from chains import plant_chains
from resight.errors import UsageError
from resight.evaluation.metrics import rectangle_ap
from resight.graph.adjacency import adjacency
from resight.graph.diffusion import affinity, normalise, offline_diffusion
from resight.graph.knn_graph import build_knn_graph, cut
from resight.ranking.diffusion_stages import Diffusion, OfflineDiffusion
from resight.ranking.expansion_stages import QueryExpansion
from resight.ranking.propagation import ExploreExploit
from resight.ranking.search import GlobalSearch
from resight.ranking.vector_database import VectorDatabase
from resight.types import Queries

WORLD = plant_chains(1000, 20)
DATABASE = VectorDatabase.over(WORLD.vectors)
GRAPH = build_knn_graph(WORLD.vectors, 50)
NORMALISED = normalise(affinity(cut(GRAPH, 5)))


def score(*stages):
    ranking = GlobalSearch(DATABASE.index)(Queries(vectors=WORLD.queries))
    for stage in stages:
        ranking = stage(Queries(vectors=WORLD.queries), ranking)
    return 100 * rectangle_ap(ranking.ids, [np.flatnonzero(WORLD.thing == thing) for thing in WORLD.wanted]).map


# Pinned to a point: other processors round similarities, and so order ties, in another way.
@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (None, 17.6),
        (QueryExpansion(DATABASE, 5), 21.3),
        (ExploreExploit(DATABASE, adjacency(GRAPH), 0.5, 50), 95.6),
        (Diffusion(DATABASE, NORMALISED), 62.9),
        (OfflineDiffusion(DATABASE, offline_diffusion(NORMALISED, GRAPH)), 32.1),
    ],
    ids=["plain", "expansion", "explore-exploit", "diffusion", "off-line"],
)
def test_scores(stage, expected):
    assert score(*([stage] if stage else [])) == pytest.approx(expected, abs=1.0)


def test_graph_methods_win_clearly():
    plain = score()
    assert score(ExploreExploit(DATABASE, adjacency(GRAPH), 0.5, 50)) >= plain + 10
    assert score(Diffusion(DATABASE, NORMALISED)) >= plain + 10


def test_the_world_is_what_it_says():
    world = plant_chains(500, 10, 32, spread=0.2, seed=3)
    sizes = np.bincount(world.thing)
    assert (world.vectors.shape, world.queries.shape) == ((500, 32), (10, 32))
    assert (sizes[:10].sum(), sizes[:10].min() >= 2, set(sizes[10:])) == (400, True, {1})
    np.testing.assert_allclose(np.linalg.norm(world.vectors, axis=1), 1, atol=1e-6)
    nearest = (world.queries @ world.vectors.T).argmax(axis=1)
    assert (world.thing[nearest] == world.wanted).mean() >= 0.8
    np.testing.assert_array_equal(world.vectors, plant_chains(500, 10, 32, spread=0.2, seed=3).vectors)


@pytest.mark.parametrize(("arguments", "message"), [((10, 6), "too few"), ((100, 5, 1), "dim=1"), ((0, 0), "too few")])
def test_impossible_worlds_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        plant_chains(*arguments)
