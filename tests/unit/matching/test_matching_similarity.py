import numpy as np
import pytest

from resight.errors import ArrayError, CollectionError, StampMismatch, UsageError
from resight.matching.oasis import Oasis
from resight.matching.similarity import DeepSimilarity, load_similarity, new_similarity


def unit(n, dim, seed=0):
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def network():
    return new_similarity(6, (10, 7), seed=3)


def test_a_network_traced_by_hand():
    # hidden unit 0: relu(q - x), hidden unit 1: relu(x - q - 1); score = 2 h0 - h1 + 0.5
    network = DeepSimilarity(([[1, -1], [-1, 1]], [[2, -1]]), ([0, -1], [0.5]))
    np.testing.assert_allclose(network.score([[3], [1]], [[1], [5]]), [[4.5, -0.5], [0.5, -2.5]])


def test_symmetric_is_the_mean_of_both_ways(network):
    x, y = unit(9, 6), unit(9, 6, 1)
    both = DeepSimilarity(network.weights, network.biases, symmetric=True)
    assert not np.allclose(network.pairs(x, y), network.pairs(y, x), atol=1e-3)
    np.testing.assert_allclose(both.pairs(x, y), (network.pairs(x, y) + network.pairs(y, x)) / 2, atol=1e-6)
    np.testing.assert_allclose(np.diag(both.score(x, y)), both.pairs(x, y), atol=1e-6)
    np.testing.assert_allclose(both.score(x, y), both.score(y, x).T, atol=1e-6)


