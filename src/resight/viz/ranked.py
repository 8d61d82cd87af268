"""A query and its ranked results as one picture: thumbnails in reading order, framed by their judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from resight.errors import UsageError
from resight.viz.pictures import Pixels, Relevance, as_pixels, fit, font, relevance_colour

PAPER, INK, FAINT, QUERY = (255, 255, 255), (31, 41, 51), (107, 114, 128), (37, 99, 235)
BORDER = 4
MARGIN = 10
LINE = 18


@dataclass(frozen=True, eq=False)
class RankedItem:
    """One result: `pixels` (H, W, 3) uint8, a short `caption`, its judgement."""

    pixels: Pixels
    caption: str = ""
    relevant: Relevance = None


def ranked_strip(
    query: Pixels,
    results: Sequence[RankedItem],
    *,
    caption: str = "query",
    cell: int = 150,
    columns: int = 10,
) -> Image.Image:
    """Draw the query at the left, framed blue, and its results in reading order, best first; give an RGB picture.

    A right result is framed green, a wrong one red, junk grey; what is not judged has no frame. Photos keep their
    aspect inside cells of `cell` pixels, `columns` to a row; captions longer than a cell are cut.

    Raises `ArrayError` when pixels are not (H, W, 3) uint8, `UsageError` on a cell under 16 pixels or no column.
    """
    if cell < 16 or columns < 1:
        raise UsageError(f"a strip of {columns} columns of {cell} pixels cannot be drawn: 1 column of 16 is the least")
    across = max(1, min(columns, len(results)))
    down = max(1, -(-len(results) // columns))
    step_x, step_y = cell + MARGIN, cell + LINE + MARGIN
    first_x = MARGIN + step_x + MARGIN
    strip = Image.new("RGB", (first_x + across * step_x, MARGIN + down * step_y), PAPER)
    _draw_cell(strip, (MARGIN, MARGIN), cell, as_pixels("query", query), caption, QUERY)
    draw = ImageDraw.Draw(strip)
    draw.line([(first_x - MARGIN, MARGIN), (first_x - MARGIN, strip.height - MARGIN)], fill=(222, 226, 230), width=1)
    if not results:
        draw.text((first_x + 4, MARGIN + cell // 2), "no results", FAINT, font(13), anchor="lm")
    for rank, item in enumerate(results):
        corner = (first_x + rank % columns * step_x, MARGIN + rank // columns * step_y)
        pixels = as_pixels(f"pixels of result {rank + 1}", item.pixels)
        text = f"{rank + 1}  {item.caption}".rstrip()
        _draw_cell(strip, corner, cell, pixels, text, relevance_colour(item.relevant))
    return strip


def _draw_cell(
    strip: Image.Image,
    corner: tuple[int, int],
    cell: int,
    pixels: Pixels,
    caption: str,
    colour: tuple[int, int, int] | None,
) -> None:
    """Draw one thumbnail in the middle of its cell, its frame around it and the caption underneath."""
    inner = cell - 2 * BORDER
    photo = fit(Image.fromarray(pixels), inner, inner)
    x, y = corner[0] + (cell - photo.width) // 2, corner[1] + (cell - photo.height) // 2
    draw = ImageDraw.Draw(strip)
    if colour is not None:
        frame = (x - BORDER, y - BORDER, x + photo.width + BORDER - 1, y + photo.height + BORDER - 1)
        draw.rectangle(frame, fill=colour)
    strip.paste(photo, (x, y))
    middle = (corner[0] + cell // 2, corner[1] + cell + LINE // 2)
    draw.text(middle, _cut(caption, cell), INK, font(12), anchor="mm")


def _cut(text: str, width: int) -> str:
    """`text` on one line, shortened by an ellipsis until it fits `width` pixels."""
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    if font(12).getlength(text) <= width:
        return text
    while text and font(12).getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
