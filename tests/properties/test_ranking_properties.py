from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.index.asmk import Asmk, Codebook
from resight.ranking.confidence import UNKNOWN
from resight.ranking.hamming import HammingExpansion
from resight.ranking.pipeline import Composable
from resight.ranking.search import AsmkSearch, restrict, stack
from resight.ranking.verification import SpatialRerank, Verifier
from resight.types import LocalFeatures, Queries, Ranking

DIM = 8


@dataclass(frozen=True, eq=False)
class Fixed(Composable):
    ranking: Ranking

    def __call__(self, queries, ranking=None):
        return self.ranking


@st.composite
def rankings(draw, queries=2, rows=12):
    ids, scores = [], []
    for _ in range(queries):
        row = draw(st.lists(st.integers(0, rows - 1), unique=True, max_size=rows))
        values = draw(st.lists(st.integers(-20, 20), min_size=len(row), max_size=len(row)))
        ids.append(row)
        scores.append(sorted((value / 4 for value in values), reverse=True))
    return Ranking.from_lists(ids, scores)


def same(a, b):
    return np.array_equal(a.ids, b.ids) and np.array_equal(a.scores, b.scores)


QUERIES = Queries(rows=[-1, -1])


@given(rankings())
def test_a_stage_that_does_nothing_changes_nothing(ranking):
    def nothing(_, before):
        return before

    assert same((Fixed(ranking) >> nothing)(QUERIES), ranking)
    assert same((Fixed(ranking) % 12)(QUERIES), ranking)
    assert same(restrict(ranking, np.arange(12)), restrict(ranking, None).top(max(1, int(ranking.lengths.max()))))


@given(rankings(), st.integers(1, 15), st.integers(1, 15))
def test_cutting_twice_is_cutting_once(ranking, n, k):
    search = Fixed(ranking)
    assert same((search % n % k)(QUERIES), (search % min(n, k))(QUERIES))


@given(rankings(), rankings())
def test_fusion_does_not_care_for_the_order_of_its_terms(a, b):
    one, two = (Fixed(a) + Fixed(b))(QUERIES), (Fixed(b) + Fixed(a))(QUERIES)
    assert same(one, two)
    for q in range(2):
        assert set(one.ids[q][one.ids[q] >= 0]) == set(a.ids[q][a.ids[q] >= 0]) | set(b.ids[q][b.ids[q] >= 0])


def features(seed, n=25):
    """Images 3k, 3k + 1, 3k + 2 show one thing."""
    rng = np.random.default_rng(seed // 3)
    descriptors, xy = rng.normal(size=(n, DIM)), rng.uniform(0, 200, (n, 2))
    rng = np.random.default_rng((1, seed))
    descriptors = (descriptors + rng.normal(0, 0.05, descriptors.shape)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    one = np.ones(n)
    return LocalFeatures(xy + rng.uniform(0, 30, 2), one * 2, one * 0, one, descriptors)


IMAGES = tuple(features(seed) for seed in range(12))
CODEBOOK = Codebook.fit(np.concatenate([image.descriptors for image in IMAGES]), 12)


def searcher(order):
    """Index and verifier over IMAGES, where image `order[row]` lies at `row`."""
    index = Asmk(CODEBOOK, query_multiple=2)
    index.add(*stack(tuple(IMAGES[i] for i in order), DIM))
    return index, Verifier(lambda rows: [IMAGES[order[row]] for row in rows], jobs=1)


@settings(max_examples=25, deadline=None)
@given(rankings(queries=2), st.integers(1, 12))
def test_reranking_never_drops_and_never_lifts_the_tail(ranking, top):
    _, verifier = searcher(range(12))
    queries = Queries(local=(IMAGES[0], IMAGES[5]))
    after = SpatialRerank(verifier, UNKNOWN, top)(queries, ranking)
    assert np.array_equal(np.sort(after.ids, axis=1), np.sort(ranking.ids, axis=1))
    assert np.array_equal(after.ids[:, top:], ranking.ids[:, top:])
    assert np.array_equal(after.scores[:, top:], ranking.scores[:, top:])


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(12)))
def test_permuting_the_database_permutes_the_answer(order):
    queries = Queries(local=(IMAGES[1], IMAGES[8]))
    answers = []
    for places in (tuple(range(12)), tuple(order)):
        index, verifier = searcher(places)
        rerank = SpatialRerank(verifier, UNKNOWN, 6)
        ranking = (AsmkSearch(index) >> rerank >> HammingExpansion(index, verifier, top=6) >> rerank)(queries)
        found = [
            dict(zip(ids.tolist(), scores.tolist(), strict=True))
            for ids, scores in zip(ranking.ids, ranking.scores, strict=True)
        ]
        answers.append([{places[row]: round(score, 4) for row, score in one.items()} for one in found])
    assert answers[0] == answers[1]
