import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.features import adaptation
from resight.features.adaptation import fit_adaptation
from resight.features.whitening import Whitening

DIM = 12


def world(groups=40, photos=4, seed=0, noisy=4):
    """Photos of one thing differ a lot along the first `noisy` dimensions, and little along the others."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(groups), photos)
    spread = np.r_[np.full(noisy, 2.0), np.full(DIM - noisy, 0.15)]
    things = 0.4 * rng.standard_normal((groups, DIM))
    rows = things[labels] + spread * rng.standard_normal((len(labels), DIM)) + 3
    return rows.astype(np.float32), labels


def mean_average_precision(vectors, labels):
    scores = vectors @ vectors.T
    total = 0.0
    for q in range(len(labels)):
        order = [i for i in np.argsort(-scores[q]) if i != q]
        hits = [rank for rank, i in enumerate(order, 1) if labels[i] == labels[q]]
        total += np.mean([n / rank for n, rank in enumerate(hits, 1)])
    return total / len(labels)


def test_it_is_its_formula():
    rows, labels = world()
    labels[5:9] = -1
    labels[10] = 999  # alone in its group
    whitening = fit_adaptation(rows, labels, 0.3)
    scatter, freedom = np.zeros((DIM, DIM)), 0
    for group in np.unique(labels):
        members = rows[labels == group].astype(np.float64)
        if group >= 0 and len(members) > 1:
            freedom += len(members) - 1
            for member in members - members.mean(axis=0):
                scatter += np.outer(member, member)
    within = scatter / freedom
    shrunk = 0.7 * within + 0.3 * np.trace(within) / DIM * np.eye(DIM)
    gram = whitening.projection.T @ whitening.projection
    np.testing.assert_allclose(gram, np.linalg.inv(shrunk), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(whitening.mean, rows.astype(np.float64).mean(axis=0))


def test_components_go_from_strong_to_weak():
    rows, labels = world()
    projected = fit_adaptation(rows, labels, 0.1).project(rows)
    covariance = np.cov(projected.T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-8)
    assert (np.diff(np.diag(covariance)) <= 1e-9).all()
    assert fit_adaptation(rows, labels, 0.1).apply(rows, 5).shape == (len(rows), 5)


def test_things_never_seen_are_told_apart_better():
    whitening = fit_adaptation(*world(seed=0))
    rows, labels = world(seed=1)
    plain = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert mean_average_precision(plain, labels) < 0.3
    assert mean_average_precision(whitening.apply(rows), labels) > 0.7


def test_the_shrinkage_is_the_best_on_groups_left_out():
    rows, labels = world(groups=23, photos=3)
    fold, scores = np.random.default_rng(7).permutation(23) % 5, {}
    for amount in adaptation.SHRINKAGES:
        scores[amount] = 0.0
        for part in range(5):
            out = fold[labels] == part
            projection = fit_adaptation(rows[~out], labels[~out], amount).projection
            seen = (rows[out] - rows.astype(np.float64).mean(axis=0)) @ projection.T
            seen /= np.linalg.norm(seen, axis=1, keepdims=True)
            scores[amount] += mean_average_precision(seen, labels[out]) * out.sum()
    best = max(scores, key=lambda amount: (round(scores[amount], 9), amount))
    assert len({round(score, 6) for score in scores.values()}) > 3
    assert fit_adaptation(rows, labels, seed=7).provenance["shrinkage"] == f"{best:g}"


def test_equal_scores_choose_the_largest_shrinkage():
    rows, labels = world(groups=2, photos=5)  # a fold of one group is always ranked well
    assert fit_adaptation(rows, labels).provenance["shrinkage"] == "0.9"


def test_judged_photos_are_capped(monkeypatch):
    monkeypatch.setattr(adaptation, "MOST_JUDGED", 8)
    seen = []
    judge = adaptation._average_precisions
    monkeypatch.setattr(adaptation, "_average_precisions", lambda *a: (seen.append(len(a[1])), judge(*a))[1])
    fit_adaptation(*world(groups=20, photos=3))
    assert set(seen) == {6}


def test_it_is_a_whitening_on_disk(tmp_path):
    rows, labels = world()
    whitening = fit_adaptation(rows, labels).noted(backbone="resnet101")
    whitening.save(tmp_path / "x.safetensors")
    loaded = Whitening.load(tmp_path / "x.safetensors")
    assert loaded.fingerprint == whitening.fingerprint
    facts = {"method": "adaptation", "samples": "160", "groups": "40", "grouped": "160", "backbone": "resnet101"}
    assert facts.items() <= loaded.provenance.items()


def test_fewer_photos_than_dimensions():
    rows, labels = world(groups=3, photos=2)
    assert np.isfinite(fit_adaptation(rows, labels).apply(rows)).all()


def test_bad_arguments():
    rows, labels = world(groups=3)
    for shrinkage in (0, 1.5):
        with pytest.raises(UsageError, match="shrinkage="):
            fit_adaptation(rows, labels, shrinkage)
    with pytest.raises(UsageError, match="no two of the 12 photos"):
        fit_adaptation(rows, np.arange(12))
    with pytest.raises(UsageError, match="no two of the 12 photos"):
        fit_adaptation(rows, np.full(12, -1))
    with pytest.raises(UsageError, match="one group"):
        fit_adaptation(rows, np.zeros(12, int))
    assert fit_adaptation(rows, np.zeros(12, int), 0.5).dim == DIM
    with pytest.raises(ArrayError, match="equal descriptors"):
        fit_adaptation(np.ones((4, 3)), [0, 0, 1, 1])
    with pytest.raises(ArrayError, match="groups has shape"):
        fit_adaptation(rows, labels[:3])
    rows[4, 2] = np.nan
    with pytest.raises(ArrayError, match="row 4 of descriptors holds NaN"):
        fit_adaptation(rows, labels)
