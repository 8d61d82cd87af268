"""An answer of a collection as a page of HTML."""

from __future__ import annotations

from collections.abc import Sequence

from resight.collection.answer import Answer, MatchRule, Query, Result
from resight.collection.collection import Collection
from resight.errors import ImageError
from resight.ranking.verification import describe
from resight.reports.pictures import match_picture, shown_photo, shown_pixels
from resight.viz.pictures import Relevance, encode_jpeg
from resight.viz.report import ReportPage, ReportQuery, ReportResult


def search_page(
    collection: Collection, answer: Answer, graph: bytes | None = None, figures: Sequence[tuple[str, bytes]] = ()
) -> ReportPage:
    """The page of one search. `graph`: a PNG of how its results hang together (`resight.reports.graph_figure`).
    `figures`: pictures that follow the results, with their titles (`resight.reports.inspection.query_figures`).
    """
    summary = [
        ("collection", collection.path.name),
        ("photos", str(collection.snapshot.tables.readable)),
        ("search", f"{1000 * sum(answer.seconds):.0f} ms"),
    ]
    drawn = [] if graph is None else [("How the first results hang together: green edges are proven", graph)]
    sections = [report_query(collection, answer)]
    return ReportPage("Where else is this?", "", summary, drawn, sections, legend(answer.rule), figures)


def legend(rule: MatchRule) -> list[str]:
    """What score, inliers and match mean on a page of answers judged by `rule`, in sentences."""
    sentences = ["The score counts standard deviations above what unrelated photos of the collection show."]
    if rule.proof:
        sentences.append("Inliers are features that one change of view carries from the query to the photo.")
    needed = [] if rule.threshold is None else [f"a score of {rule.threshold:.1f} or more"]
    needed += ["proof by its inliers"] if rule.proof else []
    if needed:
        sentences.append(f"A match needs {' and '.join(needed)}.")
    else:
        sentences.append("This recipe ranks without saying what is a match.")
    return sentences


def report_query(
    collection: Collection,
    answer: Answer,
    *,
    pictures: int = 5,
    relevant: Sequence[Relevance] | None = None,
    ap: float | None = None,
) -> ReportQuery:
    """An answer as a section of the report. `pictures`: results that get match lines, the first ones that prove
    something new: not the query's own file. `relevant`: for each result, whether it is right, where that is known.
    """
    photo = shown_photo(answer.query.path)
    same = [result.row in answer.query.copies for result in answer.results]
    drawn = [i for i, result in enumerate(answer.results) if result.inliers and not same[i]][:pictures]
    results = [
        ReportResult(
            id=result.id,
            thumbnail=shown_pixels(result.path),
            score=result.score,
            match=result.match,
            caption=_caption(result, same[i], answer),
            picture=_encoded_picture(collection, answer.found_by(result), result) if i in drawn else None,
            relevant=None if relevant is None else relevant[i],
            evidence=() if same[i] or result.verification is None else (describe(result.verification),),
        )
        for i, result in enumerate(answer.results)
    ]
    return ReportQuery(
        answer.query.name,
        None if photo is None else photo.pixels,
        results,
        confident=answer.confident,
        box=answer.query.box,
        size=None if photo is None else (photo.width, photo.height),
        ap=ap,
    )


def _caption(result: Result, same: bool, answer: Answer) -> str:
    if same:
        return "the same file as the query"
    told = [f"{result.inliers} inliers"] if result.inliers else []
    other = answer.found_by(result)
    return ", ".join([*told, *([] if other is answer.query else [f"found by {other.name}"])])


def _encoded_picture(collection: Collection, query: Query, result: Result) -> bytes | None:
    try:
        return encode_jpeg(match_picture(collection, query, result, max_width=900), 900)
    except ImageError:
        return None
