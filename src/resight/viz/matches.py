"""Two photos side by side with the matches that prove, or do not prove, that they show the same thing."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance

from resight.arrays import Float64, finite_array
from resight.errors import UsageError
from resight.types import Bool, as_array
from resight.viz.pictures import Pixels, as_pixels

Size = tuple[float, float]

GAP = 8
BACKGROUND = (17, 20, 24)
OUTLINE = (255, 214, 64)
OUTLIER = (239, 68, 68)
UNVERIFIED = (251, 191, 36)
SUPERSAMPLING = 2  # Pillow draws without anti-aliasing: draw large, then scale down
EDGE_STEPS = 48  # pieces per outline edge, so that what a homography sends behind the camera can be left out
MAX_OUTLIERS = 150


def draw_matches(
    a: Pixels,
    b: Pixels,
    xy_a: Any,
    xy_b: Any,
    *,
    inliers: Any = None,
    transform: Any = None,
    outline: Any = None,
    size_a: Size | None = None,
    size_b: Size | None = None,
    height: int = 480,
    max_width: int = 1400,
) -> Image.Image:
    """Draw photo `a` (the query) left of photo `b` with a line per match; give an RGB picture.

    `a`, `b`: (H, W, 3) uint8, possibly scaled-down versions of photos of `size_a`, `size_b` (width, height) original
    pixels; None means not scaled. `xy_a`, `xy_b`: (m, 2) matched points in original pixels, where the centre of the
    top-left pixel is (0.5, 0.5). `inliers`: (m,) bool; inliers are drawn green to blue by their height in `a`, the
    others faint red below them (at most 150, spread evenly); None draws every match amber, as not verified.
    `transform`: (3, 3) from original pixels of `a` to those of `b`: it carries `outline`, a polygon (n, 2) in `a`
    (default: the frame of `a`), into `b`. The picture is `height` pixels high, less when it would pass `max_width`.

    Raises `ArrayError` on wrong shapes or values that are not finite, `UsageError` on a picture without pixels.
    """
    a, b = as_pixels("a", a), as_pixels("b", b)
    xy_a = finite_array("xy_a", xy_a, np.float64, (None, 2))
    xy_b = finite_array("xy_b", xy_b, np.float64, (len(xy_a), 2))
    mask = None if inliers is None else as_array("inliers", inliers, np.bool_, (len(xy_a),))
    size_a, size_b = _size("size_a", size_a, a), _size("size_b", size_b, b)
    panels = _panels(size_a, size_b, height, max_width)
    scale_a, scale_b = (np.divide(panel, size) for panel, size in zip(panels, (size_a, size_b), strict=True))

    left, right = (_resized(pixels, panel) for pixels, panel in zip((a, b), panels, strict=True))
    if transform is not None:
        polygon = _frame(size_a) if outline is None else finite_array("outline", outline, np.float64, (None, 2))
        border = _densify(polygon)
        _draw_border(left, border * scale_a)
        _draw_border(right, _project(finite_array("transform", transform, np.float64, (3, 3)), border) * scale_b)
    elif outline is not None:
        _draw_border(left, _densify(finite_array("outline", outline, np.float64, (None, 2))) * scale_a)

    canvas = _side_by_side(left, right)
    shift = np.array([panels[0][0] + GAP * SUPERSAMPLING, 0.0])
    _draw_lines(canvas, xy_a * scale_a, xy_b * scale_b + shift, mask, panels[0][1])
    return canvas.reduce(SUPERSAMPLING)


def _size(name: str, size: Size | None, pixels: Pixels) -> Size:
    if size is None:
        return float(pixels.shape[1]), float(pixels.shape[0])
    width, height = finite_array(name, size, np.float64, (2,))
    if width <= 0 or height <= 0:
        raise UsageError(f"{name} is {width:g} x {height:g}: give the original width and height in pixels")
    return float(width), float(height)


def _panels(size_a: Size, size_b: Size, height: int, max_width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Supersampled (width, height) of both panels: one height, as wide as their aspects ask for."""
    if height < 1 or max_width < GAP + 2:
        raise UsageError(f"a picture of height {height} and at most {max_width} wide has no room for two photos")
    aspects = size_a[0] / size_a[1], size_b[0] / size_b[1]
    high = min(float(height), (max_width - GAP) / sum(aspects))
    tall = max(1, round(high))
    wide = [min(max(1, round(high * aspect)), max_width - GAP - 1) for aspect in aspects]
    return (wide[0] * SUPERSAMPLING, tall * SUPERSAMPLING), (wide[1] * SUPERSAMPLING, tall * SUPERSAMPLING)


