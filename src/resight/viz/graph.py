"""The neighbourhood of a result as a picture: thumbnails joined by the edges of the kNN graph, from the query on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from resight.arrays import Float64
from resight.errors import UsageError
from resight.viz.pictures import RIGHT, Pixels, Relevance, as_pixels, fit, font, relevance_colour

PAPER, INK, FAINT, QUERY, PATH = (255, 255, 255), (31, 41, 51), (190, 197, 205), (37, 99, 235), (217, 119, 6)
BORDER = 4
GAP = 26
LINE = 16
SUPERSAMPLING = 2  # Pillow draws lines without anti-aliasing: draw them large, then scale down


@dataclass(frozen=True, eq=False)
class GraphNode:
    """A photo: `pixels` (H, W, 3) uint8, a short `caption`, its judgement."""

    pixels: Pixels
    caption: str = ""
    relevant: Relevance = None


@dataclass(frozen=True)
class GraphEdge:
    """An edge between two nodes by their places. `verified`: geometry proves it. `label`: say, its weight."""

    first: int
    second: int
    label: str = ""
    verified: bool = False


def draw_graph(
    nodes: Sequence[GraphNode], edges: Sequence[GraphEdge], path: Sequence[int] = (), *, cell: int = 110
) -> Image.Image:
    """Draw photos and the edges between them; give an RGB picture. The first of `nodes` is the query, framed blue.

    A photo stands as many columns right of the query as it has edges between; photos that no edge joins to it stand in
    the last column. `path`: places of nodes from the query to a result, drawn orange; verified edges are green, others
    grey. Frames say the judgement as in `ranked_strip`.
    Raises `UsageError` without a query, for edges or a path between nodes that are not there, and for a cell under 16
    pixels, `ArrayError` when pixels are not (H, W, 3) uint8.
    """
    _check(nodes, edges, path, cell)
    columns = _columns(len(nodes), edges)
    centres, width, height = _places(columns, edges, cell)
    picture = Image.new("RGB", (width * SUPERSAMPLING, height * SUPERSAMPLING), PAPER)
    walked = {frozenset(pair) for pair in pairwise(path)}
    _draw_lines(ImageDraw.Draw(picture), centres, edges, walked)
    picture = picture.reduce(SUPERSAMPLING)
    for place, (node, centre) in enumerate(zip(nodes, centres, strict=True)):
        colour = QUERY if place == 0 else PATH if place in path else relevance_colour(node.relevant)
        _draw_node(picture, node, centre, cell, colour, f"node {place}")
    _draw_labels(ImageDraw.Draw(picture), centres, edges, cell)
    return picture


def _check(nodes: Sequence[GraphNode], edges: Sequence[GraphEdge], path: Sequence[int], cell: int) -> None:
    if not nodes:
        raise UsageError("a graph without nodes cannot be drawn: the query is the first")
    if cell < 16:
        raise UsageError(f"thumbnails of {cell} pixels cannot be drawn: 16 is the least")
    for place in (*(edge.first for edge in edges), *(edge.second for edge in edges), *path):
        if not 0 <= place < len(nodes):
            raise UsageError(f"there is no node {place} among the {len(nodes)} of the graph")


def _columns(count: int, edges: Sequence[GraphEdge]) -> list[list[int]]:
    """Nodes by their number of edges from the query; within a column by place. Those not joined to it come last."""
    near: list[set[int]] = [set() for _ in range(count)]
    for edge in edges:
        near[edge.first].add(edge.second)
        near[edge.second].add(edge.first)
    columns, left = [[0]], set(range(1, count))
    while found := sorted({other for node in columns[-1] for other in near[node]} & left):
        columns.append(found)
        left -= set(found)
    return [*columns, sorted(left)] if left else columns


def _places(columns: list[list[int]], edges: Sequence[GraphEdge], cell: int) -> tuple[Float64, int, int]:
    """Centres (n, 2) of all nodes and the size of the picture; a column follows the heights of the one before."""
    step_x, step_y = 2 * cell, cell + LINE + GAP
    tallest = max(len(column) for column in columns)
    centres = np.zeros((sum(len(column) for column in columns), 2))
    for number, column in enumerate(columns):
        before = set(columns[number - 1]) if number else set()
        height = {node: _mean_height(node, before, edges, centres) for node in column}
        ordered = sorted(column, key=lambda node: (height[node], node))
        top = (tallest - len(column)) * step_y / 2
        for slot, node in enumerate(ordered):
            centres[node] = GAP + cell / 2 + number * step_x, GAP / 2 + cell / 2 + top + slot * step_y
    width = 2 * GAP + cell + (len(columns) - 1) * step_x
    return centres, int(width), int(tallest * step_y)


def _mean_height(node: int, before: set[int], edges: Sequence[GraphEdge], centres: Float64) -> float:
    joined = [e.first + e.second - node for e in edges if node in (e.first, e.second)]
    heights = [centres[other, 1] for other in joined if other in before]
    return float(np.mean(heights)) if heights else 0.0


def _draw_lines(
    draw: ImageDraw.ImageDraw, centres: Float64, edges: Sequence[GraphEdge], walked: set[frozenset[int]]
) -> None:
    """Grey lines first, so that those which matter lie on top."""

    def rank(edge: GraphEdge) -> int:
        return 2 if frozenset((edge.first, edge.second)) in walked else int(edge.verified)

    for edge in sorted(edges, key=rank):
        line = [*(centres[edge.first] * SUPERSAMPLING), *(centres[edge.second] * SUPERSAMPLING)]
        colour, width = ((FAINT, 1), (RIGHT, 2), (PATH, 4))[rank(edge)]
        draw.line(line, fill=colour, width=width * SUPERSAMPLING)
        if rank(edge) == 2 and edge.verified:
            draw.line(line, fill=RIGHT, width=SUPERSAMPLING)


def _draw_node(
    picture: Image.Image,
    node: GraphNode,
    centre: Float64,
    cell: int,
    colour: tuple[int, int, int] | None,
    name: str,
) -> None:
    photo = fit(Image.fromarray(as_pixels(name, node.pixels)), cell - 2 * BORDER, cell - 2 * BORDER)
    x, y = int(centre[0] - photo.width / 2), int(centre[1] - photo.height / 2)
    draw = ImageDraw.Draw(picture)
    frame = (x - BORDER, y - BORDER, x + photo.width + BORDER - 1, y + photo.height + BORDER - 1)
    draw.rectangle(frame, fill=colour or PAPER)
    picture.paste(photo, (x, y))
    text = " ".join(node.caption.encode("utf-8", "replace").decode().split())
    draw.text((centre[0], frame[3] + LINE / 2 + 1), text, INK, font(11), anchor="mm")


def _draw_labels(draw: ImageDraw.ImageDraw, centres: Float64, edges: Sequence[GraphEdge], cell: int) -> None:
    """Labels in the middle of edges between columns; edges within a column have no room for one."""
    for edge in edges:
        middle = (centres[edge.first] + centres[edge.second]) / 2
        if edge.label and abs(centres[edge.first, 0] - centres[edge.second, 0]) >= cell:
            box = draw.textbbox(tuple(middle), edge.label, font(11), anchor="mm")
            draw.rectangle((box[0] - 2, box[1] - 1, box[2] + 2, box[3] + 1), fill=PAPER)
            draw.text(tuple(middle), edge.label, INK, font(11), anchor="mm")
