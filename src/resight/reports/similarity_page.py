"""The page of a learned similarity: how it judges pairs of photos that it was not trained on, and how it got there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from resight.types import Bool, Float32
from resight.viz.report import ReportPage
from resight.viz.similarity import learned_against_cosine, training_curves


def similarity_page(
    name: str,
    *,
    kept: str,
    order: Mapping[str, float],
    cosine: Float32,
    scores: Float32,
    matching: Bool,
    losses: Mapping[str, Sequence[tuple[int, float | None, float | None]]],
) -> ReportPage:
    """The page of a training on the collection `name`.

    `kept`: the similarity that was kept. `order`: the share of pairs in the right order, by name of the similarity.
    `cosine`, `scores` (n,) and `matching` (n,): of the pairs held back. `losses`: of each stage, rows of (epoch,
    training loss, validation loss).
    """
    summary = [
        ("similarity kept", kept),
        ("pairs held back", f"{len(matching)}, of which {int(np.sum(matching))} match"),
        *((f"in the right order, {which}", f"{100 * share:.1f} %") for which, share in order.items()),
    ]
    figures = [
        (
            "Learned score and cosine of pairs held back: matching ones (orange) should lie above the dashed line",
            learned_against_cosine(cosine, scores, matching, name=f"{kept} score"),
        ),
        ("Losses: the dot marks the epoch whose network was kept", training_curves(losses)),
    ]
    return ReportPage("Learned similarity", name, summary, figures)
