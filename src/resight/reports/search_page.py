"""An answer of a collection as a page of HTML."""

from __future__ import annotations

from collections.abc import Sequence

from resight.collection.answer import Answer, Query, Result
from resight.collection.collection import Collection
from resight.errors import ImageError
from resight.ranking.verification import describe
from resight.reports.pictures import match_picture, shown_photo
from resight.viz.pictures import encode_jpeg
from resight.viz.report import ReportPage, ReportQuery, ReportResult


def search_page(collection: Collection, answer: Answer, graph: bytes | None = None) -> ReportPage:
    """The page of one search. `graph`: a PNG of how its results hang together (`resight.reports.graph_figure`)."""
    summary = [
        ("collection", collection.path.name),
        ("photos", str(len(collection.snapshot.tables.feature_rows))),
        ("search", f"{1000 * sum(answer.seconds):.0f} ms"),
    ]
    figures = [] if graph is None else [("How the first results hang together: green edges are proven", graph)]
    return ReportPage("Where else is this?", answer.query.name, summary, figures, [report_query(collection, answer)])


def report_query(
    collection: Collection,
    answer: Answer,
    *,
    pictures: int = 5,
    relevant: Sequence[bool] | None = None,
    ap: float | None = None,
) -> ReportQuery:
    """An answer as a section of the report. `pictures`: first results that get match lines, where there are any.
    `relevant`: for each result, whether it is right, where that is known.
    """
    image = shown_photo(answer.query.path)
    results = [
        ReportResult(
            id=result.id,
            thumbnail=shown_photo(result.path).pixels,
            score=result.score,
            match=result.match,
            caption=f"{result.inliers} inliers" if result.inliers else "",
            picture=_encoded_picture(collection, answer.query, result) if i < pictures else None,
            relevant=None if relevant is None else relevant[i],
            evidence=() if result.verification is None else (describe(result.verification),),
        )
        for i, result in enumerate(answer.results)
    ]
    size = (image.width, image.height)
    return ReportQuery(
        answer.query.name, image.pixels, results, confident=answer.confident, box=answer.query.box, size=size, ap=ap
    )


def _encoded_picture(collection: Collection, query: Query, result: Result) -> bytes | None:
    if not result.inliers:
        return None
    try:
        return encode_jpeg(match_picture(collection, query, result, max_width=900), 900)
    except ImageError:
        return None
