"""The page of a training: its curves, what it gained, and the hardest negatives as pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from resight.reports.pictures import shown_pixels
from resight.training.data import Examples
from resight.training.run import Data, Hard, Outcome
from resight.training.validation import Judged, relevance
from resight.viz.pictures import ABSENT, Pixels, Relevance, encode_jpeg, font
from resight.viz.ranked import INK, PAPER, RankedItem, ranked_strip
from resight.viz.report import ReportPage, ReportQuery, ReportResult
from resight.viz.separation import training_curve

if TYPE_CHECKING:
    from resight.evaluation.significance import Comparison

GAINED, LOST = 4, 2  # queries that are shown: those with the largest gain, and with the largest loss
HEADING = 26  # pixels above a query's results


def training_page(name: str, data: Data, outcome: Outcome, gain: Comparison | None) -> ReportPage:
    """The page of a training by recipe `name`; `gain`: after against before, None where no query could be scored."""
    trained = outcome.trained
    summary = [
        ("recipe", name),
        ("photos to learn from", f"{len(data.learn)}, with {len(data.learn.pairs)} pairs"),
        ("photos to judge by", f"{len(data.judge)}, with {len(outcome.before.queries)} queries"),
        ("epoch kept", f"{trained.best} of {len(trained.epochs) - 1}"),
        ("mAP before and after", f"{100 * outcome.before.map:.1f} and {100 * outcome.after.map:.1f}"),
    ]
    if gain is not None:
        summary.append(("gain, 95 % interval", gain_text(gain)))
    if trained.fault:
        summary.append(("training stopped", trained.fault))
    legend = [
        "Queries at the end: pairs of the last epoch with the negative that was most similar to the query. A negative "
        "that shows what the query shows is a fault of the data."
    ]
    figures = [*_curves(outcome), *_comparison(data.judge, outcome)]
    hardest = outcome.hardest
    return ReportPage("Training", name, summary, figures, _shown(hardest), legend=legend if hardest else ())


def gain_text(gain: Comparison) -> str:
    """The gain in points of mAP, its interval and p-value."""
    low, high = 100 * gain.low, 100 * gain.high
    return f"{100 * gain.difference:+.1f} ({low:+.1f} to {high:+.1f}), p = {gain.p_value:.4f}, {gain.queries} queries"


def _curves(outcome: Outcome) -> list[tuple[str, bytes]]:
    epochs = outcome.trained.epochs
    watched = [(epoch.number, epoch.validation) for epoch in epochs if epoch.validation is not None]
    losses = [epoch.loss for epoch in epochs if epoch.loss is not None]
    if not losses:
        return []
    curve = training_curve(losses, best=outcome.trained.best, scores=watched)
    return [("Loss, and mAP of the photos held back", curve)]


def _comparison(judge: Examples, outcome: Outcome) -> list[tuple[str, bytes]]:
    picture = rankings_picture(judge, outcome.before, outcome.after)
    if picture is None:
        return []
    title = "The same queries before and after: those that gained most, then those that lost most"
    return [(title, encode_jpeg(picture, picture.width, picture.height))]


def rankings_picture(judge: Examples, before: Judged, after: Judged) -> Image.Image | None:
    """First results of some queries before and after, one above the other: of those that gained most, and lost most.
    None where no query changed."""
    change = np.nan_to_num(after.precision - before.precision)
    order = np.argsort(-change, kind="stable")
    gained = [int(place) for place in order[:GAINED] if change[place] > 0]
    lost = [int(place) for place in order[::-1][:LOST] if change[place] < 0]
    if not gained + lost:
        return None
    pairs = [(place, name, found) for place in gained + lost for name, found in (("before", before), ("after", after))]
    marks = {name: _verdicts(judge, found) for name, found in (("before", before), ("after", after))}
    return _stacked([_strip(judge, found, place, name, marks[name][place]) for place, name, found in pairs])


def _strip(
    judge: Examples, found: Judged, place: int, name: str, verdicts: Sequence[Relevance]
) -> tuple[str, Image.Image]:
    row = int(found.queries[place])
    ids = found.first[place].tolist()
    items = [
        RankedItem(_pixels(judge, id_), _name(judge, id_), verdict)
        for id_, verdict in zip(ids, verdicts, strict=True)
        if id_ >= 0
    ]
    heading = f"{_name(judge, row)}, {name}: average precision {100 * found.precision[place]:.1f}"
    return heading, ranked_strip(_pixels(judge, row), items, caption=_name(judge, row), cell=120, columns=len(ids))


def _verdicts(judge: Examples, found: Judged) -> list[list[Relevance]]:
    """Of the first results of each query: right, wrong, or junk where nobody knows."""
    right, doubtful = relevance(judge, found.queries, found.first)
    told = np.where(right, 0, np.where(doubtful, 1, 2))
    return [[(True, "junk", False)[one] for one in row] for row in told.tolist()]


def _pixels(examples: Examples, row: int) -> Pixels:
    found = shown_pixels(examples.files[row])
    return ABSENT if found is None else found


def _name(examples: Examples, row: int) -> str:
    return os.path.basename(examples.names[row])


def _stacked(strips: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    width = max(strip.width for _, strip in strips)
    whole = Image.new("RGB", (width, sum(strip.height + HEADING for _, strip in strips)), PAPER)
    draw, y = ImageDraw.Draw(whole), 0
    for heading, strip in strips:
        draw.text((10, y + HEADING // 2 + 4), heading, INK, font(14), anchor="lm")
        whole.paste(strip, (0, y + HEADING))
        y += HEADING + strip.height
    return whole


def _shown(hardest: Sequence[Hard]) -> list[ReportQuery]:
    return [
        ReportQuery(
            os.path.basename(hard.query),
            shown_pixels(hard.query),
            [
                ReportResult(
                    os.path.basename(hard.negative),
                    shown_pixels(hard.negative),
                    hard.similarity,
                    caption="negative",
                    relevant=False,
                ),
                ReportResult(
                    os.path.basename(hard.positive), shown_pixels(hard.positive), 0.0, caption="positive", relevant=True
                ),
            ],
        )
        for hard in hardest
    ]
