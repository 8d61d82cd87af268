"""The metrics against plain loops and against the published program of revisited Oxford and Paris."""

from pathlib import Path

import numpy as np
import pytest

from resight.evaluation import metrics

REFERENCE = Path(__file__).parents[2] / "../shared/reference"
PROTOCOLS = {"E": "easy", "M": "medium", "H": "hard"}


def trapezoid(ranking, positive, junk, at):
    """One query, one element at a time: (AP, precisions)."""
    positive, junk = set(positive), set(junk)
    if not positive:
        return float("nan"), [float("nan")] * len(at)
    kept = [row for row in ranking if row >= 0 and row not in junk]
    ap, hits, ranks = 0.0, 0, []
    for rank, row in enumerate(kept):
        if row in positive:
            before = 1.0 if rank == 0 else hits / rank
            ap += (before + (hits + 1) / (rank + 1)) / 2
            hits += 1
            ranks.append(rank + 1)
    precisions = []
    for k in at:
        depth = min(k, max(ranks)) if ranks else 0
        precisions.append(sum(rank <= depth for rank in ranks) / depth if depth else 0.0)
    return ap / len(positive), precisions


def rectangle(ranking, positive, junk, k=None):
    if not positive:
        return float("nan")
    kept = [row for row in ranking if row >= 0 and row not in junk][:k]
    hits = total = 0
    for rank, row in enumerate(kept):
        if row in positive:
            hits += 1
            total += hits / (rank + 1)
    return total / (len(positive) if k is None else min(k, len(positive)))


def random_case(seed):
    rng = np.random.default_rng(seed)
    rows, queries = int(rng.integers(5, 60)), int(rng.integers(1, 8))
    length = int(rng.integers(1, rows + 1))
    ids = np.stack([rng.permutation(rows)[:length] for _ in range(queries)])
    for row in ids:
        row[int(rng.integers(0, length + 1)) :] = -1
    truth = []
    for _ in range(queries):
        judged = rng.permutation(rows)[: int(rng.integers(0, rows))]
        parts = np.split(judged, np.sort(rng.integers(0, len(judged) + 1, 2)))
        truth.append(dict(zip(("easy", "hard", "junk"), parts, strict=True)))
    return ids, truth, rows


@pytest.mark.parametrize("seed", range(40))
def test_all_metrics_equal_their_plain_loops(seed):
    ids, truth, rows = random_case(seed)
    at = (1, 3, 10)
    for name, scores in metrics.revisited_protocols(ids, truth, at=at, database_size=rows).items():
        positive, junk = metrics.PROTOCOLS[name]
        want = [
            trapezoid(r, np.concatenate([t[p] for p in positive]), np.concatenate([t[j] for j in junk]), at)
            for r, t in zip(ids.tolist(), truth, strict=True)
        ]
        np.testing.assert_allclose(scores.ap, [ap for ap, _ in want], rtol=0, atol=1e-12)
        np.testing.assert_allclose(scores.p_at, [p for _, p in want], rtol=0, atol=1e-12)
    positives, junk = [t["easy"] for t in truth], [t["junk"] for t in truth]
    sets = [(r, set(p.tolist()), set(j.tolist())) for r, p, j in zip(ids.tolist(), positives, junk, strict=True)]
    want = [rectangle(r, p, j) for r, p, j in sets]
    np.testing.assert_allclose(metrics.rectangle_ap(ids, positives, junk).ap, want, rtol=0, atol=1e-12)
    want = [rectangle(r, p, set(), 7) for r, p, _ in sets]
    np.testing.assert_allclose(metrics.mean_average_precision_at(ids, positives, 7).ap, want, rtol=0, atol=1e-12)
    want = [
        [sum(row in p for row in [x for x in r if x not in j][:k]) / len(p) if p else np.nan for k in at]
        for r, p, j in sets
    ]
    recalls = metrics.recall_at(ids, positives, at, junk)
    np.testing.assert_allclose(recalls.per_query, want, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def reference():
    for name in ("revisitop.npz", "data_small.npz"):
        if not (REFERENCE / name).is_file():
            pytest.skip(f"reference case {name} is not at hand in {REFERENCE}")
    with np.load(REFERENCE / "revisitop.npz") as expected, np.load(REFERENCE / "data_small.npz") as data:
        truth = [{k: data[f"gnd_{q}_{k}"] for k in ("easy", "hard", "junk")} for q in range(20)]
        return dict(expected), truth


def assert_parity(scores, expected, prefix):
    got = {"map": scores.map, "aps": scores.ap, "mpr": scores.mp_at, "prs": scores.p_at}
    compared = 0
    for name, value in got.items():
        if f"{prefix}_{name}" in expected:
            np.testing.assert_allclose(value, expected[f"{prefix}_{name}"], rtol=0, atol=1e-12, err_msg=name)
            compared += 1
    assert compared >= 3


@pytest.mark.parametrize("letter", "EMH")
@pytest.mark.parametrize(("kind", "ranks"), [("cos", "small_ranks"), ("random", "small_ranks_random")])
def test_parity_on_full_lists(reference, kind, ranks, letter):
    expected, truth = reference
    scores = metrics.revisited(expected[ranks].T, truth, PROTOCOLS[letter])
    assert_parity(scores, expected, f"small_{kind}_{letter}")
    assert scores.empty == {"E": 2, "M": 1, "H": 2}[letter]


def test_parity_on_lists_cut_at_50(reference):
    expected, truth = reference
    assert_parity(metrics.revisited(expected["small_ranks"][:50].T, truth, "medium"), expected, "small_trunc50")


def test_parity_without_junk(reference):
    expected, truth = reference
    plain = [{"ok": np.concatenate([t["easy"], t["hard"]])} for t in truth]
    assert_parity(metrics.revisited(expected["small_ranks"].T, plain, "plain"), expected, "small_nojunk")
