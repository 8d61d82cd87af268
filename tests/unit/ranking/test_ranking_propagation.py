"""Stages over the kNN graph: answers, rows with gaps, the photo that asks, tails, evidence, bad arguments."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.graph.adjacency import adjacency
from resight.graph.diffusion import affinity, diffuse, normalise, offline_diffusion, seeds
from resight.graph.knn_graph import build_knn_graph, neighbours
from resight.graph.manifold import iterative_embedding
from resight.graph.reciprocal import k_reciprocal
from resight.graph.spectral import spectral_basis
from resight.graph.traversal import explore_exploit
from resight.ranking.diffusion_stages import (
    Diffusion,
    HybridDiffusion,
    OfflineDiffusion,
    SpectralRanking,
    TruncatedDiffusion,
)
from resight.ranking.expansion import alpha_expansion
from resight.ranking.expansion_stages import QueryExpansion, VerifiedExpansion, verified_augmentation
from resight.ranking.neighbourhood_stages import KReciprocal, ManifoldSearch, SuperGlobal
from resight.ranking.propagation import ExploreExploit, SemiSupervised, label_collection
from resight.ranking.search import GlobalSearch
from resight.ranking.vector_database import VectorDatabase, ahead_of
from resight.types import KnnGraph, LocalFeatures, Queries, Ranking

COUNT, DIM = 60, 12
ROWS = np.arange(COUNT) * 3 + 2  # a collection from which photos were removed


def unit(rng, rows, dim=DIM):
    vectors = rng.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


RNG = np.random.default_rng(0)
VECTORS, POINTS = unit(RNG, COUNT), unit(RNG, 4)
GRAPH = build_knn_graph(VECTORS, 8)
EDGES = adjacency(GRAPH)
AFFINITY = affinity(GRAPH)
NORMALISED = normalise(AFFINITY)
BASIS = spectral_basis(NORMALISED, 12)
PLAIN = VectorDatabase.over(VECTORS)
GAPS = VectorDatabase.over(VECTORS, ROWS)
EMBEDDING = iterative_embedding(VECTORS, 16)
QUERIES = Queries(vectors=POINTS)


def empty_features():
    return LocalFeatures(np.empty((0, 2)), np.empty(0), np.empty(0), np.empty(0), np.empty((0, 4)))


class FakeVerifier:
    """Inliers by row; 0 is not verified."""

    def __init__(self, inliers):
        self.inliers = inliers

    def __call__(self, query, rows):
        counts = [self.inliers.get(int(row), 0) for row in rows]
        return [SimpleNamespace(inliers=n, verified=n > 0) for n in counts]


def stages(database):
    training = label_collection(database, VECTORS[::2] + np.float32(0.01), np.arange(COUNT // 2) % 3)
    return {
        "QueryExpansion": QueryExpansion(database, 3),
        "ExploreExploit": ExploreExploit(database, EDGES, 0.5, k=5, limit=20),
        "SemiSupervised": SemiSupervised(database, EDGES, training, 0.5, k=5, limit=20),
        "Diffusion": Diffusion(database, NORMALISED, limit=30),
        "TruncatedDiffusion": TruncatedDiffusion(database, AFFINITY, top=25),
        "SpectralRanking": SpectralRanking(database, BASIS, limit=30),
        "HybridDiffusion": HybridDiffusion(database, NORMALISED, BASIS, limit=30),
        "OfflineDiffusion": OfflineDiffusion(database, offline_diffusion(NORMALISED, GRAPH)),
        "ManifoldSearch": ManifoldSearch(database, EMBEDDING, limit=30),
        "KReciprocal": KReciprocal(database, top=25, k1=6, k2=3),
        "SuperGlobal": SuperGlobal(database, top=25, k=4),
    }


def test_query_expansion_is_expansion_and_search():
    moved = alpha_expansion(POINTS, VECTORS, 3, 2.0)
    found = QueryExpansion(PLAIN, 3, 2.0)(QUERIES)
    np.testing.assert_array_equal(found.ids, np.argsort(-(moved @ VECTORS.T), axis=1))
    np.testing.assert_array_equal((GlobalSearch(PLAIN.index) >> QueryExpansion(PLAIN, 3, 2.0))(QUERIES).ids, found.ids)


def test_expansion_takes_the_ranking_so_far_as_its_sources():
    ranking = Ranking([[7, 9]] * 4, [[2.0, 1.0]] * 4)
    found = QueryExpansion(PLAIN, 2, 0.0)(QUERIES, ranking)
    moved = POINTS + VECTORS[7] + VECTORS[9]
    np.testing.assert_array_equal(found.ids[:, :10], np.argsort(-(moved @ VECTORS.T), axis=1)[:, :10])
    (evidence,) = QueryExpansion(PLAIN, 2, 0.0).explain(QUERIES, 1, 9, ranking)
    assert evidence.data["sources"] == [7, 9]
    assert "this one among them" in evidence.summary


def test_explore_exploit_is_the_traversal():
    expected = explore_exploit(neighbours(POINTS, VECTORS, 5), EDGES, 0.5, 20)
    found = ExploreExploit(PLAIN, EDGES, 0.5, k=5, limit=20)(QUERIES)
    np.testing.assert_array_equal(found.ids, expected.ids)


def test_explore_exploit_explains_its_path():
    stage = ExploreExploit(GAPS, EDGES, 0.5, k=5, limit=40)
    ranking = stage(QUERIES)
    far = next(int(r) for r in ranking.ids[0] if len(stage.explain(QUERIES, 0, int(r))[0].data["path"]) > 2)
    (evidence,) = stage.explain(QUERIES, 0, far)
    path, weights = evidence.data["path"], evidence.data["weights"]
    assert path[-1] == far
    nodes = GAPS.nodes(path)
    chain = [POINTS[0] @ VECTORS[nodes[0]], *(VECTORS[a] @ VECTORS[b] for a, b in pairwise(nodes))]
    np.testing.assert_allclose(weights, chain, atol=1e-6)
    assert stage.explain(QUERIES, 0, 1)[0].data == {}


def test_verified_traversal_follows_proven_edges_only():
    counts = KnnGraph([[1, -1], [0, -1], [3, -1], [2, -1]], [[30, -np.inf]] * 4)
    database = VectorDatabase.over(np.eye(4, dtype=np.float32))
    queries = Queries(vectors=np.full((1, 4), 0.5, np.float32), local=(empty_features(),))
    stage = ExploreExploit(database, adjacency(counts), 20, k=4, limit=4, verifier=FakeVerifier({3: 25, 0: 0}))
    assert stage(queries).ids[0].tolist() == [3, 2, -1, -1]
    assert stage.explain(queries, 0, 2)[0].data == {"path": [3, 2], "weights": [25.0, 30.0]}


def test_verified_expansion_moves_towards_the_most_reliable():
    queries = Queries(vectors=POINTS[:1], local=(empty_features(),))
    ranking = Ranking([[4, 8, 15, 16, 23]], [[5.0, 4, 3, 2, 1]])
    stage = VerifiedExpansion(PLAIN, FakeVerifier({8: 25, 15: 90, 16: 19, 23: 500}), top=4, least=20, most=2)
    moved = POINTS[0] + VECTORS[8] + VECTORS[15]
    assert stage(queries, ranking).ids[0].tolist() == np.argsort(-(VECTORS @ moved), kind="stable").tolist()
    assert stage.explain(queries, 0, 8, ranking)[0].data == {"sources": [15, 8], "weights": [90, 25]}
    silent = VerifiedExpansion(PLAIN, FakeVerifier({}))
    assert silent.explain(queries, 0, 8, ranking) == ()
    assert silent(queries, ranking).ids[0].tolist() == np.argsort(-(VECTORS @ POINTS[0]), kind="stable").tolist()
    with pytest.raises(UsageError, match="needs a ranking"):
        stage(queries)


def test_verified_augmentation_moves_the_collection():
    graph = KnnGraph([[1, 2], [0, -1], [-1, -1]], [[50, 10], [50, -np.inf], [-np.inf, -np.inf]])
    moved = verified_augmentation(np.eye(3, dtype=np.float32), graph, least=20)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(moved, [[half, half, 0], [half, half, 0], [0, 0, 1]], atol=1e-6)
    with pytest.raises(ArrayError, match="3 nodes"):
        verified_augmentation(np.eye(4, dtype=np.float32), graph)


def test_labels_join_what_no_similarity_joins():
    vectors = np.eye(6, dtype=np.float32)[[0, 1, 2, 3]]
    database = VectorDatabase.over(vectors)
    training = label_collection(database, np.eye(6)[[0, 0, 0, 2, 2, 2, 4, 4, 4, 4]], [7, 7, 7, 7, 7, 7, 1, 1, 1, 1])
    assert training.index_labels.tolist()[0] == [7]
    edges = adjacency(KnnGraph(np.full((4, 1), -1), np.full((4, 1), -np.inf)))
    stage = SemiSupervised(database, edges, training, 0.5, k=1)
    queries = Queries(vectors=np.eye(6, dtype=np.float32)[:1])
    assert set(stage(queries).ids[0].tolist()) >= {0, 2}
    assert stage.explain(queries, 0, 2)[0].data == {"label": 7, "same": bool(training.index_labels[2] == 7)}
    bridged = adjacency(KnnGraph(np.full((14, 1), -1), np.full((14, 1), -np.inf)))
    assert set(SemiSupervised(database, bridged, training, 0.5, k=1)(queries).ids[0].tolist()) >= {0, 2}
    with pytest.raises(ArrayError, match="at least 5"):
        label_collection(database, np.eye(6)[:4], [0] * 4)


def test_diffusion_is_the_solution_without_what_it_does_not_reach():
    y = seeds(neighbours(POINTS, VECTORS, 10), COUNT)
    f = diffuse(NORMALISED, y)
    found = Diffusion(PLAIN, NORMALISED, limit=None)(QUERIES)
    for query in range(4):
        ids = found.ids[query][found.ids[query] >= 0]
        assert ids.tolist() == [i for i in np.argsort(-f[query], kind="stable") if f[query, i] > 0]


def test_hybrid_and_full_rank_spectral_ranking_agree_with_diffusion():
    exact = Diffusion(PLAIN, NORMALISED, iterations=500)(QUERIES)
    hybrid = HybridDiffusion(PLAIN, NORMALISED, BASIS, iterations=500)(QUERIES)
    spectral = SpectralRanking(PLAIN, spectral_basis(NORMALISED, COUNT))(QUERIES)
    np.testing.assert_array_equal(hybrid.ids[:, :10], exact.ids[:, :10])
    np.testing.assert_array_equal(spectral.ids[:, :10], exact.ids[:, :10])


def test_shares_of_a_truncated_diffusion():
    stage = TruncatedDiffusion(GAPS, AFFINITY, top=COUNT, iterations=300)
    before = GlobalSearch(GAPS.index)(QUERIES)
    row = int(before.ids[2, 15])
    shares = stage.explain(QUERIES, 2, row, before)[0].data["shares"]
    whole = Diffusion(GAPS, NORMALISED, iterations=300).explain(QUERIES, 2, row, before)[0].data["shares"]
    np.testing.assert_allclose(shares, whole, atol=1e-4)


def test_the_overlap_of_a_copy_is_whole():
    queries = Queries(vectors=VECTORS[[9]])
    before = GlobalSearch(GAPS.index)(queries)
    stage = KReciprocal(GAPS, top=30, k1=6, k2=1)
    near, far = (stage.explain(queries, 0, int(before.ids[0, rank]), before)[0].data["overlap"] for rank in (0, 29))
    assert near > far
    assert 0 <= far <= near <= 1


def test_shares_of_the_seeds_add_up():
    stage = Diffusion(GAPS, NORMALISED)
    row = int(stage(QUERIES).ids[2, 5])
    (evidence,) = stage.explain(QUERIES, 2, row)
    assert sum(evidence.data["shares"]) == pytest.approx(1)
    assert evidence.data["strongest"] in evidence.data["seeds"]
    assert evidence.data["seeds"] == sorted(ROWS[neighbours(POINTS, VECTORS, 10).ids[2]].tolist())
    assert "nothing flowed" in stage.explain(QUERIES, 2, 0)[0].summary


def test_reciprocal_search_of_all_is_the_function():
    found = KReciprocal(PLAIN, top=COUNT, k1=6, k2=3)(QUERIES)
    np.testing.assert_array_equal(found.ids[1], k_reciprocal(POINTS[1:2], VECTORS, 6, 3).ids[0])


def test_super_global_by_hand():
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    query = np.array([0.8, 0.6], np.float32)
    refined = np.array([vectors[0] + 0.15 * 0.6 * vectors[1], vectors[1] + 0.15 * 0.8 * vectors[2]])
    refined = np.vstack([refined[0] / 1.09, refined[1] / 1.12, (vectors[2] + 0.12 * vectors[1]) / 1.12])
    first = refined @ query
    pooled = np.maximum(refined[np.argsort(-first)[:2]].max(axis=0), query)
    expected = (first + vectors @ (pooled / np.linalg.norm(pooled))) / 2
    database = VectorDatabase.over(vectors)
    queries = Queries(vectors=query[None])
    found = SuperGlobal(database, top=3, k=2)(queries, GlobalSearch(database.index)(queries))
    assert found.ids[0].tolist() == np.argsort(-expected).tolist()
    np.testing.assert_allclose(found.scores[0], np.sort(expected)[::-1], atol=1e-6)


@pytest.mark.parametrize("name", stages(PLAIN))
def test_every_stage_names_rows_of_the_collection_and_keeps_the_tail(name):
    search = GlobalSearch(GAPS.index)
    before = search(QUERIES)
    found, plain = stages(GAPS)[name](QUERIES, before), stages(PLAIN)[name](QUERIES, GlobalSearch(PLAIN.index)(QUERIES))
    np.testing.assert_array_equal(found.ids, ROWS[plain.ids], err_msg="numbering changes nothing")
    assert (np.sort(found.ids, axis=1) == ROWS).all(), "nothing is lost"
    for row in (int(found.ids[1, 0]), int(found.ids[1, -1]), 1):
        (evidence,) = stages(GAPS)[name].explain(QUERIES, 1, row, before)
        assert evidence.stage == name
        assert evidence.summary


@pytest.mark.parametrize("name", ["QueryExpansion", "ExploreExploit", "Diffusion", "SpectralRanking"])
def test_a_photo_that_asks_is_not_its_own_evidence(name):
    own = Queries(vectors=VECTORS[5:6], rows=ROWS[5:6])
    (evidence,) = stages(GAPS)[name].explain(own, 0, int(ROWS[7]))
    named = evidence.data.get("sources", evidence.data.get("seeds", evidence.data.get("path", [])))
    assert int(ROWS[5]) not in named
    near = GAPS.nearest(own, 4)
    assert near.ids[0].tolist() == GRAPH.ids[5, :4].tolist()


def test_a_copy_of_the_photo_that_asks_does_count():
    database = VectorDatabase.over(np.repeat(VECTORS[:3], 2, axis=0))
    own = Queries(vectors=VECTORS[:1], rows=[1])
    assert database.nearest(own, 1).ids.tolist() == [[0]]
    assert database.candidates(own, Ranking([[1, 0, 4]], [[3.0, 2, 1]]), 2).ids.tolist() == [[0, 4]]


def test_a_collection_of_one_photo():
    database = VectorDatabase.over(VECTORS[:1])
    graph = build_knn_graph(VECTORS[:1], 5)
    queries = Queries(vectors=VECTORS[:1], rows=[0])
    assert ExploreExploit(database, adjacency(graph), 0.5)(queries).ids.tolist() == [[-1]]
    assert QueryExpansion(database, 5)(queries).ids.tolist() == [[0]]
    assert (Diffusion(database, normalise(affinity(graph)))(queries).ids == -1).all()


def test_what_was_not_reached_follows_in_its_order():
    found = ahead_of(Ranking([[4, -1]], [[0.5, -np.inf]]), Ranking([[1, 4, 2]], [[9.0, 8.0, 6.0]]))
    assert found.ids.tolist() == [[4, 1, 2]]
    assert found.scores.tolist() == [[0.5, -0.5, -3.5]]
    nothing = ahead_of(Ranking([[-1]], [[-np.inf]]), Ranking([[1, 4]], [[9.0, 8.0]]))
    assert nothing.scores.tolist() == [[9.0, 8.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: QueryExpansion(PLAIN, 0), "n=0"),
        (lambda: QueryExpansion(PLAIN, 1, -1.0), "alpha=-1"),
        (lambda: QueryExpansion(PLAIN, limit=0), "0 results"),
        (lambda: VerifiedExpansion(PLAIN, FakeVerifier({}), most=0), "most=0"),
        (lambda: ExploreExploit(PLAIN, EDGES, np.nan), "NaN"),
        (lambda: ExploreExploit(PLAIN, EDGES, 0.4, k=0), "k=0"),
        (lambda: ExploreExploit(PLAIN, EDGES, 0.4, limit=0), "limit"),
        (lambda: ExploreExploit(VectorDatabase.over(VECTORS[:9]), EDGES, 0.4), "60 nodes, the database 9"),
        (lambda: Diffusion(PLAIN, NORMALISED, seeds=0), "seeds=0"),
        (lambda: Diffusion(PLAIN, NORMALISED, alpha=1.0), "alpha=1.0"),
        (lambda: Diffusion(PLAIN, NORMALISED, gamma=0), "gamma=0"),
        (lambda: Diffusion(VectorDatabase.over(VECTORS[:9]), NORMALISED), "60 nodes"),
        (lambda: TruncatedDiffusion(PLAIN, AFFINITY)(QUERIES), "needs a ranking"),
        (lambda: ManifoldSearch(VectorDatabase.over(VECTORS[:9]), EMBEDDING), "60 photos and the database 9"),
        (lambda: KReciprocal(PLAIN, k2=30), "k2=30"),
        (lambda: SuperGlobal(PLAIN, beta=-0.1), "beta=-0.1"),
        (lambda: VectorDatabase.over(VECTORS, ROWS[::-1]), "rise"),
        (lambda: VectorDatabase(VECTORS, ROWS, PLAIN.index).nearest(QUERIES, 0), "0 neighbours"),
        (lambda: VectorDatabase(VECTORS[:5], ROWS[:5], PLAIN.index), "holds 60"),
        (lambda: QueryExpansion(PLAIN)(Queries(rows=[1])), "no global descriptors"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(UsageError, match=message):
        call()
