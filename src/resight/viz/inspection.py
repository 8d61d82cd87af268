"""Pictures of what an encoder of local features sees in a photo, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection, LineCollection, PatchCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from resight.errors import UsageError
from resight.features.local.inspection import Edges
from resight.types import Float32, LocalFeatures
from resight.viz.activations import COLOURS, FAINT, STRONG
from resight.viz.curves import INK, SOFT
from resight.viz.pictures import Pixels, as_pixels

PANEL = 2.1  # inches of the longer side of a photo in a grid
LARGE = 4.6  # of a photo that stands alone
DPI = 150
DIMMED = 0.55  # brightness that photos keep under what is drawn on them
CROWD = 60  # circles drawn of one scale: more would only cover each other
BRIGHT = ("#60a5fa", "#34d399", "#facc15", "#fb923c", "#f87171")  # lines over dimmed photos, by their size
NODE, EDGE, CELL = "#ffd640", "#4ade80", "#38bdf8"


@dataclass(frozen=True, eq=False)
class MapRow:
    """One row of a grid of maps: a `label`, a map (h, w) for each column (None leaves it empty), the values `low` and
    `high` of the colour bar, and what it measures, `unit`. `titles`: of its panels, None for none."""

    label: str
    maps: Sequence[Float32 | None]
    low: float = 0.0
    high: float = 1.0
    unit: str = ""
    titles: Sequence[str] | None = None


@dataclass(frozen=True, eq=False)
class Cells:
    """Features chosen of one scale: `xy` (n, 2), `side` (n,) in pixels of the photo; `round`: circles, not cells."""

    xy: Float32
    side: Float32
    title: str = ""
    round: bool = False


def maps_grid(photo: Pixels, rows: Sequence[MapRow]) -> bytes:
    """Maps over a grey photo (H, W, 3) uint8: a row each, with a colour bar at its end.

    Raises `UsageError` without a map, or when rows differ in their number of maps.
    """
    pixels = as_pixels("photo", photo)
    if not rows or not rows[0].maps or len({len(row.maps) for row in rows}) > 1:
        raise UsageError("a grid of maps needs at least one map, and equally many in every row")
    figure, axes = _grid(pixels, len(rows), len(rows[0].maps), bars=True)
    for line, row in zip(axes, rows, strict=True):
        for panel, title, values in zip(line, row.titles or [""] * len(line), row.maps, strict=True):
            if values is None:
                panel.set_visible(False)
                continue
            panel.set_title(title, color=INK, fontsize=9)
            _heat(panel, pixels, values, row)
        line[0].set_ylabel(row.label, color=INK, fontsize=9)
        _bar(figure, line, Normalize(row.low, row.high), _colours(COLOURS / 255), row.unit)
    return _saved(figure)


def cells_grid(photo: Pixels, rows: Sequence[tuple[str, Sequence[Cells]]]) -> bytes:
    """Chosen features of each scale over a dimmed photo, a row for each label; raises `UsageError` without any.

    Of circles, which are as wide as what their feature looks at, the first 60 are drawn.
    """
    pixels = as_pixels("photo", photo)
    if not any(scales for _, scales in rows):
        raise UsageError("there are no features to draw: give at least one row of one scale")
    figure, axes = _grid(pixels, len(rows), max(len(scales) for _, scales in rows))
    for line, (label, scales) in zip(axes, rows, strict=True):
        for panel in line[len(scales) :]:
            panel.set_visible(False)
        for panel, cells in zip(line, scales, strict=False):
            _dim(panel, pixels)
            panel.set_title(cells.title, color=INK, fontsize=8.5)
            _circles(panel, cells) if cells.round else _squares(panel, cells)
        line[0].set_ylabel(label, color=INK, fontsize=9)
    return _saved(figure)


def edges_grid(photo: Pixels, rows: Sequence[tuple[str, Sequence[Edges]]]) -> bytes:
    """What a few cells are joined with, a column for each cell: the stronger an edge, the more solid its line.

    Raises `UsageError` without a cell.
    """
    pixels = as_pixels("photo", photo)
    if not rows or not rows[0][1]:
        raise UsageError("there are no edges to draw: give at least one cell")
    figure, axes = _grid(pixels, len(rows), len(rows[0][1]), PANEL * 1.5)
    for line, (label, stars) in zip(axes, rows, strict=True):
        for number, (panel, star) in enumerate(zip(line, stars, strict=True), 1):
            _dim(panel, pixels)
            _star(panel, star)
            if line is axes[0]:
                panel.set_title(f"cell {number}", color=INK, fontsize=9)
        line[0].set_ylabel(label, color=INK, fontsize=9)
    return _saved(figure)


def keypoints_picture(photo: Pixels, points: LocalFeatures, *, oriented: bool = True, most: int = 500) -> bytes:
    """The `most` strongest key points on a dimmed photo: circles as wide as their patch, a radius along their angle
    where that is `oriented`, coloured by scale."""
    pixels = as_pixels("photo", photo)
    figure, axes = _grid(pixels, 1, 1, LARGE * 1.5)
    panel = axes[0][0]
    _dim(panel, pixels)
    shown = points.select(slice(most))
    panel.set_title(f"{len(shown)} strongest of {len(points)} key points", color=INK, fontsize=9)
    if not len(shown):
        return _saved(figure)
    low, high = float(shown.scale.min()), float(shown.scale.max())
    norm, colours = LogNorm(low, max(high, 1.01 * low)), _colours(BRIGHT)
    _ellipses(panel, shown.xy, shown.scale, facecolors="none", edgecolors=colours(norm(shown.scale)), linewidths=0.9)
    if oriented:
        tips = shown.xy + shown.scale[:, None] / 2 * np.stack((np.cos(shown.angle), np.sin(shown.angle)), axis=1)
        lines = np.stack((shown.xy, tips), axis=1)
        panel.add_collection(LineCollection(list(lines), colors=colours(norm(shown.scale)), linewidths=0.9))
    _bar(figure, [panel], norm, colours, "scale, pixels")
    return _saved(figure)


def _grid(
    pixels: Pixels, rows: int, columns: int, side: float = PANEL, *, bars: bool = False
) -> tuple[Figure, list[list[Axes]]]:
    height, width = pixels.shape[:2]
    if columns <= 2:
        side = max(side, LARGE * (1 if columns == 1 else 0.8))
    across, up = side * width / max(height, width), side * height / max(height, width)
    size = (columns * (across + 0.06) + 0.35 + 0.75 * bars, rows * (up + 0.08) + 0.3 + 0.25 * (rows - 1) * (not bars))
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=size, dpi=DPI, layout=layout, facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel in axes.ravel():
        panel.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
        panel.spines[:].set_visible(False)
    return figure, axes.tolist()


def _heat(panel: Axes, pixels: Pixels, values: Float32, row: MapRow) -> None:
    """The photo in grey, the map over it: the higher its value, the less of the photo is left."""
    height, width = pixels.shape[:2]
    wide = cv2.resize(values.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    share = ((wide - row.low) / (row.high - row.low)).clip(0, 1)
    colour = _colours(COLOURS / 255)(share)[:, :, :3]
    opacity = (FAINT + (STRONG - FAINT) * share)[:, :, None]
    mixed = _grey(pixels)[:, :, None] / 255 * (1 - opacity) + colour * opacity
    panel.imshow(mixed.clip(0, 1), extent=(0, width, height, 0))


def _dim(panel: Axes, pixels: Pixels) -> None:
    height, width = pixels.shape[:2]
    grey = _grey(pixels)[:, :, None] * 0.5 + pixels * 0.5
    panel.imshow((grey * DIMMED).astype(np.uint8), extent=(0, width, height, 0))


def _star(panel: Axes, star: Edges) -> None:
    top = max(float(star.weights.max(initial=0.0)), 1e-12)
    for (x, y), weight in zip(star.others, star.weights, strict=True):
        share = 0.25 + 0.75 * float(weight) / top
        panel.plot((star.xy[0], x), (star.xy[1], y), color=EDGE, alpha=share, linewidth=1.1, solid_capstyle="round")
    size = 9.0
    panel.scatter(star.others[:, 0], star.others[:, 1], s=size, c=EDGE, linewidths=0.4, edgecolors="black", zorder=3)
    corner = star.xy - star.side / 2
    panel.add_patch(Rectangle(tuple(corner), *star.side, facecolor=NODE, edgecolor="black", linewidth=0.6, zorder=4))


def _squares(panel: Axes, cells: Cells) -> None:
    corners = cells.xy - cells.side[:, None] / 2
    boxes = [Rectangle((x, y), side, side) for (x, y), side in zip(corners, cells.side, strict=True)]
    colour = to_rgb(CELL)
    panel.add_collection(PatchCollection(boxes, facecolor=(*colour, 0.42), edgecolor=(*colour, 0.9), linewidth=0.4))


def _circles(panel: Axes, cells: Cells) -> None:
    shown, colour = slice(CROWD), to_rgb(CELL)
    _ellipses(panel, cells.xy[shown], cells.side[shown], facecolors="none", edgecolors=[(*colour, 0.5)], linewidths=0.8)
    panel.scatter(cells.xy[shown, 0], cells.xy[shown, 1], s=5, color=NODE, linewidths=0, zorder=3)


def _ellipses(panel: Axes, xy: Float32, width: Float32, **style: Any) -> None:
    """Circles around `xy` (n, 2) of diameters `width` (n,), in pixels of the photo."""
    flat = np.zeros(len(width))
    circles = EllipseCollection(width, width, flat, units="xy", offsets=xy, offset_transform=panel.transData, **style)
    panel.add_collection(circles)


def _bar(figure: Figure, panels: list[Axes], norm: Normalize, colours: Colormap, unit: str) -> None:
    share = 0.03 if len(panels) == 1 else 0.02
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=panels, fraction=share, pad=0.01, aspect=14)
    bar.set_label(unit, color=SOFT, fontsize=8)
    bar.ax.tick_params(colors=SOFT, labelsize=7.5)
    bar.outline.set_visible(False)
    if isinstance(norm, LogNorm):
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        bar.ax.yaxis.set_minor_locator(NullLocator())
    else:
        bar.ax.yaxis.set_major_locator(MaxNLocator(5))
    bar.ax.yaxis.set_major_formatter("{x:g}")


def _grey(pixels: Pixels) -> Any:
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def _colours(steps: Any) -> Colormap:
    return LinearSegmentedColormap.from_list("steps", [to_rgb(step) for step in steps])


def _saved(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.06, metadata={"Software": ""})
    return buffer.getvalue()
