"""Training losses against the numbers of the authors' programs, and against plain loops."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from resight.training import losses

FOLDER = Path(__file__).parents[2] / "../shared/reference"
needs_reference = pytest.mark.skipif(not FOLDER.exists(), reason=f"no reference numbers at {FOLDER}")
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def reference():
    named = {}
    for name in ("cirtorch_how_dir_fire", "misc"):
        named |= dict(np.load(FOLDER / f"{name}.npz", allow_pickle=False))
    return named


def tuples(reference, name):
    rows = torch.tensor(reference[f"{name}_x"].T.copy(), requires_grad=True)
    return rows, torch.tensor(reference[f"{name}_label"])


@needs_reference
def test_contrastive(reference):
    rows, labels = tuples(reference, "loss")
    for margin in (0.7, 0.85):
        loss = losses.contrastive(rows, labels, margin)
        assert loss.item() == pytest.approx(float(reference[f"contrastive_{margin}"]), abs=1e-5)
    losses.contrastive(rows, labels, 0.7).backward()
    np.testing.assert_allclose(rows.grad.numpy().T, reference["contrastive_0.7_grad"], atol=1e-5)


@needs_reference
def test_triplet_and_second_order(reference):
    rows, labels = tuples(reference, "loss")
    assert losses.triplet(rows, labels, 0.1).item() == pytest.approx(float(reference["triplet_0.1"]), abs=1e-5)
    rows, labels = tuples(reference, "solar")
    mean = losses.triplet(rows, labels, 1.25).item() / 2
    assert mean == pytest.approx(float(reference["solar_triplet_1.25"]), abs=1e-5)
    assert losses.second_order(rows, labels).item() == pytest.approx(float(reference["solar_sos"]), abs=1e-5)


@needs_reference
def test_average_precision(reference):
    scores = torch.tensor(reference["ap_x"], requires_grad=True)
    labels = torch.tensor(reference["ap_y"])
    loss = losses.average_precision(scores, labels, 20)
    loss.backward()
    assert loss.item() == pytest.approx(float(reference["aploss_nq20_0"]), abs=1e-6)
    np.testing.assert_allclose(scores.grad.numpy(), reference["aploss_nq20_0_grad"], atol=1e-5)
    for q, expected in enumerate(reference["ap_nq20_0"]):
        one = losses.average_precision(scores[q : q + 1], labels[q : q + 1], 20).item()
        assert 1 - one == pytest.approx(float(expected), abs=1e-6)
    for form, name in (("tie-aware", "taploss"), ("simplified", "taps")):
        value = losses.average_precision(scores, labels, 20, form=form).item()
        assert value == pytest.approx(float(reference[f"{name}_nq20_0"]), abs=1e-6)


@needs_reference
def test_arcface(reference):
    x, weight, classes = (torch.tensor(reference[f"curricular_{part}"]) for part in ("in", "w", "y"))
    logits = losses.arcface_logits(x, weight, classes, 0.1, 45.25)
    np.testing.assert_allclose(logits.numpy(), reference["delg_tf_arcface_m0.1_s45.25"], atol=1e-5)


@needs_reference
def test_curricularface(reference):
    x, weight, classes = (torch.tensor(reference[f"curricular_{part}"]) for part in ("in", "w", "y"))
    logits, _ = losses.curricularface_logits(x, weight, classes, 0.0, 0.15, 30)
    np.testing.assert_allclose(logits.numpy(), reference["curricular_logits"], atol=1e-5)


@needs_reference
def test_fire(reference):
    loss = losses.decorrelation(torch.tensor(reference["dec_in"]))
    assert loss.item() == pytest.approx(float(reference["dec_loss"]), abs=1e-6)
    x = torch.tensor(reference["sf_in"])
    rows = torch.nn.functional.normalize(x, dim=2)
    assert losses.superfeature_matches(rows[0], rows[1], faithful=True).tolist() == reference["sf_match"].tolist()
    loss = losses.superfeature(x, faithful=True)
    assert loss.item() == pytest.approx(float(reference["sf_loss"]), abs=1e-6)


def random_tuples(seed, positives=1):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[-1] + [1] * positives + [0] * negatives for negatives in (1, 4, 0, 2)])
    rows = rng.standard_normal((len(labels), 6))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels


def walk(rows, labels):
    """(query, row, label, positive of that query) of every other row."""
    for i, label in enumerate(labels):
        if label == -1:
            query = i
        else:
            yield rows[query], rows[i], label, rows[query + 1]


def test_tuple_losses_are_their_formulas():
    rows, labels = random_tuples(0, positives=2)
    expected = 0.0
    for query, row, label, _ in walk(rows, labels):
        d = np.linalg.norm(query - row + 1e-6)
        expected += d**2 / 2 if label else max(0, 0.9 - d) ** 2 / 2
    assert losses.contrastive(torch.tensor(rows), torch.tensor(labels), 0.9).item() == pytest.approx(expected)

    rows, labels = random_tuples(1)
    total, squares = 0.0, 0.0
    for query, row, label, positive in walk(rows, labels):
        if label == 0:
            total += max(0, ((query - positive) ** 2).sum() - ((query - row) ** 2).sum() + 0.5)
            squares += (((query - row) ** 2).sum() - ((positive - row) ** 2).sum()) ** 2
    x, y = torch.tensor(rows), torch.tensor(labels)
    assert losses.triplet(x, y, 0.5).item() == pytest.approx(total)
    assert losses.second_order(x, y).item() == pytest.approx(math.sqrt(squares) / 4)


def test_average_precision_is_its_formula():
    rng = np.random.default_rng(2)
    scores, labels = rng.uniform(-1.3, 1.3, (3, 30)), rng.integers(0, 2, (3, 30))
    bins, aps = 8, []
    for x, y in zip(scores, labels, strict=True):
        seen = hit = ap = 0.0
        for k in range(bins):
            centre = 1 - 2 * k / (bins - 1)
            for value, relevant in zip(x, y, strict=True):
                inside = min(max(value, -1), 1)
                share = max(0, 1 - abs(inside - centre) * (bins - 1) / 2)
                seen, hit = seen + share, hit + share * relevant
            recalled = sum(
                max(0, 1 - abs(min(max(v, -1), 1) - centre) * (bins - 1) / 2) for v, r in zip(x, y, strict=True) if r
            )
            ap += hit / (seen + 1e-16) * recalled / y.sum()
        aps.append(ap)
    loss = losses.average_precision(torch.tensor(scores), torch.tensor(labels), bins, -1, 1)
    assert loss.item() == pytest.approx(1 - np.mean(aps))


@pytest.mark.parametrize("kind", ["arcface", "curricularface"])
def test_class_losses_are_their_formulas(kind):
    rng = np.random.default_rng(4)
    x, weight, classes = rng.standard_normal((12, 5)), rng.standard_normal((7, 5)), rng.integers(0, 7, 12)
    x[0], x[1] = -weight[classes[0]], weight[classes[1]]  # the angle 0, and one beyond pi - margin
    progress = 0.3
    for _ in range(2):
        angle = np.array([[math.acos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)) for b in weight]
                          for a in x])  # fmt: skip
        own = [math.cos(angle[i, c]) for i, c in enumerate(classes)]
        moved = 0.9 * progress + 0.1 * sum(own) / 12
        expected, hard = np.cos(angle), 0
        for i, c in enumerate(classes):
            within = angle[i, c] + 0.4 <= math.pi
            for j in range(7):
                if j == c:
                    outside = own[i] if kind == "arcface" else own[i] - 0.4 * math.sin(0.4)
                    expected[i, j] = math.cos(angle[i, c] + 0.4) if within else outside
                elif kind == "curricularface" and math.cos(angle[i, j]) > math.cos(angle[i, c] + 0.4):
                    expected[i, j] *= moved + expected[i, j]
                    hard += 1
        arguments = [torch.tensor(part) for part in (x, weight, classes)]
        if kind == "arcface":
            logits = losses.arcface_logits(*arguments, 0.4, 20)
        else:
            assert 0 < hard < 72
            logits, progress = losses.curricularface_logits(*arguments, progress, 0.4, 20, 0.9)
            assert progress.item() == pytest.approx(moved)
            progress = progress.item()
        np.testing.assert_allclose(logits.numpy(), 20 * expected, atol=1e-4)
        x = x[::-1].copy()


def test_superfeature_is_its_formula():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((4, 9, 5))
    x[1] = x[0] + 0.5 * rng.standard_normal((9, 5))
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    expected, matched = 0.0, []
    for i in range(9):
        there = [np.linalg.norm(x[0, i] - x[1, j]) for j in range(9)]
        back = [np.linalg.norm(x[0, j] - x[1, i]) for j in range(9)]
        if np.argmin(there) == i == np.argmin(back) and there[i] <= 0.8 * sorted(there)[1]:
            matched.append(i)
            expected += there[i] ** 2 / 2
            expected += sum(max(0, 1.1 - np.linalg.norm(x[0, i] - x[n, i])) ** 2 / 2 for n in (2, 3))
    assert 0 < len(matched) < 9
    assert losses.superfeature(torch.tensor(x), ratio=0.8).item() == pytest.approx(0.02 * expected, rel=1e-4)
