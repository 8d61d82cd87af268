"""What the collection says, as the API says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resight.arrays import Float64
from resight.collection import answer as own
from resight.collection.steps import Proved, Ranked, provisional
from resight.ranking.verification import describe
from resight.serving import models
from resight.serving.opened import State
from resight.serving.photo_keys import key_of
from resight.serving.querying import Asked
from resight.types import Box, Int64

VERSION = 12  # characters of a hash that tell a file from its next version


def photo_model(state: State, place: int) -> models.Photo:
    """The photo at a place of the list."""
    photos = state.photos
    return models.Photo(
        key=key_of(photos.ids[place]),
        id=photos.ids[place],
        width=int(photos.widths[place]),
        height=int(photos.heights[place]),
        taken_at=photos.taken[place] or None,
        folder=photos.folders[place],
        tags=photos.tags[place],
        version=photos.sha256[place][:VERSION],
    )


def photo_name(state: State, row: int) -> models.PhotoName:
    """Key and id of a photo."""
    id_ = state.photos.ids[state.photos.at(row)]
    return models.PhotoName(key=key_of(id_), id=id_)


def search_answer(
    state: State, asked: Asked, answer: own.Answer, recipe: str, after: int, origins: Mapping[int, Asked]
) -> dict[str, Any]:
    """The fields of `models.SearchAnswer` but `next`; `after`: results that earlier pages had; `origins`: the queries
    that found what `asked` did not, by row.
    """
    return {
        "query": asked.info,
        "recipe": recipe,
        "collection_version": state.version,
        "results": [
            _found_result(state, asked, origins.get(r.row), r, answer.cut is not None) for r in answer.results[after:]
        ],
        "confident": answer.confident,
        "pending": answer.pending,
        "took_ms": round(1000 * sum(answer.seconds), 1),
        "sentence": verdict(answer),
    }


def verdict(answer: own.Answer) -> str:
    """The answer in a sentence, as the command line says it."""
    matches = sum(result.match for result in answer.results)
    found = "no confident match" if not matches else "1 match" if matches == 1 else f"{matches} matches"
    spent = "" if answer.cut is None else f"; the budget was spent when geometry had looked at {answer.cut} photos"
    return f"{found} ({answer.rule}){spent}"


def _found_result(state: State, asked: Asked, example: Asked | None, result: own.Result, cut: bool) -> models.Result:
    found = result_model(state, example or asked, result)
    if cut and found.match == "none" and found.inliers is None:
        found = found.model_copy(update={"match": None})  # geometry has not looked at it
    return found if example is None else found.model_copy(update={"example": example.info.key})


def result_model(state: State, asked: Asked, result: own.Result) -> models.Result:
    """One result, geometry included."""
    proof = result.verification
    proven = proof is not None and proof.verified
    same = result.row in asked.query.copies
    match: models.Match = "none"
    if result.match or proven:
        match = "proven" if same or (result.match and proven) else "possible"
    return models.Result(
        **_photo_fields(state, result.row),
        rank=result.rank,
        score=_finite(result.score),
        match=match,
        inliers=None if proof is None else result.inliers,
        significance="the same file" if same else None if proof is None else describe(proof),
        outline=outline(asked, result),
    )


def ranked_models(state: State, ranked: Ranked, top: int) -> list[models.Result]:
    """The first results of a ranking that nothing is proven of yet."""
    return [
        models.Result(
            **_photo_fields(state, row),
            rank=rank,
            score=_finite(score),
            match=None,
            inliers=None,
            significance=None,
            outline=None,
        )
        for rank, (row, score) in enumerate(zip(ranked.rows[:top].tolist(), ranked.scores[:top], strict=True), 1)
    ]


def proved_models(state: State, rule: own.MatchRule, asked: Asked, step: Proved) -> list[models.Result]:
    """What geometry says of photos that it has looked at just now, among others."""
    found = provisional(state.collection.snapshot, rule, asked.query, step)
    return [result_model(state, asked, result) for result in found]


def outline(asked: Asked, result: own.Result) -> list[models.Point] | None:
    """Where the query, or the box on it, lies in the result: corners in its pixels; None without proof."""
    proof = result.verification
    if proof is None or not proof.verified or proof.transform is None:
        return None
    corners = corners_of(asked)
    mapped = np.column_stack([corners, np.ones(4)]) @ np.asarray(proof.transform, np.float64).T
    if (mapped[:, 2] <= 1e-9).any():
        return None  # a part of it lies behind the camera: no polygon shows that
    return [(round(float(x), 1), round(float(y), 1)) for x, y in mapped[:, :2] / mapped[:, 2:]]


def corners_of(asked: Asked) -> Float64:
    """The corners (4, 2) of the box around a query's boxes, else of its frame."""
    box = asked.query.box or Box(0, 0, asked.info.width, asked.info.height)
    x, y, width, height = box.x, box.y, box.width, box.height
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])


def explanation_model(state: State, asked: Asked, found: own.Explanation) -> models.Explanation:
    """An explanation with the points that agree."""
    proof, query = found.result.verification, asked.query
    points: list[tuple[float, float, float, float]] = []
    transform = None
    if proof is not None and proof.transform is not None:
        pairs = proof.correspondences[proof.mask]
        theirs = state.collection.snapshot.features(found.result.row)
        joined = np.column_stack([query.local.xy[pairs[:, 0]], theirs.xy[pairs[:, 1]]])
        points = [tuple(row) for row in np.round(joined.astype(np.float64), 2).tolist()]
        transform = np.asarray(proof.transform, np.float64).tolist()
    result = result_model(state, asked, found.result)
    return models.Explanation(
        query=asked.info,
        result=result,
        transform=transform,
        inliers=points,
        outline=result.outline,
        significance=result.significance,
        stages=[models.Stage(stage=item.stage, summary=item.summary) for item in found.evidence],
        path=_named(state, [row for item in found.evidence for row in item.data.get("path", ())]),
        sources=_named(state, [row for item in found.evidence for row in item.data.get("sources", ())]),
    )


def _named(state: State, rows: Sequence[Any] | Int64) -> list[models.PhotoName]:
    known = dict.fromkeys(int(row) for row in rows)
    return [photo_name(state, row) for row in known if state.photos.has(row)]


def _photo_fields(state: State, row: int) -> dict[str, Any]:
    place, photos = state.photos.at(row), state.photos
    return {
        "key": key_of(photos.ids[place]),
        "id": photos.ids[place],
        "width": int(photos.widths[place]),
        "height": int(photos.heights[place]),
        "taken_at": photos.taken[place] or None,
        "version": photos.sha256[place][:VERSION],
    }


def _finite(score: Any) -> float:
    return round(float(score), 4) if np.isfinite(score) else 0.0
