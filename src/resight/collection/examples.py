"""Several queries, and examples of what is not meant, in one answer.

The rule: every photo has the best of the scores that the queries give it, with the proof of the query that gave it;
what matches an example of what is not meant is left out, and so are these examples. Scores of all queries are in the
same unit, standard deviations above unrelated photos, so the best of them compares. Cost: one search for each photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from resight.collection.answer import Answer, Result


def with_example(answer: Answer, example: Answer) -> Answer:
    """`answer` with what another query finds, each photo with its better score; equal ones keep the first query."""
    best = {result.row: result for result in answer.results}
    origins = dict(answer.origins)
    for result in example.results:
        better = result.row not in best or result.score > best[result.row].score
        if better and result.row != answer.query.row:
            best[result.row], origins[result.row] = result, example.query
    results = sorted(best.values(), key=lambda result: (-result.score, result.row))
    return replace(_ranked(answer, results), cut=_least(answer.cut, example.cut), origins=origins)


def without_example(answer: Answer, example: Answer) -> Answer:
    """`answer` without an example of what is not meant, and what matches it."""
    wrong = refused(example)
    left = [result for result in answer.results if result.row not in wrong]
    return replace(_ranked(answer, left), cut=_least(answer.cut, example.cut))


def refused(example: Answer) -> set[int]:
    """Rows of what an example of what is not meant leaves out."""
    return {result.row for result in example.results if result.match} | {example.query.row}


def first(answer: Answer, top: int) -> Answer:
    """`answer` cut to its first `top` results."""
    return replace(answer, results=answer.results[:top])


def _least(*cuts: int | None) -> int | None:
    return min((cut for cut in cuts if cut is not None), default=None)


def _ranked(answer: Answer, results: Sequence[Result]) -> Answer:
    return replace(answer, results=tuple(replace(result, rank=rank) for rank, result in enumerate(results, 1)))
