import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from resight.errors import ArrayError, CollectionError, UsageError
from resight.graph.knn_graph import build_knn_graph, neighbours
from resight.graph.propagation_matrix import propagation_matrix
from resight.graph.separation import Mixing, SimilaritySeparation
from resight.training.loop import json_log, tensorboard_log
from resight.training.separation import SeparationSettings, fit_separation, train_separation
from resight.training.separation import beta as separation_beta
from resight.training.separation import loss as separation_loss
from resight.training.separation.batches import batches, neighbourhood
from resight.training.separation.beta import similarity_percentile
from resight.training.separation.files import load_separation, save_separation
from resight.training.separation.loss import loss_and_gradient, sampled_loss, similarity_separation
from resight.training.separation.watch import found_again, hide_pairs, mean_reciprocal_rank, mutual_pairs
from resight.types import KnnGraph

torch.set_num_threads(1)


def groups(count=40, each=4, dim=32, noise=0.9, seed=0):
    """Unit rows in groups, and the group of each."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), each)
    x = rng.normal(size=(count, dim))[labels] + noise * rng.normal(size=(len(labels), dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


@pytest.fixture(scope="module")
def world():
    vectors, labels = groups()
    return vectors, labels, build_knn_graph(vectors, 3)


def embeddings(count, dim, seed=0):
    e = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)).double()
    return torch.nn.functional.normalize(e)


# the loss


@pytest.mark.parametrize("method", ["auto", "direct", "closed"])
def test_loss_has_the_gradient_of_its_formula(method):
    e = embeddings(30, 6).requires_grad_()
    loss = similarity_separation(e, 0.3, 2.0, method=method)
    plain = (-((e @ e.T).relu() - 0.3).square()).mean()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-9)
    torch.testing.assert_close(*(torch.autograd.grad(3 * x, e)[0] for x in (loss, plain)))


def test_the_closed_form_skips_pairs_that_cannot_be_negative(monkeypatch):
    e = torch.nn.functional.normalize(embeddings(50, 6) + 2)
    monkeypatch.setattr(separation_loss, "_correct", lambda *_: pytest.fail("a provable pair was compared"))
    loss, _ = loss_and_gradient(e, 0.5, method="closed")
    assert loss == pytest.approx(float((-((e @ e.T) - 0.5).square() / 2).mean()), rel=1e-9)


def test_similarity_of_zero_is_not_positive():
    _, gradient = loss_and_gradient(torch.eye(3), 0.3)
    torch.testing.assert_close(gradient, -2 * 0.7 / 9 * torch.eye(3))


def test_expected_sampled_gradient_is_the_exact_one():
    e = embeddings(7, 4).requires_grad_()
    exact_loss, exact = loss_and_gradient(e.detach(), 0.2)
    samples = [sampled_loss(e[list(rows)], 0.2, 7) for rows in itertools.combinations(range(7), 3)]
    mean = torch.stack(samples).mean()
    assert mean.item() == pytest.approx(exact_loss, rel=1e-9)
    torch.testing.assert_close(torch.autograd.grad(mean, e)[0], exact)


def test_bfloat16_loss_is_close():
    e = embeddings(60, 16).float()
    exact, gradient = loss_and_gradient(e, 0.2, method="direct")
    for method in ("direct", "closed"):
        rounded, rounded_gradient = loss_and_gradient(e, 0.2, method=method, precision=torch.bfloat16)
        assert rounded == pytest.approx(exact, rel=0.01)
        assert torch.nn.functional.cosine_similarity(gradient, rounded_gradient).min() > 0.98


@pytest.mark.parametrize("beta", [-1, 1, 1.5, np.nan])
def test_beta_outside_the_similarities(beta, world):
    with pytest.raises(UsageError, match="must lie between -1 and 1"):
        loss_and_gradient(torch.eye(3), beta)
    with pytest.raises(UsageError, match="must lie between -1 and 1"):
        sampled_loss(torch.eye(3), beta, 5)
    with pytest.raises(UsageError, match="must lie between -1 and 1"):
        fit_separation(world[0], world[2], beta=beta)


def test_bad_losses():
    with pytest.raises(ArrayError, match=r"expected \(N, D\)"):
        loss_and_gradient(torch.ones(3), 0.5)
    with pytest.raises(UsageError, match="at least 2"):
        sampled_loss(torch.ones(1, 2), 0.5, 5)
    with pytest.raises(UsageError, match="at most all"):
        sampled_loss(torch.ones(6, 2), 0.5, 5)


# beta


def test_percentile_exact_and_by_histogram(world):
    vectors = world[0]
    exact = similarity_percentile(vectors, 98)
    assert exact.error == 0
    assert exact.value == pytest.approx(np.percentile(vectors @ vectors.T, 98), abs=1e-6)
    every = similarity_percentile(vectors, 98, exact_rows=10)
    assert abs(every.value - exact.value) <= every.error < 2e-5
    for percentile in (0, 5, 50, 99.9, 100):
        value = similarity_percentile(vectors, percentile, exact_rows=10).value
        assert value == pytest.approx(np.percentile(vectors @ vectors.T, percentile), abs=1e-3)


def test_the_stated_error_of_sampled_rows_holds():
    vectors, _ = groups(count=120, each=6)
    exact = similarity_percentile(vectors, 97).value
    inside = 0
    for seed in range(20):
        found = similarity_percentile(vectors, 97, exact_rows=10, sampled_rows=160, seed=seed)
        assert 0 < found.error < 0.05
        inside += abs(found.value - exact) <= found.error
    assert inside >= 16  # two standard errors


def test_bad_percentiles():
    with pytest.raises(UsageError, match="percentile 101"):
        similarity_percentile(np.eye(3), 101)
    with pytest.raises(ArrayError, match="no rows"):
        similarity_percentile(np.empty((0, 3)), 50)
    assert separation_beta.histogram(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)).sum() == 4


# batches


def test_batches_hold_every_row_once():
    parts = batches(101, 20, np.random.default_rng(0))
    assert max(map(len, parts)) <= 20
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(101))
    assert [len(part) for part in batches(3, 2, np.random.default_rng(0))] == [3]  # no batch of one
    for count, size in ((5, 1), (1, 5)):
        with pytest.raises(UsageError, match="at least 2"):
            batches(count, size, np.random.default_rng(0))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_whole_neighbourhood_gives_the_same_embedding(world, layers):
    vectors, _, graph = world
    model = SimilaritySeparation(32, layers)
    matrix = propagation_matrix(vectors, graph).matrix
    rows = np.array([5, 77, 3, 130])
    used, matrices = neighbourhood(matrix, rows, layers, None, np.random.default_rng(0))
    assert len(used) < len(vectors)
    with torch.no_grad():
        part = model(torch.from_numpy(vectors[used]), [Mixing.build(m, model.device) for m in matrices])
    np.testing.assert_allclose(part.numpy(), model.embed(vectors, graph)[rows], atol=1e-6)


def test_thinned_neighbourhoods_keep_the_expected_sum(world):
    vectors, _, _ = world
    matrix = propagation_matrix(vectors, build_knn_graph(vectors, 9)).matrix
    rows, rng = np.array([4, 9]), np.random.default_rng(0)
    total = np.zeros((2, 32))
    for _ in range(3000):
        used, (part,) = neighbourhood(matrix, rows, 1, 3, rng)
        assert np.diff(part.indptr).max() == 4  # three, and the row itself
        total += part @ vectors[used]
    exact = matrix[rows] @ vectors
    assert np.abs(total / 3000 - exact).max() < 0.02


# the watch


def test_mutual_pairs_and_their_ranks():
    graph = KnnGraph([[1, 2], [0, -1], [3, 1], [2, 0]], [[1, 1], [1, -np.inf], [1, 1], [1, 1]])
    np.testing.assert_array_equal(mutual_pairs(graph), [[0, 1], [2, 3]])
    x = np.array([[1, 0], [0.8, 0.6], [0.9, 0.436], [0, 1]], np.float32)
    # of 0 and 1: 2 is nearer to either; of 2 and 3: 3 is the farthest for 2, and 2 behind 1 for 3
    assert mean_reciprocal_rank(x, np.array([[0, 1]])) == pytest.approx(0.5)
    assert mean_reciprocal_rank(x, np.array([[2, 3]])) == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert mean_reciprocal_rank(np.full_like(x, np.nan), np.array([[2, 3]])) == pytest.approx(1 / 4)  # last, not first


def test_hidden_pairs_leave_no_edge(world):
    vectors, _, graph = world
    watch = hide_pairs(vectors, graph)
    matrix = watch.propagation.matrix.toarray()
    assert 0 < len(watch.pairs) <= len(mutual_pairs(graph)) // 10
    assert not matrix[watch.pairs[:, 0], watch.pairs[:, 1]].any()
    assert propagation_matrix(vectors, graph).matrix.toarray()[watch.pairs[:, 0], watch.pairs[:, 1]].all()
    assert 0.3 < found_again(SimilaritySeparation(32), vectors, watch) <= 1
    trusted = hide_pairs(vectors, graph, np.array([[3, 2], [0, 1]] * 5))
    assert trusted.pairs.tolist() in ([[3, 2]], [[0, 1]])


def test_bad_trusted_pairs(world):
    vectors, _, graph = world
    with pytest.raises(UsageError, match="rows 0 to 160"):
        hide_pairs(vectors, graph, [[0, 160]])
    with pytest.raises(UsageError, match="give trusted pairs"):
        hide_pairs(vectors, graph, np.empty((0, 2), np.int64))


# training


def recall(vectors, labels, k=3):
    found = build_knn_graph(vectors, k).ids
    return (labels[found] == labels[:, None]).mean()


def test_training_separates_groups(world):
    vectors, labels, graph = world
    epochs = []
    model = fit_separation(vectors, graph, epochs=60, learning_rate=1e-3, on_epoch=epochs.append)
    embedded = model.embed(vectors, graph)
    assert recall(embedded, labels) > recall(vectors, labels) + 0.03
    assert [epoch.number for epoch in epochs] == list(range(1, 61))
    assert epochs[-1].loss < epochs[0].loss
    start = SimilaritySeparation(32).embed(vectors, graph)
    beta = train_separation(vectors, graph, SeparationSettings(epochs=0)).beta
    assert beta.value == pytest.approx(np.percentile(start @ start.T, 98), abs=2e-5)


def test_a_fitted_model_answers_queries_at_once(world):
    vectors, _, graph = world
    model = fit_separation(vectors, graph, epochs=2)
    near = neighbours(vectors[:3], vectors, 4)
    extended = model.extend(vectors[:3], near)
    model.embed(vectors, graph)
    np.testing.assert_array_equal(extended, model.extend(vectors[:3], near))


def test_batches_train_as_all_pairs_do(world):
    vectors, labels, graph = world
    settings = SeparationSettings(epochs=15, learning_rate=1e-3, batch=40)
    trained = train_separation(vectors, graph, settings)
    assert trained.epochs[-1].loss < trained.epochs[1].loss
    assert recall(trained.model.embed(vectors, graph), labels) > recall(vectors, labels) + 0.03
    exact = train_separation(vectors, graph, SeparationSettings(epochs=1, beta=trained.beta.value)).epochs[1].loss
    assert trained.epochs[1].loss == pytest.approx(exact, rel=0.1)


def test_the_same_seed_gives_the_same_model(world):
    vectors, _, graph = world
    for batch in (None, 50):
        one, two, other = (
            fit_separation(vectors, graph, epochs=2, batch=batch, seed=seed).weights[0].detach() for seed in (1, 1, 2)
        )
        assert torch.equal(one, two)
        assert not torch.equal(one, other)


@pytest.mark.parametrize(("batch", "patience"), [(None, None), (60, None), (None, 30)])
def test_a_resumed_training_equals_a_whole_one(world, tmp_path, batch, patience):
    vectors, _, graph = world
    settings = SeparationSettings(epochs=25, learning_rate=1e-3, batch=batch, patience=patience)
    whole = train_separation(vectors, graph, settings)
    path = tmp_path / "training.safetensors"
    train_separation(vectors, graph, replace(settings, epochs=20), checkpoint=path)
    seen = []
    resumed = train_separation(vectors, graph, settings, checkpoint=path, on_epoch=seen.append)
    assert [epoch.number for epoch in seen] == [21, 22, 23, 24, 25]
    assert [epoch.loss for epoch in resumed.epochs] == [epoch.loss for epoch in whole.epochs]
    assert resumed.best == whole.best
    for one, two in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_checkpoint_of_something_else(world, tmp_path):
    vectors, _, graph = world
    path = tmp_path / "training.safetensors"
    fit_separation(vectors, graph, epochs=1, checkpoint=path)
    with pytest.raises(UsageError, match="other data or settings"):
        fit_separation(vectors, build_knn_graph(vectors, 2), epochs=1, checkpoint=path)
    with pytest.raises(UsageError, match="other data or settings"):
        fit_separation(vectors, graph, epochs=1, seed=9, checkpoint=path)
    path.write_bytes(b"no tensors")
    with pytest.raises(CollectionError, match="damaged"):
        fit_separation(vectors, graph, epochs=1, checkpoint=path)


def test_training_stops_where_hidden_neighbours_are_found_best(world):
    vectors, _, graph = world
    settings = SeparationSettings(epochs=300, learning_rate=3e-3, patience=20)
    trained = train_separation(vectors, graph, settings)
    assert trained.stopped == "patience"
    assert len(trained.epochs) < 300
    assert len(trained.epochs) - trained.best >= 20
    looks = {epoch.number: epoch.validation for epoch in trained.epochs if epoch.validation is not None}
    assert trained.best == 0 or looks[trained.best] == max(looks.values())
    best = train_separation(vectors, graph, replace(settings, epochs=trained.best, patience=None)).model
    assert torch.equal(best.weights[0], trained.model.weights[0])


@pytest.mark.parametrize(("rate", "batch"), [(0.3, None), (1e12, None), (1e30, None), (1e12, 50), (1e30, 50)])
def test_a_diverging_loss_keeps_the_last_good_state(world, rate, batch):
    vectors, _, graph = world
    settings = SeparationSettings(epochs=50, learning_rate=rate, batch=batch)
    trained = train_separation(vectors, graph, settings)
    assert trained.stopped == "diverged"
    assert len(trained.epochs) < 50
    assert trained.best == 0
    assert torch.equal(trained.model.weights[0], SimilaritySeparation(32).weights[0])
    assert all(np.isfinite(epoch.loss) for epoch in trained.epochs[1:])


def test_no_epochs_give_the_network_of_the_start(world):
    vectors, _, graph = world
    trained = train_separation(vectors, graph, SeparationSettings(epochs=0))
    assert (trained.best, [epoch.number for epoch in trained.epochs], trained.stopped) == (0, [0], "done")
    assert torch.equal(trained.model.weights[0], SimilaritySeparation(32).weights[0])


def test_log_of_epochs(world, tmp_path):
    vectors, _, graph = world
    fit_separation(vectors, graph, epochs=3, on_epoch=json_log(tmp_path / "log.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == [1, 2, 3]
    assert set(lines[0]) == {"number", "loss", "validation", "seconds"}


def test_event_files_hold_every_epoch(world, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    vectors, _, graph = world
    fit_separation(vectors, graph, epochs=3, on_epoch=tensorboard_log(tmp_path / "events"))
    events = accumulator.EventAccumulator(str(tmp_path / "events")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
    assert {"loss", "seconds"} <= set(events.Tags()["scalars"])


def test_models_on_disk(world, tmp_path):
    vectors, _, graph = world
    model = fit_separation(vectors, graph, epochs=2, residual=0.5, layers=3)
    path = tmp_path / "model.safetensors"
    save_separation(path, model, {"beta": 0.5})
    read, facts = load_separation(path)
    assert facts == {"beta": 0.5}
    np.testing.assert_array_equal(read.embed(vectors, graph), model.embed(vectors, graph))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CollectionError, match="damaged"):
        load_separation(path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"beta_percentile": 100.5}, "beta_percentile"),
        ({"epochs": -1}, "-1 epochs"),
        ({"learning_rate": 0.0}, "learning rate 0"),
        ({"learning_rate": np.nan}, "learning rate nan"),
        ({"patience": 0}, "patience=0"),
        ({"batch": 1}, "batch=1"),
        ({"layers": 0}, "layers=0"),
        ({"layers": 2**40}, "layers=1099511627776: a network has 1 to 64"),
        ({"seed": -1}, "seed=-1"),
        ({"device": "abacus"}, "abacus"),
        ({"precision": "int8"}, "int8"),
    ],
)
def test_bad_settings(world, setting, message):
    with pytest.raises(UsageError, match=message):
        fit_separation(world[0], world[2], **setting)


def test_bad_data(world):
    vectors, _, graph = world
    with pytest.raises(ArrayError, match="NaN"):
        fit_separation(np.full_like(vectors, np.nan), graph)
    with pytest.raises(ArrayError, match="another collection"):
        fit_separation(vectors[:50], graph)
    same = np.repeat(vectors[:1], 20, axis=0)
    with pytest.raises(ArrayError, match="nothing to separate"):
        fit_separation(same, build_knn_graph(same, 3))
