"""Graph methods on the descriptors of real photos in small groups: what helps, and settings chosen without labels."""

from pathlib import Path

import numpy as np
import pytest

from resight.evaluation.metrics import rectangle_ap
from resight.graph.adjacency import adjacency
from resight.graph.diffusion import affinity, normalise
from resight.graph.knn_graph import build_knn_graph, cut
from resight.ranking.diffusion_stages import Diffusion
from resight.ranking.expansion_stages import QueryExpansion
from resight.ranking.neighbourhood_stages import KReciprocal
from resight.ranking.propagation import ExploreExploit
from resight.ranking.search import GlobalSearch
from resight.ranking.tuning import choose_settings
from resight.ranking.vector_database import VectorDatabase
from resight.types import Queries

FOLDER = Path(__file__).parents[2] / "../shared/data/descriptors"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=f"no descriptors at {FOLDER}")


@pytest.fixture(scope="module")
def score():
    """mAP in percent of nearest neighbours re-ranked by a stage, which a function makes of database and graph."""
    numbers = np.array((FOLDER / "holidays_ids.txt").read_text().split(), int)
    vectors, group = np.load(FOLDER / "holidays_resnet101v2_c4_gem.npy"), numbers // 100
    rows = np.flatnonzero((numbers % 100 == 0) & (np.bincount(group)[group] > 1))
    positives = [np.setdiff1d(np.flatnonzero(group == group[row]), [row]) for row in rows]
    database, queries = VectorDatabase.over(vectors), Queries(vectors=vectors[rows], rows=rows)
    before, graph = GlobalSearch(database.index)(queries), build_knn_graph(vectors, 50)

    def run(make):
        ids = make(database, graph)(queries, before).ids
        return 100 * rectangle_ap(ids, positives, junk=[[row] for row in rows]).map

    run.vectors = vectors
    return run


def test_reciprocal_neighbours_help_small_groups(score):
    assert score(lambda db, _: KReciprocal(db, 100, 5, 2)) >= 88.0


def test_expansion_by_ten_hurts_small_groups(score):
    assert score(lambda db, _: QueryExpansion(db, 10)) < 50


@pytest.mark.slow
def test_settings_found_without_labels_are_near_the_best(score):
    """Best of a grid on the labels themselves: 83.99, 84.37 and 84.32."""
    found = choose_settings(score.vectors)
    flow = found.diffusion.settings
    assert score(lambda db, _: QueryExpansion(db, **found.expansion.settings)) >= 83.0
    threshold = found.traversal.settings["threshold"]
    assert score(lambda db, graph: ExploreExploit(db, adjacency(graph), threshold)) >= 83.3
    normalised = {"alpha": flow["alpha"], "seeds": flow["seeds"]}
    k = flow["k"]
    assert score(lambda db, graph: Diffusion(db, normalise(affinity(cut(graph, k))), **normalised)) >= 83.0
    assert not any(choice.worthwhile for choice in (found.expansion, found.traversal)), "they do not help these photos"
