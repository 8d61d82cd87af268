"""A search step by step gives the answer of the search at once, and can be left between two steps."""

from __future__ import annotations

import time

import pytest

from resight.collection import open_collection
from resight.collection.answer import Answer
from resight.collection.query import query_of_pixels
from resight.collection.steps import Proved, Ranked, provisional, search_in_steps
from resight.images.decode import decode
from resight.images.scan import content_hash
from resight.types import Box


def plain(answer):
    return [(r.id, r.score, r.match, r.inliers) for r in answer.results]


@pytest.mark.parametrize(("recipe", "options"), [("classic", {}), ("hybrid", {}), ("hybrid", {"expand": False})])
@pytest.mark.parametrize("batch", [0, 1, 7, 1000])
def test_batches_do_not_change_the_answer(world, recipe, options, batch):
    collection = open_collection(world.path(recipe))
    expected = collection.search("001-1.jpg", top=10, **options)
    query, rule = collection.query("001-1.jpg"), collection.match_rule()
    steps = list(search_in_steps(collection.snapshot, rule, collection.pipeline(**options), query, top=10, batch=batch))
    assert isinstance(steps[0], Ranked)
    assert isinstance(steps[-1], Answer)
    assert plain(steps[-1]) == plain(expected)
    proved = [step for step in steps if isinstance(step, Proved)]
    assert bool(proved) == bool(batch)
    assert all(len(step.rows) <= batch for step in proved)
    assert all(0 < step.done <= step.of for step in proved)


def test_what_is_told_of_a_proof_is_what_the_answer_says_without_expansion(world):
    collection = open_collection(world.path("classic"))
    query, rule = collection.query("001-1.jpg"), collection.match_rule()
    *steps, answer = search_in_steps(
        collection.snapshot, rule, collection.pipeline(expand=False), query, top=23, batch=50
    )
    told = {
        r.id: r
        for step in steps
        if isinstance(step, Proved)
        for r in provisional(collection.snapshot, rule, query, step)
    }
    for result in answer.results:
        assert told[result.id].inliers == result.inliers
        assert told[result.id].score == pytest.approx(result.score, abs=1e-4)
        assert told[result.id].match == result.match


@pytest.mark.parametrize(("recipe", "options"), [("classic", {"expand": False}), ("hybrid", {"expand": False})])
def test_geometry_stops_when_its_time_is_over(world, recipe, options):
    """At once: one batch is looked at and no more, and what lies behind it has no verification, nor is it a match."""
    collection = open_collection(world.path(recipe))
    query, rule = collection.query("001-1.jpg"), collection.match_rule()
    pipeline = collection.pipeline(**options)
    late = search_in_steps(collection.snapshot, rule, pipeline, query, top=20, batch=5, until=0.0)
    first, *_, answer = late
    assert isinstance(answer, Answer)
    assert answer.cut == 5
    assert [result.verification is not None for result in answer.results] == [True] * 5 + [False] * 15
    assert {result.row for result in answer.results[:5]} == set(first.rows[:5].tolist())
    assert not any(result.match for result in answer.results[5:])
    whole = collection.search("001-1.jpg", top=20, **options)
    assert whole.cut is None
    assert {r.id for r in answer.results if r.match} == {r.id for r in whole.results if r.match}


@pytest.mark.parametrize("recipe", ["classic", "hybrid"])
def test_time_that_suffices_changes_nothing(world, recipe):
    collection = open_collection(world.path(recipe))
    query, rule = collection.query("001-1.jpg"), collection.match_rule()
    *_, short = search_in_steps(collection.snapshot, rule, collection.pipeline(), query, top=9, batch=4, until=0.0)
    *_, long = search_in_steps(
        collection.snapshot, rule, collection.pipeline(), query, top=9, batch=4, until=time.perf_counter() + 600
    )
    assert short.cut == 4
    assert long.cut is None
    assert plain(long) == plain(collection.search("001-1.jpg", top=9))


@pytest.mark.parametrize("recipe", ["classic", "hybrid"])
def test_decoded_photos_are_the_queries_that_their_files_are(world, recipe):
    collection = open_collection(world.path(recipe))
    path = str(world.photos.folder / "001-1.jpg")
    photo = decode(path, max_side=collection.settings.max_side)
    known = query_of_pixels(collection.snapshot, "x", photo, None, content_hash(path))
    assert plain(collection.search(known)) == plain(collection.search(path))
    fresh = query_of_pixels(collection.snapshot, "x", photo)
    assert fresh.copies.size == 0
    assert collection.search(fresh, top=1).results[0].id == "001-1.jpg"
    box = Box(40, 30, 200, 150)
    part = query_of_pixels(collection.snapshot, "x", photo, box)
    assert plain(collection.search(part)) == plain(collection.search(path, box))
