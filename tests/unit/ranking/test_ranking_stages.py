"""Search, verification and expansion over a handful of planted images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from resight.collection.answer import MatchRule
from resight.errors import UsageError
from resight.features.local.compact import compact
from resight.index.asmk import Asmk, Codebook
from resight.matching.geometry import verify
from resight.ranking.confidence import UNKNOWN, Confidence
from resight.ranking.hamming import SURE, HammingExpansion, within
from resight.ranking.pipeline import Pipeline
from resight.ranking.query_words import words_of
from resight.ranking.search import AsmkSearch, local_features, restrict, stack
from resight.ranking.vector_database import VectorDatabase
from resight.ranking.verification import (
    CEILING,
    ONSET,
    WEIGHT,
    SpatialRerank,
    Verifier,
    describe,
    evidence,
    with_own_scores,
)
from resight.recipes.catalogue import Settings, settings_of
from resight.recipes.local import classic
from resight.recipes.resources import ArrayResources
from resight.recipes.settings import GlobalSettings, LocalSettings
from resight.types import LocalFeatures, Queries, Ranking

DIM = 16


def unit(rng, n, dim=DIM):
    values = rng.normal(size=(n, dim)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def image(descriptors, xy):
    n = len(descriptors)
    return LocalFeatures(xy, np.full(n, 2.0), np.zeros(n), np.ones(n), descriptors)


def moved(features, rng, shift=(20.0, 10.0), noise=0.05, keep=slice(None)):
    """The same thing a bit further right and down, described almost alike."""
    part = features.select(keep)
    descriptors = part.descriptors + rng.normal(0, noise, part.descriptors.shape).astype(np.float32)
    return image(descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True), part.xy + np.float32(shift))


@pytest.fixture(scope="module")
def world():
    """Row 0: a view of the query. Row 1: shows what row 0 shows beyond the query. Rows 2-11: other things."""
    rng = np.random.default_rng(4)
    thing = image(unit(rng, 80), rng.uniform(0, 200, (80, 2)))
    query = thing.select(np.arange(0, 60))
    rows = [moved(thing, rng), moved(thing, rng, (-15.0, 5.0), keep=np.arange(40, 80))]
    rows += [image(unit(rng, 60), rng.uniform(0, 200, (60, 2))) for _ in range(10)]
    index = Asmk(Codebook.fit(np.concatenate([f.descriptors for f in rows]), 24), binary=False, query_multiple=2)
    index.add(*stack(tuple(rows), DIM))
    return query, rows, index


@pytest.fixture
def verifier(world):
    return Verifier(lambda rows: [world[1][row] for row in rows])


@pytest.fixture
def queries(world):
    return Queries(local=(world[0],))


def test_stack_numbers_the_images(world):
    rows, descriptors = stack((world[1][2], LocalFeatures(*_nothing()), world[1][3]), DIM)
    assert np.unique(rows, return_counts=True)[0].tolist() == [0, 2]
    assert np.array_equal(descriptors[60:], world[1][3].descriptors)
    assert stack((), DIM)[1].shape == (0, DIM)


def _nothing():
    none = np.zeros(0)
    return np.zeros((0, 2)), none, none, none, np.zeros((0, DIM))


def test_search_finds_and_explains(world, queries):
    search = AsmkSearch(world[2])
    ranking = search(queries)
    assert ranking.ids[0, 0] == 0
    assert sorted(ranking.ids[0].tolist()) == list(range(12))
    (item,) = search.explain(queries, 0, 0)
    assert item.data == {"rank": 1, "similarity": pytest.approx(ranking.scores[0, 0])}
    assert "rank 1 of 12" in item.summary


def test_search_stands_first(queries, world):
    with pytest.raises(UsageError, match="put it first"):
        AsmkSearch(world[2])(queries, Ranking([[1]], [[1.0]]))
    with pytest.raises(UsageError, match="no local features"):
        AsmkSearch(world[2])(Queries(rows=[1]))
    assert local_features(queries)[0] is world[0]


def test_search_within_allowed_rows(world, queries):
    allowed = np.array([1, 5, 7])
    full, part = AsmkSearch(world[2])(queries), AsmkSearch(world[2], allowed)(queries)
    assert part.ids[0].tolist() == [row for row in full.ids[0].tolist() if row in allowed]
    assert AsmkSearch(world[2], allowed).explain(queries, 0, 2)[0].data == {}


def test_restrict_keeps_order_and_pads():
    ranking = Ranking([[3, 1, 2, -1], [2, 5, 4, 1]], [[4, 3, 2, -np.inf], [4, 3, 2, 1]])
    kept = restrict(ranking, np.array([1, 2, 3]))
    assert kept.ids.tolist() == [[3, 1, 2], [2, 1, -1]]
    assert kept.scores.tolist() == [[4, 3, 2], [4, 1, -np.inf]]
    assert restrict(ranking, None) is ranking
    assert restrict(ranking, np.zeros(0, int)).ids.shape == (2, 0)


def test_restrict_never_takes_the_end_mark_for_a_row():
    assert restrict(Ranking([[3, -1]], [[1, -np.inf]]), np.array([-1, 3])).ids.tolist()[0][0] == 3


def test_verifier_agrees_with_verify_and_remembers(world, monkeypatch):
    monkeypatch.setattr("resight.ranking.verification.REMEMBERED", 4)
    asked = []

    def source(rows):
        asked.append(rows.tolist())
        return [world[1][row] for row in rows]

    verifier = Verifier(source)
    first = verifier(world[0], [0, 4])
    assert first[0].inliers == verify(world[0], world[1][0]).inliers
    again = verifier(world[0], [4, 0, 5])
    assert again[1] is first[0]
    assert asked == [[0, 4], [5]]
    for other in range(2, 8):
        verifier(world[1][other], [0])
    forgotten = verifier(world[0], [0])
    assert forgotten[0] is not first[0]
    assert len(verifier._memory) <= 4
    assert asked == [[0, 4], [5]]  # photos are read once


def test_verifier_reads_again_what_it_has_no_room_for(world, monkeypatch):
    monkeypatch.setattr("resight.ranking.verification.HOT_BYTES", 3 * compact(world[1][2]).nbytes)
    asked = []

    def source(rows):
        asked.append(rows.tolist())
        return [compact(world[1][row]) for row in rows]

    verifier = Verifier(lambda _: pytest.fail("the compact form is read instead"), source)
    before = verifier(world[0], np.arange(2, 9))
    verifier(world[1][5], [8, 2])
    assert asked == [[2, 3, 4, 5, 6, 7, 8], [2]]
    plain = Verifier(lambda rows: [world[1][row] for row in rows])(world[0], np.arange(2, 9))
    for got, want in zip(before, plain, strict=True):
        np.testing.assert_array_equal(got.correspondences, want.correspondences)
        np.testing.assert_array_equal(got.mask, want.mask)


def test_words_of_a_query_are_sought_once(world, monkeypatch):
    query, _, index = world
    same = query.select(slice(None))
    expected = index.search(*stack((same,), DIM))
    searched = []
    assign = Codebook.assign
    monkeypatch.setattr(Codebook, "assign", lambda *given: searched.append(len(given[1])) or assign(*given))
    for _ in range(2):
        found = AsmkSearch(index)(Queries(local=(same,)))
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.scores, expected.scores)
    assert searched == [60]
    other = Codebook(index.codebook.centroids[:7])
    assert words_of(other, same, 2).max() < 7
    assert searched == [60, 60]


def test_evidence_is_bounded(verifier, world):
    proof, accident = verifier(world[0], [0, 4])
    assert proof.verified
    assert evidence(proof) == pytest.approx(WEIGHT * (min(proof.significance, CEILING) - ONSET))
    assert 0 <= evidence(accident) < evidence(proof) <= WEIGHT * (CEILING - ONSET)
    assert f"{proof.inliers} of {proof.tentative}" in describe(proof)
    assert describe(accident).startswith("no affine view")


def test_rerank_only_adds(verifier, queries):
    scale = Confidence(0.5, 2.0, 24.0, 100)
    ids, scores = [[7, 4, 0, 1, 9, 2]], [[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]]
    before = Ranking(ids, scores)
    after = SpatialRerank(verifier, scale, top=4)(queries, before)
    expected = dict(zip(ids[0], (np.array(scores[0]) - 0.5) / 2, strict=True))
    gained = {row: float(s) - expected[row] for row, s in zip(after.ids[0].tolist(), after.scores[0], strict=True)}
    for row, gain in gained.items():
        assert gain == pytest.approx(evidence(verifier(queries.local[0], [row])[0]) if row in (7, 4, 0, 1) else 0)
    assert after.ids[0, 0] == 0
    assert after.ids[0, 4:].tolist() == [9, 2]
    assert before.scores.tolist() == scores


def test_rerank_keeps_short_and_empty_rows(verifier, world):
    queries = Queries(local=(world[0], world[1][4]))
    before = Ranking([[0, 3], [-1, -1]], [[1.0, 0.5], [-np.inf, -np.inf]])
    after = SpatialRerank(verifier, UNKNOWN)(queries, before)
    assert after.lengths.tolist() == [2, 0]
    with pytest.raises(UsageError, match="SpatialRerank needs a ranking"):
        SpatialRerank(verifier, UNKNOWN)(queries)
    with pytest.raises(UsageError, match="top=0"):
        SpatialRerank(verifier, UNKNOWN, 0)


def test_expansion_finds_what_the_query_does_not_show(world, verifier, queries):
    index = Asmk(Codebook.fit(np.concatenate([f.descriptors for f in world[1]]), 200), binary=False, query_multiple=2)
    index.add(*stack(tuple(world[1]), DIM))
    plain = AsmkSearch(index)(queries)
    expanded = HammingExpansion(index, verifier)(queries, plain)
    gain = [_score(expanded, row) - _score(plain, row) for row in range(12)]
    assert gain[1] > max(0, *gain[2:])


def _score(ranking, row):
    return float(ranking.scores[0][ranking.ids[0] == row][0])


def test_expansion_by_verified_photos_only(world, verifier, queries):
    stage = HammingExpansion(world[2], verifier)
    before = AsmkSearch(world[2])(queries)
    (item,) = stage.explain(queries, 0, 0, before)
    rows = item.data["sources"]
    proven = [row for row in before.ids[0].tolist() if verifier(world[0], [row])[0].verified]
    assert rows == proven
    assert 0 in rows
    assert not set(rows) & set(range(2, 12))
    assert "this one among them" in item.summary
    assert "this one among them" not in stage.explain(queries, 0, 7, before)[0].summary


def test_expansion_without_a_source_is_the_search_again(world, verifier):
    lonely = Queries(local=(world[1][6],))
    before = Ranking([[3, 4, 5]], [[3.0, 2.0, 1.0]])
    stage = HammingExpansion(world[2], verifier)
    again = stage(lonely, before)
    plain = AsmkSearch(world[2])(lonely)
    assert np.array_equal(again.ids, plain.ids)
    assert np.array_equal(again.scores, plain.scores)
    assert stage.explain(lonely, 0, 3, before) == ()


@pytest.mark.parametrize("verified", [True, False])
def test_a_source_gains_nothing_from_its_own_features(world, verifier, queries, verified):
    """It scores as if it had not been a source; all others score as the whole enriched query finds them. What unrelated
    photos score grows with the root of the number of words, and is brought back to that of the query alone.
    """
    index, before = world[2], AsmkSearch(world[2])(queries)
    stage = HammingExpansion(index, verifier, sources=4, verified=verified)
    sources = stage.explain(queries, 0, 0, before)[0].data["sources"]
    assert len(sources) >= 2
    found = stage(queries, before)
    scores = dict(zip(found.ids[0].tolist(), found.scores[0].tolist(), strict=True))
    features = {row: _added(world, verifier, row, verified) for row in sources}
    first, words = _scores_and_words(index, (world[0], *features.values()))
    query_words = _scores_and_words(index, (world[0],))[1]
    unrelated = np.median(first)
    for row in range(12):
        parts = (world[0], *(part for source, part in features.items() if source != row))
        alone, count = _scores_and_words(index, parts)
        back = unrelated * (np.sqrt(count / words) - np.sqrt(query_words / words))
        assert scores[row] == pytest.approx(alone[row] - back, rel=1e-4)
    assert found.scores[0].tolist() == sorted(found.scores[0].tolist(), reverse=True)


def test_the_only_source_keeps_its_score(world, verifier):
    """A wrong photo that a few inliers prove must not prove itself: alone it gets what the query gave it."""
    queries = Queries(local=(world[0],))
    before = AsmkSearch(world[2])(queries)
    found = HammingExpansion(world[2], verifier, sources=1)(queries, before)
    assert _score(found, 0) == pytest.approx(_score(before, 0), rel=1e-5)


def _scores_and_words(index, parts):
    descriptors = stack(parts, DIM)[1]
    return index.scores(np.zeros(len(descriptors), int), descriptors)[0], len(np.unique(index.query_words(descriptors)))


def test_a_doubtful_photo_is_no_source(world, verifier, queries):
    before = AsmkSearch(world[2])(queries)

    def doubting(query, rows):
        return [replace(proof, significance=SURE - 0.1) for proof in verifier(query, rows)]

    assert verifier(world[0], [0])[0].significance > SURE
    stage = HammingExpansion(world[2], doubting)
    assert stage.explain(queries, 0, 0, before) == ()


def _added(world, verifier, row, verified):
    return within(world[0], world[1][row], verifier(world[0], [row])[0]) if verified else world[1][row]


def test_expansion_leaves_out_the_query_itself(world, verifier):
    queries = Queries(local=(world[1][0],), rows=[0])
    before = AsmkSearch(world[2])(queries)
    assert before.ids[0, 0] == 0
    (item,) = HammingExpansion(world[2], verifier).explain(queries, 0, 1, before)
    assert 0 not in item.data["sources"]


def test_expansion_takes_so_many_sources_from_the_top(world, verifier, queries):
    before = Ranking([[9, 0, 5, 1]], [[4.0, 3.0, 2.0, 1.0]])
    rows = HammingExpansion(world[2], verifier, sources=2, verified=False).explain(queries, 0, 0, before)
    assert rows[0].data["sources"] == [9, 0]
    assert HammingExpansion(world[2], verifier, top=1).explain(queries, 0, 0, before) == ()
    for bad in ({"sources": 0}, {"top": 0}):
        with pytest.raises(UsageError, match="at least 1"):
            HammingExpansion(world[2], verifier, **bad)


def test_expansion_respects_allowed_rows(world, verifier, queries):
    stage = HammingExpansion(world[2], verifier, allowed=np.array([1, 3]))
    assert sorted(stage(queries, Ranking([[0]], [[1.0]])).ids[0].tolist()) == [1, 3]


def test_within_keeps_what_lies_in_the_frame(world, verifier):
    query, rows, _ = world
    proof = verifier(query, [0])[0]
    kept = within(query, rows[0], proof)
    back = rows[0].xy - (20, 10)
    inside = ((back >= query.xy.min(0)) & (back <= query.xy.max(0))).all(axis=1)
    assert abs(len(kept) - inside.sum()) <= 2
    with pytest.raises(UsageError, match="only a verified photo"):
        within(query, rows[5], verifier(query, [5])[0])


def resources_of(world, verifier):
    database = VectorDatabase.over(np.eye(2, dtype=np.float32))  # which recipe classic does not look at
    return ArrayResources(database, index=world[2], verifier=verifier)


def test_classic_puts_the_stages_together(world, verifier, queries):
    resources = resources_of(world, verifier)
    names = [type(stage).__name__ for stage in classic(resources).stages]
    assert names == ["AsmkSearch", "SpatialRerank", "HammingExpansion", "SpatialRerank"]
    assert len(classic(resources, expand=False).stages) == 2
    ranking = classic(resources)(queries)
    assert ranking.ids[0, 0] == 0
    assert sorted(ranking.ids[0].tolist()) == list(range(12))
    assert sorted(classic(resources, allowed=np.array([2, 8]))(queries).ids[0].tolist()) == [2, 8]


def test_own_scores_are_those_before_expansion(world, verifier, queries):
    pipeline = classic(resources_of(world, verifier))
    found, own = with_own_scores(pipeline, queries)
    assert np.array_equal(found.scores, pipeline(queries).scores)
    assert np.array_equal(own.scores, Pipeline(pipeline.stages[:2])(queries).scores)
    search = Pipeline((AsmkSearch(world[2]),))
    assert with_own_scores(search, queries)[1].scores.tolist() == search(queries).scores.tolist()


def test_a_match_needs_its_own_proof(world, verifier):
    """Whatever expansion adds: the score without it, or the geometry of the result, must reach the threshold too."""
    proof, rule = verifier(world[0], [0])[0], MatchRule(60.0, proof=True)
    assert evidence(proof) == 48
    assert rule(500.0, proof, own=61.0)
    assert not rule(500.0, proof, own=59.0)
    assert not rule(59.0, proof, own=61.0)
    assert MatchRule(48.0, proof=True)(500.0, proof, own=-np.inf)
    assert not rule(500.0, verifier(world[0], [5])[0], own=500.0)


def test_settings_come_from_the_recipe():
    assert settings_of("classic", {}) == Settings("classic", (LocalSettings(),), None)
    made = settings_of("classic", {"count": 50, "words": 9, "binary": False, "contrast": 0, "idf": True}).local
    assert (made.encoder.count, made.encoding.contrast, made.words(10**6)) == (50, 0, 9)
    assert (made.indexing.binary, made.indexing.idf) == (False, True)
    assert settings_of("classic", {"words": None}).local.indexing.words is None
    gem = settings_of("gem", {"backbone": "net.onnx", "scales": [1, 0.5], "p": 4})
    assert gem == Settings("gem", (), GlobalSettings(backbone="net.onnx", scales=(1.0, 0.5), p=4))
    both = settings_of("hybrid", {"max_side": 600, "count": 9})
    assert (both.local.max_side, both.vector.max_side, both.local.encoding.count, both.max_side) == (600, 600, 9, 600)


def test_settings_of_several_kinds():
    made = settings_of("hybrid", {"features": "how, rootsift", "how.count": 7, "count": 5, "vector.p": 4.0})
    assert [(kind.features, kind.key) for kind in made.kinds] == [("rootsift", ""), ("how", "how")]
    assert [kind.encoding.count for kind in made.kinds] == [5, 7]
    assert (made.vector.p, made.further, made.max_side) == (4.0, ("how",), 1024)
    one = settings_of("how", {"max_side": 300, "words": 9, "scales": [1]})
    assert (one.local.features, one.local.key, one.max_side, one.local.words(10**6)) == ("how", "", 300, 9)
    assert one.local.encoding.scales == (1.0,)
    assert settings_of("how", {}).local.words(520_000) in (1024, 2048)
    assert settings_of("classic", {"features": "rootsift"}) == settings_of("classic", {})


@pytest.mark.parametrize(
    ("recipe", "parameters", "message"),
    [
        ("classic", {"features": "surf"}, "features='surf' are unknown"),
        ("classic", {"features": "rootsift,rootsift"}, "each once"),
        ("classic", {"features": 3}, "features=3"),
        ("gem", {"features": "rootsift"}, "no option 'features'"),
        ("hybrid", {"how.count": 3}, "no option 'how.count'"),
        ("hybrid", {"features": ["how"], "how.count": 0}, "count=0"),
        ("nosuch", {}, "recipe 'nosuch' cannot index photos: choose one of classic"),
        ("classic", {"cuont": 3}, "no option 'cuont'"),
        ("classic", {"count": "3"}, "count='3'"),
        ("classic", {"count": True}, "count=True"),
        ("classic", {"binary": 1}, "binary=1"),
        ("classic", {"count": 1.5}, "count=1.5"),
        ("classic", {"words": 0}, "words=0"),
        ("classic", {"words": "many"}, "words='many'"),
        ("classic", {"query_multiple": 0}, "query_multiple=0"),
        ("classic", {"count": 0}, "count=0"),
        ("classic", {"contrast": None}, "contrast=None"),
        ("classic", {"backbone": "net.onnx"}, "no option 'backbone'"),
        ("gem", {"words": 3}, "no option 'words'"),
        ("gem", {"scales": [1, "2"]}, "scales="),
        ("gem", {"scales": [0]}, "scales=.*positive"),
        ("gem", {"pool": "best"}, "pool='best'"),
        ("gem", {"p": 0}, "p=0"),
        ("gem", {"whiten": "yes"}, "whiten='yes'"),
        ("gem", {"whiten_dim": 0}, "whiten_dim=0"),
        ("gem", {"backbone": "a.onnx", "weights": "b.pth"}, "a backbone or weights, not both"),
    ],
)
def test_settings_that_cannot_be(recipe, parameters, message):
    with pytest.raises(UsageError, match=message):
        settings_of(recipe, parameters)
