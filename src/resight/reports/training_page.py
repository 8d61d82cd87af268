"""The page of a training: its curves, what it gained, and the hardest negatives as pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence

from resight.arrays import Float64
from resight.reports.pictures import shown_pixels
from resight.training.run import Data, Hard, Outcome
from resight.viz.report import ReportPage, ReportQuery, ReportResult
from resight.viz.separation import training_curve


def training_page(name: str, data: Data, outcome: Outcome, before: float, after: float) -> ReportPage:
    """The page of a training by recipe `name`; `before` and `after`: mAP of the photos held back."""
    trained = outcome.trained
    summary = [
        ("recipe", name),
        ("photos to learn from", f"{len(data.learn)}, with {len(data.learn.pairs)} pairs"),
        ("photos to judge by", f"{len(data.judge)}, with {_queries(outcome.before)} queries"),
        ("epoch kept", f"{trained.best} of {len(trained.epochs) - 1}"),
        ("mAP before and after", f"{100 * before:.1f} and {100 * after:.1f}"),
    ]
    if trained.fault:
        summary.append(("training stopped", trained.fault))
    watched = [(epoch.number, epoch.validation) for epoch in trained.epochs if epoch.validation is not None]
    losses = [epoch.loss for epoch in trained.epochs if epoch.loss is not None]
    figures = []
    if losses:
        figures = [("Loss, and mAP of the photos held back", training_curve(losses, best=trained.best, scores=watched))]
    legend = [
        "Below: pairs of the last epoch with the negative that was most similar to the query. A negative that shows "
        "what the query shows is a fault of the data."
    ]
    return ReportPage(
        "Training", name, summary, figures, _shown(outcome.hardest), legend=legend if outcome.hardest else ()
    )


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


def _queries(precisions: Float64) -> int:
    return len(precisions)
