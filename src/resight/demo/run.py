"""The demonstration: make the photographs, index them, search for every object, write the report."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resight.collection.answer import Answer
from resight.collection.collection import Collection
from resight.collection.open import open_or_create
from resight.demo import build_world
from resight.evaluation.metrics import rectangle_ap
from resight.progress import Progress, silent
from resight.recipes.catalogue import DEFAULT
from resight.reports.files import write_page
from resight.reports.search_page import legend, report_query
from resight.viz.curves import ap_histogram
from resight.viz.report import ReportPage, render

SHOWN = 10  # results per query in the report
PICTURES = 3  # of them with match lines


@dataclass(frozen=True, eq=False)
class DemoQuery:
    """One query of the demo: its answer, which results are right, how many there are, and its average precision; NaN
    for a photo that has no partner, of which any match is wrong.
    """

    answer: Answer
    right: tuple[bool, ...]
    positives: int
    ap: float

    @property
    def wrong_matches(self) -> int:
        """Results called a match that show something else."""
        return sum(r.match and not right for r, right in zip(self.answer.results, self.right, strict=True))

    def verdicts(self) -> list[bool | None]:
        """What the report says of each result: right; wrong where it is called a match or stands before a right one;
        nothing of what follows, as a query has fewer partners than results are shown.
        """
        last = max((i for i, right in enumerate(self.right) if right), default=-1)
        results = zip(self.answer.results, self.right, strict=True)
        return [True if right else False if r.match or i < last else None for i, (r, right) in enumerate(results)]


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demo did, and where its parts are. `lonely`: the photos that have no partner, as queries."""

    queries: tuple[DemoQuery, ...]
    lonely: tuple[DemoQuery, ...]
    map: float
    photos: int
    collection: Path
    report: Path
    example: str

    def rows(self) -> list[dict[str, Any]]:
        """Per query, for machines."""
        return [
            {
                "query": q.answer.query.name,
                "found": sum(q.right[: q.positives]),
                "positives": q.positives,
                "ap": q.ap,
                "matches": sum(r.match for r in q.answer.results),
                "right_matches": sum(r.match and right for r, right in zip(q.answer.results, q.right, strict=True)),
                "seconds": sum(q.answer.seconds),
            }
            for q in self.queries
        ]

    def table(self) -> list[tuple[str, int, int, float, str, int]]:
        """Per query, for people."""
        return [
            (
                row["query"],
                row["found"],
                row["positives"],
                row["ap"],
                f"{row['matches']} / {row['right_matches']}",
                round(1000 * row["seconds"]),
            )
            for row in self.rows()
        ]


def run_demo(folder: str | os.PathLike[str], *, seed: int = 0, progress: Progress = silent) -> Demo:
    """Run the demo in `folder`; run again, it continues.

    Searches for every object, and for every photo that has no partner, which nothing must match. Raises `UsageError`
    when scikit-image is not installed.
    """
    folder = Path(folder)
    progress("making photographs", 0, 1)
    world = build_world(folder, seed=seed)
    progress("making photographs", 1, 1)
    collection = open_or_create(folder / "demo.resight", DEFAULT)
    collection.add([world.photos_folder], progress=progress)
    asked = [*zip(world.queries, world.positives, strict=True), *((photo, ()) for photo in world.lonely)]
    queries = []
    for done, (name, positives) in enumerate(asked, 1):
        queries.append(_ask(collection, name, set(positives)))
        progress("searching", done, len(asked))
    found, lonely = queries[: len(world.queries)], queries[len(world.queries) :]
    score = float(np.mean([query.ap for query in found]))
    report = folder / "report.html"
    page = _page(collection, found, lonely, score, len(world.photos), progress)
    write_page(report, render(page))
    return Demo(tuple(found), tuple(lonely), score, len(world.photos), collection.path, report, world.queries[0])


def _ask(collection: Collection, name: str, positives: set[str]) -> DemoQuery:
    answer = collection.search(name, top=len(collection.snapshot.tables))
    rows = np.array([[result.row for result in answer.results]])
    right = np.array([collection.snapshot.row_of(positive) for positive in positives], np.int64)
    ap = float(rectangle_ap(rows, [right]).ap[0]) if positives else float("nan")
    shown = replace(answer, results=answer.results[:SHOWN])
    return DemoQuery(shown, tuple(result.id in positives for result in shown.results), len(positives), ap)


def _page(
    collection: Collection,
    queries: list[DemoQuery],
    lonely: list[DemoQuery],
    score: float,
    photos: int,
    progress: Progress,
) -> ReportPage:
    sections = []
    shown = [*queries, *(query for query in lonely if query.wrong_matches)]
    for done, query in enumerate(shown, 1):
        verdicts, ap = query.verdicts(), None if np.isnan(query.ap) else query.ap
        sections.append(report_query(collection, query.answer, pictures=PICTURES, relevant=verdicts, ap=ap))
        progress("drawing the report", done, len(shown))
    wrong = sum(query.wrong_matches for query in (*queries, *lonely))
    seconds = np.array([sum(query.answer.seconds) for query in queries])
    summary = (
        ("mAP", f"{100 * score:.1f}"),
        ("photos", str(photos)),
        ("queries", str(len(queries))),
        ("photos without partner", str(len(lonely))),
        ("wrong matches", str(wrong)),
        ("median search", f"{1000 * np.median(seconds):.0f} ms"),
    )
    figures = [("Average precision of the queries", ap_histogram(np.array([query.ap for query in queries])))]
    subtitle = "Photographs made from pictures that come with scikit-image and scikit-learn; recipe classic."
    meaning = legend(collection.match_rule())
    return ReportPage("resight demo", subtitle, summary, figures, sections, meaning)
