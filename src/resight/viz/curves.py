"""Charts of an evaluation as PNG bytes, drawn without a display and without matplotlib's global state."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from resight.arrays import Float64, finite_rows
from resight.errors import ArrayError, UsageError
from resight.types import Bool, Float32, as_array

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK, SOFT, GRID = "#17202b", "#5a6675", "#e2e6eb"
COLOURS = ("#2257d6", "#e8590c", "#12805c", "#9333ea", "#c2255c", "#0c8599", "#a16207", "#495057")
RECALL_POINTS = 101
LEGEND_GROUPS = 12
MAP_COMPONENTS = 50  # what t-SNE is fed: PCA removes noise and most of the cost


def recall_precision(relevant: Bool, positives: Any) -> tuple[Float64, Float64]:
    """Interpolated precision per query: recall levels (101,) and precision (Q, 101).

    `relevant` (Q, K) bool tells for each ranked result whether it is a positive, junk already left out; `positives`
    (Q,) int counts a query's positives. At each level stands the best precision at that recall or beyond, 0 where the
    list never gets there. Queries without positives hold NaN. Raises `ArrayError` on wrong shapes or more hits than
    positives.
    """
    relevant = as_array("relevant", relevant, np.bool_, (None, None))
    positives = as_array("positives", positives, np.int64, (len(relevant),))
    hits = relevant.cumsum(axis=1, dtype=np.int64)
    if hits.size and (hits[:, -1] > positives).any():
        query = int(np.flatnonzero(hits[:, -1] > positives)[0])
        raise ArrayError(f"query {query} has {hits[query, -1]} hits but {positives[query]} positives")
    levels = np.linspace(0.0, 1.0, RECALL_POINTS)
    precision = np.zeros((len(relevant), RECALL_POINTS))
    if not relevant.shape[1]:
        precision[positives == 0] = np.nan
        return levels, precision
    at_rank = hits / np.arange(1, relevant.shape[1] + 1)
    best_from = np.maximum.accumulate(at_rank[:, ::-1], axis=1)[:, ::-1]
    for query, total in enumerate(positives):
        if total == 0:
            precision[query] = np.nan
            continue
        needed = np.maximum(np.ceil(levels * total - 1e-9).astype(np.int64), 1)
        rank = np.searchsorted(hits[query], needed)
        reached = rank < len(hits[query])
        precision[query, reached] = best_from[query, rank[reached]]
    return levels, precision


def precision_recall(curves: Mapping[str, tuple[Any, Any]]) -> bytes:
    """Precision against recall, one line per name of `curves`; each is (recall (R,), precision (R,) or (Q, R)).

    Several queries are drawn as their mean, with the middle half of the queries shaded; NaN queries are left out.
    Raises `ArrayError` on unequal lengths, `UsageError` without curves.
    """
    if not curves:
        raise UsageError("there is no curve to draw: give at least one name with its recall and precision")
    figure, axes = _figure()
    for (name, (recall, precision)), colour in zip(curves.items(), _cycle(len(curves)), strict=True):
        recall = as_array(f"recall of {name}", recall, np.float64, (None,))
        rows = as_array(f"precision of {name}", np.atleast_2d(precision), np.float64, (None, len(recall)))
        rows = rows[~np.isnan(rows).any(axis=1)]
        if not len(rows):
            raise UsageError(f"curve {name} has no query with positives")
        if len(rows) > 1:
            low, high = np.percentile(rows, (25, 75), axis=0)
            axes.fill_between(recall, low, high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(recall, rows.mean(axis=0), color=colour, linewidth=2.2, label=name)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    _legend(axes)
    return _png(figure)


def ap_histogram(ap: Any) -> bytes:
    """How many queries reach which average precision; `ap` (Q,), NaN for queries without positives (told apart).

    Raises `ArrayError` on values outside 0 to 1, `UsageError` when no query has positives.
    """
    values: Float64 = as_array("ap", ap, np.float64, (None,))
    scored = values[~np.isnan(values)]
    if not len(scored):
        raise UsageError("no query has an average precision: a histogram needs at least one")
    if scored.min() < 0 or scored.max() > 1:
        raise ArrayError(f"ap runs from {scored.min():g} to {scored.max():g}: average precision lies in 0 to 1")
    figure, axes = _figure()
    axes.hist(100 * scored, bins=20, range=(0, 100), color=COLOURS[0], edgecolor="white", linewidth=1.2)
    mean = 100 * float(scored.mean())
    axes.axvline(mean, color=COLOURS[1], linewidth=2, label=f"mean {mean:.1f}")
    left_out = len(values) - len(scored)
    unit = f"queries ({len(scored)}; {left_out} without positives left out)" if left_out else f"queries ({len(scored)})"
    axes.set(xlabel="average precision, %", ylabel=unit, xlim=(0, 100))
    _whole_numbers(axes)
    _legend(axes)
    return _png(figure)


def score_histogram(null: Any, threshold: float, *, found: Any = None, label: str = "score") -> bytes:
    """Scores of unrelated pairs `null` (M,), the match threshold and, where given, scores of results `found` (R,).

    Bars are shares of each group, on a logarithmic scale so that a rare high score of an unrelated pair stays visible.
    Raises `ArrayError` on values that are not finite, `UsageError` when `null` is empty.
    """
    groups = {"unrelated pairs": as_array("null", null, np.float64, (None,))}
    if found is not None and len(found):
        groups["results"] = as_array("found", found, np.float64, (None,))
    if not len(groups["unrelated pairs"]):
        raise UsageError("there are no scores of unrelated pairs to draw")
    every = np.concatenate([*groups.values(), [threshold]])
    if not np.isfinite(every).all():
        raise ArrayError("scores or threshold hold NaN or infinity")
    edges: list[float] = np.histogram_bin_edges(every, bins=40).tolist()
    figure, axes = _figure()
    for (name, scores), colour in zip(groups.items(), (COLOURS[7], COLOURS[0]), strict=False):
        weights = np.full(len(scores), 100.0 / len(scores))
        axes.hist(scores, bins=edges, weights=weights, color=colour, alpha=0.72, label=f"{name} ({len(scores)})")
    axes.axvline(threshold, color=COLOURS[1], linewidth=2, label=f"match from {threshold:.4g}")
    axes.set(xlabel=label, ylabel="share (%)", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    _legend(axes)
    return _png(figure)


def embedding_map(X: Float32, groups: Sequence[object], seed: int = 0) -> bytes:
    """Descriptors `X` (N, D) on a plane, by PCA to 50 dimensions and then t-SNE, coloured by group.

    `groups`: N labels; None (a distractor, say) is drawn grey below the others. Up to 12 groups are named in a legend.
    Takes some seconds per thousand rows: pass a sample of a large collection. Raises `ArrayError` on unequal lengths or
    values that are not finite, `UsageError` below 5 rows. van der Maaten and Hinton, JMLR 2008.
    """
    X = finite_rows("X", X)
    if len(groups) != len(X):
        raise ArrayError(f"there are {len(groups)} groups for {len(X)} rows")
    if len(X) < 5:
        raise UsageError(f"a map of {len(X)} rows says nothing: give at least 5")
    plane = project_to_plane(X, seed)
    names = sorted({str(group) for group in groups if group is not None})
    labels = np.array(["" if group is None else str(group) for group in groups])
    grouped = np.array([group is not None for group in groups])
    figure, axes = _figure()
    size = float(np.clip(9000 / len(X), 8, 46))
    _scatter(axes, plane[~grouped], "#b6bdc6", size * 0.6, "no group")
    for name, colour in zip(names, _cycle(len(names)), strict=True):
        _scatter(axes, plane[grouped & (labels == name)], colour, size, name)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_aspect("equal", "datalim")
    if len(names) <= LEGEND_GROUPS:
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), labelcolor=INK)
    return _png(figure)


def project_to_plane(X: Float32, seed: int) -> Float64:
    """PCA to 50 dimensions, then t-SNE to (N, 2); the same `seed` gives the same plane."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    components = min(MAP_COMPONENTS, *X.shape)
    reduced = PCA(components, svd_solver="full" if len(X) <= 2000 else "randomized", random_state=seed).fit_transform(X)
    perplexity = min(30.0, (len(X) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca" if components > 1 else "random", random_state=seed)
    # Threads add forces in an order of their own: one thread gives the same map on every machine.
    with threadpool_limits(1):
        return np.asarray(tsne.fit_transform(reduced), np.float64)


def _scatter(axes: Axes, points: Float64, colour: str, size: float, name: str) -> None:
    if len(points):
        axes.scatter(points[:, 0], points[:, 1], s=size, c=colour, edgecolors="white", linewidths=0.4, label=name)


def _cycle(count: int) -> list[str]:
    """`count` colours: the fixed ones first, then hues a golden angle apart, which never crowd."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    hues = [colorsys.hsv_to_rgb(i * 0.618034 % 1, 0.55 + 0.3 * (i % 2), 0.62 + 0.12 * (i % 3)) for i in range(count)]
    return ["#" + "".join(f"{round(255 * part):02x}" for part in rgb) for rgb in hues]


def _figure() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=160, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b6bdc6")
    axes.tick_params(colors=SOFT, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _legend(axes: Axes, handles: Sequence[Artist] | None = None) -> None:
    """Above the axes, where it covers no curve: to look for the best place within takes long where there is much data,
    and matplotlib warns. `handles`: what it names; by default all that has a label on these axes."""
    handles = axes.get_legend_handles_labels()[0] if handles is None else handles
    longest = max((len(str(one.get_label())) for one in handles), default=0)
    beside = 3 if longest <= 24 else 1
    look = {"frameon": False, "fontsize": 9, "labelcolor": INK}
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=beside, **look)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": ""})
    return buffer.getvalue()
