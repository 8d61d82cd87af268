"""Pictures of a learned similarity: its scores beside the cosine, and the losses of its training, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resight.errors import ArrayError, UsageError
from resight.types import as_array
from resight.viz.curves import COLOURS, GRID, INK, SOFT, _figure, _legend, _png

MOST_POINTS = 4000  # of a kind; more would only cover each other


def learned_against_cosine(cosine: Any, scores: Any, matching: Any, *, name: str = "learned similarity") -> bytes:
    """Learned score over cosine, one point a pair: matching pairs in orange, others in blue, and their histograms.

    `cosine`, `scores` (n,) and `matching` (n,) bool. The dashed line is where both are equal; points of matching pairs
    should lie above it and others below. Of more than 4000 pairs of a kind, every so many-th is drawn; the histograms
    count all. Raises `ArrayError` on unequal lengths or numbers that are not finite, `UsageError` without pairs.
    """
    cosine = as_array("cosine", cosine, np.float64, (None,))
    scores = as_array("scores", scores, np.float64, cosine.shape)
    matching = as_array("matching", matching, np.bool_, cosine.shape)
    if not len(cosine):
        raise UsageError("there are no pairs to draw")
    if not (np.isfinite(cosine).all() and np.isfinite(scores).all()):
        raise ArrayError("cosine or scores hold NaN or infinity")
    figure, axes = _figure()
    margin = axes.inset_axes((1.02, 0.0, 0.2, 1.0), sharey=axes)
    margin.axis("off")
    above = axes.inset_axes((0.0, 1.02, 1.0, 0.2), sharex=axes)
    above.axis("off")
    for kind, colour, label in ((~matching, COLOURS[0], "other pairs"), (matching, COLOURS[1], "matching pairs")):
        count = int(kind.sum())
        if not count:
            continue
        drawn = np.flatnonzero(kind)[:: max(1, -(-count // MOST_POINTS))]
        axes.scatter(cosine[drawn], scores[drawn], s=9, c=colour, alpha=0.45, linewidths=0, label=f"{label} ({count})")
        weights = np.full(count, 1 / count)
        margin.hist(scores[kind], bins=40, weights=weights, orientation="horizontal", color=colour, alpha=0.6)
        above.hist(cosine[kind], bins=40, weights=weights, color=colour, alpha=0.6)
    axes.axline((0, 0), slope=1, color=SOFT, linewidth=1, linestyle="--")
    axes.set(xlabel="cosine", ylabel=name)
    _legend(axes)
    return _png(figure)


def training_curves(stages: Mapping[str, Sequence[tuple[int, float | None, float | None]]]) -> bytes:
    """Losses over epochs, one panel per stage: rows of (epoch, training loss, validation loss), None for none.

    The dot is the lowest validation loss, whose network is kept. Raises `UsageError` without stages or epochs.
    """
    if not stages or not all(len(rows) for rows in stages.values()):
        raise UsageError("there are no epochs to draw")
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    figure = Figure(figsize=(max(6.4, 3.4 * len(stages)), 3.2), dpi=160, layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(stages), squeeze=False)[0]
    for axes, (name, rows) in zip(panels, stages.items(), strict=True):
        epochs, train, validation = np.asarray(rows, np.float64).T
        axes.plot(epochs, train, color=COLOURS[7], linewidth=1.6, label="training")
        axes.plot(epochs, validation, color=COLOURS[0], linewidth=2.2, label="validation")
        best = int(np.nanargmin(validation))
        axes.scatter(
            epochs[best], validation[best], color=COLOURS[1], zorder=3, s=36, label=f"kept: {validation[best]:.3f}"
        )
        axes.set(xlabel="epoch", ylabel="loss", yscale="log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.tick_params(colors=SOFT, labelsize=8)
        axes.set_title(name, color=INK, fontsize=11, pad=22)  # the legend stands below it, where it covers no curve
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=GRID, linewidth=0.8)
        axes.legend(
            frameon=False, fontsize=8, labelcolor=INK, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3,
            handlelength=1.4, columnspacing=1,
        )  # fmt: skip
    return _png(figure)
