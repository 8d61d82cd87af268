"""What must hold for every graph: renaming, prefixes, growth, linearity."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.graph.adjacency import adjacency
from resight.graph.diffusion import affinity, diffuse, normalise
from resight.graph.knn_graph import add_nodes, build_knn_graph, cut, neighbours, remove_nodes
from resight.graph.reciprocal import k_reciprocal
from resight.graph.traversal import explore, explore_exploit, read_prebuild, write_prebuild
from resight.ranking.expansion import alpha_expansion, database_augmentation

SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def world(seed):
    """Query and database vectors, and a number of neighbours."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(int(rng.integers(2, 60)), 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = rng.normal(size=(int(rng.integers(1, 5)), 6)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return queries, vectors, int(rng.integers(1, 9)), rng


@few
@given(SEEDS, st.sampled_from([-2.0, 0.3, 0.7, 2.0]), st.sampled_from(["max", "mutual", "last", None]))
def test_a_smaller_limit_gives_the_beginning(seed, threshold, how):
    queries, vectors, k, rng = world(seed)
    near, graph = neighbours(queries, vectors, k), build_knn_graph(vectors, k)
    whole = explore(near, graph, threshold, len(vectors), how)
    limit = int(rng.integers(1, len(vectors) + 1))
    part = explore(near, graph, threshold, limit, how)
    np.testing.assert_array_equal(part.ranking.ids, whole.ranking.ids[:, :limit])
    assert (part.lookups <= limit).all()
    for query in range(len(queries)):
        for row in part.ranking.ids[query][part.ranking.ids[query] >= 0].tolist():
            path = part.path(query, row)
            assert path[0] in near.ids[query]
            edges = adjacency(graph, how)
            assert all(b in edges.neighbours_of(a)[0] for a, b in pairwise(path))


@few
@given(SEEDS, st.sampled_from([0.3, 0.7, 2.0]))
def test_renaming_the_photos_renames_the_results(seed, threshold):
    queries, vectors, k, rng = world(seed)
    order = rng.permutation(len(vectors))
    found = explore_exploit(neighbours(queries, vectors, k), build_knn_graph(vectors, k), threshold, 30)
    renamed = explore_exploit(neighbours(queries, vectors[order], k), build_knn_graph(vectors[order], k), threshold, 30)
    # Blocks of another order may round a similarity otherwise: compare the sets that a walk without limit reaches.
    if len(vectors) <= 30:
        back = np.append(order, -1)[renamed.ids]
        np.testing.assert_array_equal(np.sort(back, axis=1), np.sort(found.ids, axis=1))
    np.testing.assert_allclose(renamed.scores[:, 0], found.scores[:, 0], atol=1e-6)


@few
@given(SEEDS)
def test_growing_and_shrinking_equal_building(seed):
    _, vectors, k, rng = world(seed)
    full = build_knn_graph(vectors, k)
    grown = add_nodes(build_knn_graph(vectors[: int(rng.integers(0, len(vectors) + 1))], k), vectors)
    np.testing.assert_array_equal(grown.ids, full.ids)
    rows = rng.permutation(len(vectors))[: int(rng.integers(0, len(vectors)))]
    left = remove_nodes(full, rows, np.delete(vectors, rows, axis=0))
    np.testing.assert_array_equal(left.ids, build_knn_graph(np.delete(vectors, rows, axis=0), k).ids)
    small = int(rng.integers(1, k + 1))
    np.testing.assert_array_equal(cut(full, small).ids, build_knn_graph(vectors, small).ids)


@few
@given(SEEDS)
def test_text_gives_the_graph_back(tmp_path_factory, seed):
    queries, vectors, k, _ = world(seed)
    near, graph = neighbours(queries, vectors, k), build_knn_graph(vectors, k)
    path = tmp_path_factory.mktemp("graph") / "prebuild.txt"
    write_prebuild(path, near, graph, decimals=9)
    for read, written in zip(read_prebuild(path, len(queries)), (near, graph), strict=True):
        np.testing.assert_array_equal(read.ids, written.ids[:, : read.k])
        np.testing.assert_allclose(read.weights, written.weights[:, : read.k], atol=1e-8)
        assert (written.ids[:, read.k :] == -1).all()


@few
@given(SEEDS)
def test_diffusion_is_linear_and_symmetric(seed):
    _, vectors, k, rng = world(seed)
    normalised = normalise(affinity(build_knn_graph(vectors, k)))
    a, b = rng.random((2, len(vectors)))

    def solve(y):
        return diffuse(normalised, y[None], alpha=0.9, iterations=300, tolerance=1e-12)[0]

    np.testing.assert_allclose(solve(2 * a + b), 2 * solve(a) + solve(b), atol=1e-8)
    np.testing.assert_allclose(a @ solve(b), b @ solve(a), rtol=1e-8)


@few
@given(SEEDS)
def test_expansion_keeps_unit_rows_and_zero_power_weighs_alike(seed):
    queries, vectors, k, rng = world(seed)
    for rows in (alpha_expansion(queries, vectors, k, 2.5), database_augmentation(vectors, k, 3.0)):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    order = rng.permutation(len(vectors))
    np.testing.assert_allclose(
        alpha_expansion(queries, vectors[order], k, 2.5), alpha_expansion(queries, vectors, k, 2.5), atol=1e-4
    )


@few
@given(SEEDS)
def test_reciprocal_ranking_names_every_photo_once(seed):
    queries, vectors, k, _ = world(seed)
    ranking = k_reciprocal(queries, vectors, k1=k, k2=1)
    np.testing.assert_array_equal(np.sort(ranking.ids, axis=1), np.tile(np.arange(len(vectors)), (len(queries), 1)))
    plain = k_reciprocal(queries, vectors, k1=k, k2=1, original_weight=1.0)
    near = neighbours(queries, vectors, len(vectors))
    np.testing.assert_allclose(np.take_along_axis(queries @ vectors.T, plain.ids, axis=1), near.weights, atol=1e-5)
