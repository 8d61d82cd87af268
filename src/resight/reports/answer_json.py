"""Answers of a collection for machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resight.collection.answer import Answer, Explanation, Result


def answer_json(answer: Answer, also: Sequence[str] = (), without: Sequence[str] = ()) -> dict[str, Any]:
    """What a search found, for machines; `also`, `without`: the names of further queries, and of what was not meant.
    `found_by` of a result is the query that gave its score.
    """
    return {
        "query": answer.query.name,
        "also": list(also),
        "without": list(without),
        "box": None if answer.query.box is None else str(answer.query.box),
        "confident": answer.confident,
        "threshold": answer.rule.threshold,
        "rule": str(answer.rule),
        "calibrated": answer.calibrated,
        "pending": answer.pending,
        "absent": list(answer.absent),
        "seconds": {"read": answer.seconds[0], "search": answer.seconds[1]},
        "results": [{**result_json(result), "found_by": answer.found_by(result).name} for result in answer.results],
    }


def result_json(result: Result) -> dict[str, Any]:
    """One result, for machines."""
    return {
        "rank": result.rank,
        "id": result.id,
        "path": Path(result.path).as_posix().encode("utf-8", "replace").decode(),
        "score": result.score,
        "match": result.match,
        "inliers": result.inliers,
    }


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """Why one photo was found, for machines."""
    verification = explanation.result.verification
    transform = None if verification is None or verification.transform is None else verification.transform.tolist()
    return {
        "query": explanation.query.name,
        **result_json(explanation.result),
        "transform": transform,
        "evidence": [{"stage": item.stage, "summary": item.summary} for item in explanation.evidence],
    }
