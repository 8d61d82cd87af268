"""Figures of guided similarity separation, as PNG bytes: its loss, what training does, and studies of its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resight.arrays import Float64, finite_rows
from resight.errors import UsageError
from resight.types import Float32, as_array
from resight.viz.curves import COLOURS, SOFT, _figure, _legend, _png

SAMPLE = 1500
BINS = 200


def loss_over_similarity(beta: float) -> bytes:
    """The loss of a pair and its gradient over the pair's similarity from -1 to 1.

    Raises `UsageError` unless beta lies within -1 and 1.
    """
    if not -1 < beta < 1:
        raise UsageError(f"beta={beta} must lie between -1 and 1")
    s = np.linspace(-1, 1, 401)
    kept = np.maximum(s, 0)
    figure, axes = _figure()
    axes.plot(s, -((kept - beta) ** 2) / 2, color=COLOURS[0], linewidth=2.2, label="loss  -(s - β)² / 2")
    axes.plot(s, np.where(s > 0, beta - s, 0), color=COLOURS[1], linewidth=2.2, label="gradient  -(s - β)")
    axes.axvline(beta, color=SOFT, linewidth=1.2, linestyle="--", label=f"β = {beta:.3f}")
    axes.axhline(0, color=SOFT, linewidth=0.8)
    axes.set(xlabel="similarity of a pair", ylabel="loss, gradient", xlim=(-1, 1))
    _legend(axes)
    return _png(figure)


def gradients_of_query(before: Any, after: Any, beta: float) -> bytes:
    """What the loss asks of the similarities of one query to all photos, and what training did to them.

    `before`, `after` (N,): its similarities before and after training. Over the similarity before, the gradient of the
    loss at every photo, and, on a second axis, by how much training changed the similarity. Raises `ArrayError` on
    unequal lengths, `UsageError` unless beta lies within -1 and 1, and without a photo.
    """
    if not -1 < beta < 1:
        raise UsageError(f"beta={beta} must lie between -1 and 1")
    s = as_array("before", before, np.float64, (None,))
    changed = as_array("after", after, np.float64, s.shape) - s
    if not len(s):
        raise UsageError("there are no photos whose similarity could be drawn")
    figure, axes = _figure()
    other = axes.twinx()
    other.spines[["top", "left", "bottom"]].set_visible(False)
    other.spines["right"].set_color("#b6bdc6")
    other.tick_params(colors=SOFT, labelsize=9)
    gradient = np.where(s > 0, beta - s, 0)
    handles = axes.plot(s, gradient, ".", color=COLOURS[1], markersize=7, label="gradient  -(s - β)")
    handles += other.plot(s, changed, ".", color=COLOURS[0], markersize=5, alpha=0.5, label="change by training")
    handles.append(axes.axvline(beta, color=SOFT, linewidth=1.2, linestyle="--", label=f"β = {beta:.3f}"))
    for one, values in ((axes, gradient), (other, changed)):  # both zeros at one height
        reach = 1.1 * max(float(np.abs(values).max()), 1e-3)
        one.set_ylim(-reach, reach)
    axes.axhline(0, color=SOFT, linewidth=0.8)
    axes.set(xlabel="similarity of the query and a photo, before training", ylabel="gradient")
    other.set_ylabel("change of similarity", color=SOFT)
    _legend(axes, handles)
    return _png(figure)


def similarity_histogram(before: Float32, after: Float32, beta: float, seed: int = 0) -> bytes:
    """Similarities of different rows of descriptors `before` and `after` (N, D) training, each L2-normalised, and beta.

    Shares of pairs, on a logarithmic scale as near pairs are few. Above 1500 rows, of that many random ones. Raises
    `ArrayError` on unequal numbers of rows, `UsageError` below 2 rows.
    """
    before = as_array("before", before, np.float32, (None, None))
    after = as_array("after", after, np.float32, (len(before), None))
    if len(before) < 2:
        raise UsageError("a histogram of similarities needs at least 2 rows")
    rows = np.random.default_rng(seed).permutation(len(before))[:SAMPLE]
    edges: list[float] = np.linspace(-1, 1, BINS + 1).tolist()
    figure, axes = _figure()
    for name, vectors, colour in (("before", before, COLOURS[7]), ("after", after, COLOURS[0])):
        similarity = (vectors[rows] @ vectors[rows].T)[np.triu_indices(len(rows), 1)]
        weights = np.full(len(similarity), 100 / len(similarity))
        axes.hist(similarity, bins=edges, weights=weights, color=colour, alpha=0.65, label=name)
    axes.axvline(beta, color=COLOURS[1], linewidth=2, label=f"β = {beta:.3f}")
    axes.set(xlabel="similarity of a pair", ylabel="share of pairs (%)", yscale="log", xlim=(-0.6, 1.0))
    axes.yaxis.set_major_formatter("{x:g}")
    _legend(axes)
    return _png(figure)


def training_curve(
    losses: Any, watched: Sequence[tuple[int, float]] = (), best: int | None = None, scores: Any = None
) -> bytes:
    """Losses (epochs,), and on a second axis hidden neighbours found again, as (epoch, mean reciprocal rank).

    `best`: the epoch that was kept. `scores`: (epoch, mAP) rows, where labels are known, on the second axis too.
    Raises `UsageError` without an epoch.
    """
    losses = as_array("losses", losses, np.float64, (None,))
    if not len(losses):
        raise UsageError("there are no epochs to draw")
    figure, axes = _figure()
    axes.plot(np.arange(1, len(losses) + 1), losses, color=COLOURS[0], linewidth=2.2, label="loss")
    axes.set(xlabel="epoch", ylabel="loss")
    handles = list(axes.lines)
    if len(watched) or scores is not None:
        other = axes.twinx()
        other.spines[["top", "left", "bottom"]].set_visible(False)
        other.spines["right"].set_color("#b6bdc6")
        other.tick_params(colors=SOFT, labelsize=9)
        for rows, colour, name in ((watched, COLOURS[2], "hidden neighbours found"), (scores, COLOURS[1], "mAP")):
            if rows is not None and len(rows):
                points = as_array(name, rows, np.float64, (None, 2))
                handles += other.plot(*points.T, color=colour, linewidth=2, marker="o", markersize=3, label=name)
        other.set_ylabel("mean reciprocal rank" if scores is None else "score", color=SOFT)
    if best:
        handles.append(axes.axvline(best, color=SOFT, linewidth=1.2, linestyle="--", label=f"kept: epoch {best}"))
    _legend(axes, handles)
    return _png(figure)


def study(
    series: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str, *, logarithmic: bool = False
) -> bytes:
    """One line per name of `series`, through points (x, y): mAP over layers or neighbours, seconds over photos.

    `across` and `up` name the axes, which are `logarithmic` or not. Raises `UsageError` without points, `ArrayError`
    for points that are not finite.
    """
    if not series or not all(len(points) for points in series.values()):
        raise UsageError("there is nothing to draw: every line needs a point")
    from matplotlib.ticker import NullLocator

    figure, axes = _figure()
    for number, (name, rows) in enumerate(series.items()):
        points: Float64 = finite_rows(f"the points of {name}", rows, 2, np.float64)
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(points[:, 0], points[:, 1], color=colour, linewidth=2.2, marker="o", markersize=4, label=name)
    axes.set(xlabel=across, ylabel=up)
    if logarithmic:
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(sorted({x for rows in series.values() for x, _ in rows}), minor=False)
        axes.xaxis.set_minor_locator(NullLocator())
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    elif all(float(x).is_integer() for rows in series.values() for x, _ in rows):
        axes.set_xticks(sorted({x for rows in series.values() for x, _ in rows}))
    _legend(axes)
    return _png(figure)