def test_scores_do_not_depend_on_blocks(network):
    queries, vectors = unit(2, 6), unit(2500, 6, 1)
    scores = network.score(queries, vectors)
    for row in (0, 1023, 1024, 2499):
        np.testing.assert_allclose(scores[:, row], network.score(queries, vectors[row : row + 1])[:, 0], atol=1e-5)
    long = network.pairs(np.repeat(queries[:1], 2500, axis=0), vectors)
    np.testing.assert_allclose(long, scores[0], atol=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
def test_vectors_prepared_once_score_the_same(symmetric):
    network = new_similarity(6, (10, 7), symmetric=symmetric)
    queries, vectors = unit(3, 6), unit(1500, 6, 1)
    prepared = network.prepare(vectors)
    expected = network.score(queries, vectors)
    np.testing.assert_allclose(network.score_prepared(queries, prepared), expected, atol=1e-5)
    some = tuple(part[[7, 1400, 2]] for part in prepared)
    np.testing.assert_allclose(network.score_prepared(queries, some), expected[:, [7, 1400, 2]], atol=1e-5)
    assert network.score_prepared(queries, network.prepare(np.empty((0, 6)))).shape == (3, 0)
    with pytest.raises(ArrayError, match="prepared by another network"):
        new_similarity(6, (9,), symmetric=symmetric).score_prepared(queries, prepared)
    with pytest.raises(ArrayError, match="prepared by another network"):
        new_similarity(6, (10, 7), symmetric=not symmetric).score_prepared(queries, prepared)


def test_arguments_are_left_alone(network):
    queries, vectors = unit(2, 6), unit(5, 6, 1)
    before = queries.copy(), vectors.copy(), [array.copy() for array in (*network.weights, *network.biases)]
    network.score(queries, vectors)
    network.pairs(queries, vectors[:2])
    assert np.array_equal(queries, before[0])
    assert np.array_equal(vectors, before[1])
    assert all(map(np.array_equal, (*network.weights, *network.biases), before[2]))


def test_no_candidates_and_no_queries(network):
    assert network.score(unit(2, 6), np.empty((0, 6))).shape == (2, 0)
    assert network.score(np.empty((0, 6)), unit(2, 6)).shape == (0, 2)
    assert network.pairs(np.empty((0, 6)), np.empty((0, 6))).shape == (0,)
    assert Oasis.identity(6).score(unit(2, 6), np.empty((0, 6))).shape == (2, 0)


@pytest.mark.parametrize("similarity", [new_similarity(6, (4,)), Oasis.identity(6)], ids=["deep", "oasis"])
def test_bad_descriptors_are_refused(similarity):
    good, bad = unit(3, 6), unit(3, 6)
    bad[1, 2] = np.nan
    with pytest.raises(ArrayError, match=r"vectors has shape \(3, 5\)"):
        similarity.score(good, unit(3, 5))
    with pytest.raises(ArrayError, match="row 1 of queries holds NaN or infinity"):
        similarity.score(bad, good)
    with pytest.raises(ArrayError, match="x has 3 rows and y has 2"):
        similarity.pairs(good, good[:2])


def test_layers_that_do_not_fit_are_refused():
    ones = np.ones
    with pytest.raises(ArrayError, match="1 weights and 1 biases"):
        DeepSimilarity((ones((1, 4)),), (ones(1),))
    with pytest.raises(ArrayError, match=r"weights\[1\] has shape \(1, 4\)"):
        DeepSimilarity((ones((3, 4)), ones((1, 4))), (ones(3), ones(1)))
    with pytest.raises(ArrayError, match="5 inputs"):
        DeepSimilarity((ones((3, 5)), ones((1, 3))), (ones(3), ones(1)))
    with pytest.raises(ArrayError, match="2 outputs"):
        DeepSimilarity((ones((3, 4)), ones((2, 3))), (ones(3), ones(2)))
    with pytest.raises(ArrayError, match=r"layer 1 .* NaN"):
        DeepSimilarity((ones((3, 4)), ones((1, 3)) * np.nan), (ones(3), ones(1)))


def test_new_networks():
    network = new_similarity(8, (12, 6), seed=1, model="m")
    assert (network.dim, network.hidden, network.model) == (8, (12, 6), "m")
    assert network.fingerprint == new_similarity(8, (12, 6), seed=1).fingerprint
    assert network.fingerprint != new_similarity(8, (12, 6), seed=2).fingerprint
    first = network.weights[0]
    np.testing.assert_allclose(first[:6, :8], first[:6, 8:])  # sums
    np.testing.assert_allclose(first[6:, :8], -first[6:, 8:])  # differences
    np.testing.assert_allclose(first[:6, :8] @ first[:6, :8].T, 8 * np.eye(6), atol=1e-5)
    published = new_similarity(64, (512, 256), paired=False)
    assert [float(weight.std()) for weight in published.weights] == pytest.approx([0.01] * 3, rel=0.15)
    with pytest.raises(UsageError, match="hidden layer"):
        new_similarity(8, ())


@pytest.mark.parametrize(
    "similarity",
    [new_similarity(6, (4, 3), symmetric=True, model="abc"), Oasis(np.arange(9.0).reshape(3, 3), "abc", {"C": "0.1"})],
    ids=["deep", "oasis"],
)
def test_files(tmp_path, similarity):
    path = tmp_path / "similarity.safetensors"
    similarity.save(path)
    again = load_similarity(path, "abc")
    assert type(again) is type(similarity)
    assert again.fingerprint == similarity.fingerprint
    assert (again.model, dict(again.provenance)) == ("abc", dict(similarity.provenance))
    x, y = unit(4, similarity.dim), unit(4, similarity.dim, 1)
    assert np.array_equal(again.score(x, y), similarity.score(x, y))
    assert load_similarity(path).fingerprint == similarity.fingerprint
    with pytest.raises(StampMismatch, match="descriptors of model abc, these are of xyz"):
        load_similarity(path, "xyz")


def test_damaged_files_are_refused(tmp_path, network):
    path = tmp_path / "similarity.safetensors"
    with pytest.raises(CollectionError, match="cannot be read"):
        load_similarity(path)
    network.save(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CollectionError, match="damaged"):
        load_similarity(path)


def test_oasis_moves_towards_the_better_photo():
    X = np.eye(3, dtype=np.float32)
    learnt, losses = Oasis.identity(3).learn(X, [[0, 1, 2]], C=0.1)
    expected = np.eye(3)
    expected[0, 1], expected[0, 2] = 0.1, -0.1  # step min(0.1, 1 / 2)
    np.testing.assert_allclose(learnt.matrix, expected)
    assert losses.tolist() == [1.0]
    far, _ = Oasis.identity(3).learn(X, [[0, 1, 2]], C=10)
    assert far.matrix[0, 1] == pytest.approx(0.5)  # exactly far enough: the loss is now 0
    assert far.learn(X, [[0, 1, 2]])[1].tolist() == [0.0]


def test_oasis_on_triplets_that_teach_nothing():
    X = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
    learnt, losses = Oasis.identity(2).learn(X, [[0, 1, 1], [2, 0, 1]])
    assert np.array_equal(learnt.matrix, np.eye(2))
    assert losses.tolist() == [1.0, 1.0]
    same, none = learnt.learn(X, np.empty((0, 3), int))
    assert np.array_equal(same.matrix, learnt.matrix)
    assert not len(none)


def test_oasis_batches_agree_to_first_order():
    X, rng = unit(40, 8), np.random.default_rng(1)
    triplets = rng.integers(40, size=(60, 3))
    one = Oasis.identity(8).learn(X, triplets, C=1e-3)[0].matrix
    many = Oasis.identity(8).learn(X, triplets, C=1e-3, batch=17)[0].matrix
    assert not np.array_equal(one, many)
    np.testing.assert_allclose(one, many, atol=1e-3 * np.abs(one - np.eye(8)).max())


def test_oasis_refuses_what_it_cannot_learn():
    X = unit(4, 3)
    for bad in ({"C": 0}, {"C": float("nan")}, {"batch": 0}):
        with pytest.raises(UsageError, match="C must be positive"):
            Oasis.identity(3).learn(X, [[0, 1, 2]], **bad)
    with pytest.raises(ArrayError, match="triplets name rows 0 to 4, X has rows 0 to 3"):
        Oasis.identity(3).learn(X, [[0, 1, 4]])
    with pytest.raises(ArrayError, match="triplets name rows -1"):
        Oasis.identity(3).learn(X, [[0, 1, -1]])
    with pytest.raises(ArrayError, match="expected \\(D, D\\)"):
        Oasis(np.ones((2, 3)))
    with pytest.raises(UsageError, match="at least one dimension"):
        Oasis.identity(0)


def test_oasis_projections():
    oasis = Oasis([[1, 4], [0, 1]])
    np.testing.assert_allclose(oasis.symmetrised().matrix, [[1, 2], [2, 1]])
    values = np.linalg.eigvalsh(oasis.symmetrised(semidefinite=True).matrix)
    np.testing.assert_allclose(values, [0, 3], atol=1e-12)


def test_oasis_queries_search_any_index():
    oasis, x, y = Oasis(np.random.default_rng(0).standard_normal((5, 5))), unit(3, 5), unit(7, 5, 1)
    np.testing.assert_allclose(oasis.queries(x) @ y.T, oasis.score(x, y), atol=1e-6)
    np.testing.assert_allclose(oasis.score(x, y[:3])[[0, 1, 2], [0, 1, 2]], oasis.pairs(x, y[:3]), atol=1e-6)