def _resized(pixels: Pixels, size: tuple[int, int]) -> Image.Image:
    """The photo a little darker, so that thin lines stand out on snow and sky."""
    photo = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    return ImageEnhance.Brightness(photo).enhance(0.85)


def _side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    gap = GAP * SUPERSAMPLING
    canvas = Image.new("RGB", (left.width + gap + right.width, left.height), BACKGROUND)
    canvas.paste(left, (0, 0))
    canvas.paste(right, (left.width + gap, 0))
    return canvas


def _frame(size: Size) -> Float64:
    width, height = size
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)


def _densify(polygon: Float64) -> Float64:
    """The closed polygon (n, 2) as (n * EDGE_STEPS + 1, 2) points along its edges."""
    steps = np.linspace(0.0, 1.0, EDGE_STEPS, endpoint=False)[None, :, None]
    edges = polygon[:, None] * (1 - steps) + np.roll(polygon, -1, axis=0)[:, None] * steps
    return np.concatenate([edges.reshape(-1, 2), polygon[:1]])


def _project(transform: Float64, points: Float64) -> Float64:
    """Points (n, 2) through a homography; NaN for those behind the camera, seen from the middle of the points."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ transform.T
    depth = mapped[:, 2] * np.sign(np.append(points.mean(axis=0), 1.0) @ transform[2])
    in_front = depth > 1e-9 * np.abs(mapped[:, 2]).max(initial=1.0)
    projected = np.full((len(points), 2), np.nan)
    projected[in_front] = mapped[in_front, :2] / mapped[in_front, 2:]
    return projected


def _draw_border(panel: Image.Image, points: Float64) -> None:
    """Draw the polyline (n, 2), in panel pixels, yellow on a dark halo; pieces far off the panel are left out."""
    size = np.array(panel.size, np.float64)
    drawable = np.all(np.abs(points) < 20 * size.max(), axis=1)
    # What runs along the edge is moved half a stroke inside, so that the frame of a whole photo stays visible.
    stroke = 1.5 * SUPERSAMPLING
    along_edge = (np.abs(points) < stroke) | (np.abs(points - size) < stroke)
    points = np.where(along_edge, np.clip(points, stroke, np.maximum(size - stroke, stroke)), points) - 0.5
    draw = ImageDraw.Draw(panel)
    for width, colour in ((5 * SUPERSAMPLING, (0, 0, 0)), (3 * SUPERSAMPLING, OUTLINE)):
        for start in np.flatnonzero(drawable[:-1] & drawable[1:]):
            draw.line([*points[start], *points[start + 1]], fill=colour, width=width)


def _draw_lines(canvas: Image.Image, start: Float64, end: Float64, inliers: Bool | None, tall: int) -> None:
    draw = ImageDraw.Draw(canvas, "RGBA")
    if inliers is None:
        rows = np.arange(len(start))
        _draw_group(draw, start, end, rows, [UNVERIFIED] * len(rows))
        return
    wrong = np.flatnonzero(~inliers)
    wrong = wrong[np.linspace(0, len(wrong) - 1, min(len(wrong), MAX_OUTLIERS)).astype(np.int64)]
    for row in wrong:
        draw.line([*(start[row] - 0.5), *(end[row] - 0.5)], fill=(*OUTLIER, 52), width=SUPERSAMPLING)
    right = np.flatnonzero(inliers)
    _draw_group(draw, start, end, right, [_hue(y / tall) for y in start[right, 1]])


def _hue(height: float) -> tuple[int, int, int]:
    """Lime at the top of the query to blue at its foot: neighbouring lines can be told apart."""
    red, green, blue = colorsys.hsv_to_rgb((95 + 105 * min(max(height, 0.0), 1.0)) / 360, 0.85, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _draw_group(
    draw: ImageDraw.ImageDraw, start: Float64, end: Float64, rows: NDArray[Any], colours: list[tuple[int, int, int]]
) -> None:
    """Draw lines and their ends; the more there are, the thinner and the more transparent."""
    opacity = int(np.clip(255 * (30 / max(len(rows), 30)) ** 0.4, 80, 235))
    width = SUPERSAMPLING * 2 if len(rows) <= 60 else SUPERSAMPLING
    radius = SUPERSAMPLING * (3.0 if len(rows) <= 60 else 2.0)
    for row, colour in zip(rows, colours, strict=True):
        draw.line([*(start[row] - 0.5), *(end[row] - 0.5)], fill=(*colour, opacity), width=width)
    for row, colour in zip(rows, colours, strict=True):
        for x, y in (start[row] - 0.5, end[row] - 0.5):
            box = [x - radius, y - radius, x + radius, y + radius]
            draw.ellipse(box, fill=(*colour, 235), outline=(0, 0, 0, 150))
