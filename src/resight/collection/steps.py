"""A search told step by step: what ranks first, then what geometry proves, at last the answer; and why it is so."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from resight.collection.answer import Answer, Explanation, MatchRule, Query, Result
from resight.collection.examples import first, refused, with_example, without_example
from resight.collection.query import identical_first, judge, read_query
from resight.collection.snapshot import Snapshot
from resight.matching.geometry import Verification
from resight.ranking.pipeline import Pipeline, need, run_stage
from resight.ranking.verification import VERIFIED, SpatialRerank, with_own_scores
from resight.types import Box, Int64, Ranking, Stage


@dataclass(frozen=True, eq=False)
class Ranked:
    """Rows (n,) int64 and scores (n,) float32 of the first stage, best first; nothing is proven yet. Scores are
    standardised where the next stage does so.
    """

    rows: Int64
    scores: Any


@dataclass(frozen=True, eq=False)
class Proved:
    """Rows (n,) int64 that geometry has looked at just now, their scores (n,) with its evidence, and how many of all
    those it will look at in this stage.
    """

    rows: Int64
    scores: Any
    done: int
    of: int


Step = Ranked | Proved | Answer


def search_in_steps(
    snapshot: Snapshot,
    rule: MatchRule,
    pipeline: Pipeline,
    query: Query,
    *,
    top: int,
    verify: int | None = None,
    batch: int = 0,
    read: float = 0.0,
    until: float = math.inf,
) -> Iterator[Step]:
    """Answer `query`: a `Ranked`, a `Proved` for every `batch` candidates (0: none), and at last the `Answer`.

    A caller that stops iterating stops the search between two steps. `verify`: results that geometry looks at, None for
    the usual number; `read`: seconds that reading the query took. The answer is the same whatever `batch` is.
    `until`: reading of `time.perf_counter` from which geometry looks at no further batch, though at one in each stage.
    """
    started, verify = time.perf_counter(), VERIFIED if verify is None else verify
    queries, ranking, own, cut = query.queries(), None, None, None
    for number, stage in enumerate(pipeline.stages):
        if ranking is not None and isinstance(stage, SpatialRerank):
            candidates, scores = _standardised(query, ranking, stage)
            first, worth = slice(stage.top), stage.verifier.worth
            looked = yield from _proved(snapshot, query, candidates[first], scores[first], batch, until, worth)
            if looked < len(candidates[first]):
                own_photo = int(query.row in ranking.ids[0, : looked + 1])  # which is no candidate
                stage, cut = replace(stage, top=looked + own_photo), looked
        ranking = run_stage(stage, queries, ranking)
        own = ranking if own is None and isinstance(stage, SpatialRerank) else own
        if number == 0:
            yield Ranked(*_standardised(query, ranking, *pipeline.stages[1:2]))
    found = need(ranking, "an answer")
    rows, scores = ranked_rows(query, found)
    if query.empty:
        rows, scores = rows[:0], scores[:0]  # nothing can be compared: any order would be made up
    verify = verify if cut is None else min(verify, cut)
    seen = min(top, verify)
    looked = yield from _proved(snapshot, query, rows[:seen], scores[:seen], batch, until if cut is None else math.inf)
    if looked < min(seen, len(rows)):
        verify = cut = looked
    own = found if own is None else own
    results = judge(snapshot, rule, query, rows[:top], scores[:top], verify, own=own)
    seconds = (read, time.perf_counter() - started)
    yield Answer(query, results, rule, len(snapshot.differences[1]), snapshot.calibrated, seconds, cut)


def search_all(
    snapshot: Snapshot,
    rule: MatchRule,
    pipeline: Pipeline,
    images: Sequence[str | os.PathLike[str] | Query],
    unlike: Sequence[str | os.PathLike[str] | Query],
    *,
    box: Box | None,
    top: int,
    verify: int | None,
) -> Answer:
    """The first `top` results of several queries, `box` cutting the first one, without what matches the `unlike`, by
    the rule of `resight.collection.examples`. Raises as `read_query` does.
    """

    def found(image: str | os.PathLike[str] | Query, part: Box | None, most: int) -> Answer:
        started = time.perf_counter()
        query = image if isinstance(image, Query) else read_query(snapshot, image, part)
        read = time.perf_counter() - started
        *_, answer = search_in_steps(snapshot, rule, pipeline, query, top=most, verify=verify, read=read)
        assert isinstance(answer, Answer)
        return answer

    wrong = [found(image, None, top) for image in unlike]
    most = top + len(set().union(*map(refused, wrong)))  # so many of the first results may be left out
    answer = found(images[0], box, most)
    for image in images[1:]:
        answer = with_example(answer, found(image, None, most))
    for example in wrong:
        answer = without_example(answer, example)
    return first(answer, top)


def explanation(
    snapshot: Snapshot, rule: MatchRule, pipeline: Pipeline, query: Query, row: int, *, verify: int | None = None
) -> Explanation:
    """Why photo `row` does or does not answer `query`; rank 0 where the search does not return it."""
    ranking, own = with_own_scores(pipeline, query.queries())
    rows, scores = ranked_rows(query, ranking)
    place = np.flatnonzero(rows == row)
    score, rank = (scores[place], 1 + int(place[0])) if len(place) else (np.zeros(1, np.float32), 0)
    looked = 1 if rank <= (VERIFIED if verify is None else verify) else 0
    (result,) = judge(snapshot, rule, query, np.array([row]), score, looked, own=own, first=rank)
    return Explanation(query, result, pipeline.explain(query.queries(), 0, row))


def provisional(snapshot: Snapshot, rule: MatchRule, query: Query, step: Proved) -> tuple[Result, ...]:
    """What is known of the photos of a `Proved`; ranks count from 0 within it."""
    none = Ranking(np.empty((1, 0), np.int64), np.empty((1, 0), np.float32))
    return judge(snapshot, rule, query, step.rows, step.scores, len(step.rows), own=none, first=0)


def ranked_rows(query: Query, ranking: Ranking) -> tuple[Int64, Any]:
    """Rows and scores (n,) of the one query, itself left out, its copies first."""
    ids, scores = ranking.ids[0], ranking.scores[0]
    kept = (ids >= 0) & (ids != query.row)
    return identical_first(query, ids[kept], scores[kept])


def _standardised(query: Query, ranking: Ranking, following: Stage | None = None) -> tuple[Int64, Any]:
    """The ranked rows, and their scores as the stage that follows takes them: what it looks at where it verifies."""
    rows, scores = ranked_rows(query, ranking)
    if not isinstance(following, SpatialRerank):
        return rows, scores
    return rows, following.scale.standardise(scores)


def _proved(
    snapshot: Snapshot,
    query: Query,
    rows: Int64,
    scores: Any,
    batch: int,
    until: float,
    gain: Callable[[Verification], float] = lambda _: 0.0,
) -> Generator[Proved, None, int]:
    """Verify `rows` in batches, which the verifier remembers; the stage or the judgement that asks again is fast. Gives
    how many were looked at, or will be: all of them, unless it is later than `until`.
    """
    if snapshot.verifier is None or not batch:
        return len(rows)
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        proofs = snapshot.verifier(query.local, rows[part])
        more = np.array([gain(proof) for proof in proofs], np.float32)
        yield Proved(rows[part], scores[part] + more, start + len(proofs), len(rows))
        if time.perf_counter() >= until:
            return start + len(proofs)
    return len(rows)
