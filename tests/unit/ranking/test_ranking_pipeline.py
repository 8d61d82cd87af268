from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from resight.errors import UsageError
from resight.ranking.pipeline import Composable, Cut, Fusion, Pipeline, need, reorder
from resight.types import Evidence, Queries, Ranking

QUERIES = Queries(rows=[-1, -1])


@dataclass(frozen=True, eq=False)
class Fixed(Composable):
    """A search that always gives the same ranking."""

    ids: list
    scores: list

    def __call__(self, queries, ranking=None):
        return Ranking.from_lists(self.ids, self.scores)

    def explain(self, queries, query, row, before=None):
        return (Evidence("Fixed", f"{len(queries)} queries, row {row}", {"before": before}),)


@dataclass(frozen=True)
class Backwards(Composable):
    """Turns every row of a ranking around."""

    name: str = "backwards"

    def __call__(self, queries, ranking=None):
        ranking = need(ranking, self.name)
        return Ranking(ranking.ids[:, ::-1], -ranking.scores[:, ::-1])

    def explain(self, queries, query, row, before=None):
        return (Evidence(self.name, str(before.ids[query].tolist()), {}),)


SEARCH = Fixed([[4, 2, 7], [1, 5, 9]], [[3, 2, 1], [6, 5, 4]])


def test_stages_run_one_after_another():
    assert (SEARCH >> Backwards())(QUERIES).ids.tolist() == [[7, 2, 4], [9, 5, 1]]
    assert (SEARCH % 2 >> Backwards())(QUERIES).ids.tolist() == [[2, 4], [5, 1]]
    assert ((SEARCH >> Backwards()) % 1)(QUERIES).ids.tolist() == [[7], [9]]


def test_rshift_is_associative_and_flat():
    a, b = Backwards("a"), Backwards("b")
    left, right = (SEARCH >> a) >> b, SEARCH >> (a >> b)
    assert left.stages == right.stages == (SEARCH, a, b)
    assert np.array_equal(left(QUERIES).ids, SEARCH(QUERIES).ids)


def test_functions_join_on_either_side():
    def search(queries, _=None):
        return SEARCH(queries)

    def drop_first(_, ranking):
        return Ranking(ranking.ids[:, 1:], ranking.scores[:, 1:])

    assert (SEARCH >> drop_first)(QUERIES).ids.tolist() == [[2, 7], [5, 9]]
    assert (search >> Backwards())(QUERIES).ids.tolist() == [[7, 2, 4], [9, 5, 1]]
    assert Pipeline((search,))(QUERIES).ids.tolist() == SEARCH(QUERIES).ids.tolist()


def test_what_is_no_stage_cannot_join():
    with pytest.raises(UsageError, match="3 is not a stage"):
        SEARCH >> 3


def test_cut_keeps_the_first():
    assert (SEARCH % 2)(QUERIES).ids.tolist() == [[4, 2], [1, 5]]
    assert (SEARCH % 10)(QUERIES).ids.tolist() == SEARCH(QUERIES).ids.tolist()
    for k in (0, -3):
        with pytest.raises(UsageError, match=f"cut to {k} results"):
            SEARCH % k


def test_stages_that_need_a_ranking_say_so():
    with pytest.raises(UsageError, match="a cut needs a ranking: put a search stage before it"):
        Cut(3)(QUERIES)
    with pytest.raises(UsageError, match="an empty pipeline"):
        Pipeline(())(QUERIES)


def test_weights_scale_scores():
    for weighted in (SEARCH * 2, 2 * SEARCH):
        ranking = weighted(QUERIES)
        assert ranking.ids.tolist() == SEARCH(QUERIES).ids.tolist()
        assert ranking.scores.tolist() == [[6, 4, 2], [12, 10, 8]]


def test_fusion_is_flat():
    assert [weight for weight, _ in (0.5 * SEARCH + 0.3 * SEARCH + SEARCH).terms] == [0.5, 0.3, 1.0]


def test_fusion_can_be_followed():
    other = Fixed([[2, 4], [9, 1]], [[50, 1], [50, 1]])
    assert ((0.7 * SEARCH + 0.3 * other) % 1)(QUERIES).ids.tolist() == [[2], [9]]


def slow_fusion(parts):
    """parts: list of (weight, {row: score}); every row of any part, missing ones at the part's lowest score."""
    rows = sorted({row for _, scores in parts for row in scores})
    total = {row: sum(w * s.get(row, min(s.values())) for w, s in parts if s) for row in rows}
    return sorted(rows, key=lambda row: (-np.float64(total[row]), row)), total


@pytest.mark.parametrize("seed", range(20))
def test_fusion_against_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    terms, plain = [], [[], []]
    for _ in range(3):
        ids, scores, weight = [], [], float(rng.integers(1, 9)) / 4
        for q in range(2):
            count = int(rng.integers(0, 6))
            rows = rng.choice(8, count, replace=False).tolist()
            values = sorted((rng.integers(0, 16, count) / 4).tolist(), reverse=True)
            ids.append(rows)
            scores.append(values)
            plain[q].append((weight, dict(zip(rows, values, strict=True))))
        terms.append((weight, Fixed(ids, scores)))
    fused = Fusion(tuple(terms))(QUERIES)
    for q in range(2):
        order, total = slow_fusion(plain[q])
        kept = fused.ids[q] >= 0
        assert fused.ids[q][kept].tolist() == order
        assert fused.scores[q][kept] == pytest.approx([total[row] for row in order])


def test_fusion_of_equal_sums_goes_by_row():
    first, second = Fixed([[7, 3]], [[2, 1]]), Fixed([[3, 7]], [[2, 1]])
    assert (first + second)(Queries(rows=[-1])).ids.tolist() == [[3, 7]]


def test_fusion_when_nothing_was_found():
    assert (Fixed([[]], [[]]) + Fixed([[]], [[]]))(Queries(rows=[-1])).ids.shape == (1, 0)
    assert (Fixed([[]], [[]]) + Fixed([[4]], [[2]]))(Queries(rows=[-1])).ids.tolist() == [[4]]


def test_fused_stages_get_the_ranking_before_them():
    fused = (SEARCH >> (Backwards() * 1 + Cut(1)))(QUERIES)
    assert sorted(fused.ids[0].tolist()) == [2, 4, 7]


def test_reorder_puts_equal_scores_by_row():
    rows, scores = reorder(np.array([9, 4, 6]), np.array([1.0, 2.0, 1.0]))
    assert (rows.tolist(), scores.tolist()) == ([4, 6, 9], [2, 1, 1])


def test_explain_follows_the_stages():
    found = (SEARCH % 2 >> Backwards("b")).explain(QUERIES, 1, 5)
    assert [item.stage for item in found] == ["Fixed", "b"]
    assert found[0].summary == "1 queries, row 5"
    assert found[1].summary == "[4, 2]"  # one query alone was asked again, and this search always says the same


def test_explain_of_a_pipeline_inside_another_stage():
    inner = Pipeline((Backwards("b"),))
    before = SEARCH(QUERIES)
    (item,) = inner.explain(QUERIES, 1, 5, before)
    assert item.summary == "[1, 5, 9]"
    found = (0.5 * SEARCH + SEARCH).explain(QUERIES, 0, 4)
    assert [item.stage for item in found] == ["Fixed", "Fixed"]
