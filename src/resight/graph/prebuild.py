"""The text form of a kNN graph that the published programs of EGT exchange ("prebuild" files)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resight.errors import ArrayError, UsageError
from resight.graph.knn_graph import row_dtype
from resight.types import Float32, Int64, KnnGraph


def read_prebuild(path: str | Path, queries: int = 0) -> tuple[KnnGraph, KnnGraph]:
    """Read a prebuild file as (query graph, graph); its first `queries` lines are queries.

    A line is `<id>,<id> <weight> <id> <weight> ...`, where ids count the lines from 0, queries first. The ids of both
    graphs are rows of the collection: id - queries. Raises `UsageError` for a file that is not there, and `ArrayError`,
    naming the line, for lines out of order, odd numbers of fields, unknown ids, queries as neighbours, and weights that
    are not finite.
    """
    if not Path(path).is_file():
        raise UsageError(f"{path} is not there: give a prebuild file")
    with open(path, encoding="utf-8") as file:
        lines = [line for line in file if line.strip()]
    if not 0 <= queries <= len(lines):
        raise UsageError(f"{path} has {len(lines)} lines: queries={queries} is outside 0 to {len(lines)}")
    rows = [_parse(line, number, f"{path}, line {number + 1}") for number, line in enumerate(lines)]
    for number, (ids, _) in enumerate(rows):
        if ids.size and not (ids.min() >= queries and ids.max() < len(rows)):
            raise ArrayError(
                f"{path}, line {number + 1}: neighbours {ids.min()} to {ids.max()} are outside {queries} to "
                f"{len(rows) - 1}, the ids of the collection"
            )
    return _lists(rows[:queries], queries, len(rows)), _lists(rows[queries:], queries, len(rows))


def write_prebuild(path: str | Path, query_graph: KnnGraph, graph: KnnGraph, decimals: int = 3) -> None:
    """Write both graphs as one prebuild file, weights rounded to `decimals` as the published program does.

    Rounding makes ties; pass more decimals, or 0 for inlier counts. Raises `UsageError` for negative `decimals` and
    `ArrayError` where an id lies outside the collection.
    """
    if decimals < 0:
        raise UsageError(f"weights cannot be written with {decimals} decimals: at least 0 is needed")
    queries = len(query_graph)
    for part in (query_graph, graph):
        if part.ids.size and part.ids.max() >= len(graph):
            raise ArrayError(f"neighbour {part.ids.max()} is outside the graph of {len(graph)} nodes")
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for first, part in ((0, query_graph), (queries, graph)):
            for row, (ids, weights) in enumerate(zip(part.ids.tolist(), part.weights.tolist(), strict=True)):
                edges = (f"{i + queries} {w:.{decimals}f} " for i, w in zip(ids, weights, strict=True) if i >= 0)
                file.write(f"{first + row},{''.join(edges)}\n")


def _parse(line: str, number: int, where: str) -> tuple[Int64, Float32]:
    """Ids and weights of one line."""
    name, comma, rest = line.partition(",")
    fields = rest.split()
    if not comma or name.strip() != str(number):
        raise ArrayError(f"{where}: starts with {name.strip()[:20]!r}, expected {str(number) + ','!r}")
    if len(fields) % 2:
        raise ArrayError(f"{where}: has {len(fields)} fields after the comma, expected pairs of id and weight")
    try:
        ids, weights = np.array(fields[::2], np.int64), np.array(fields[1::2], np.float32)
    except (ValueError, OverflowError) as error:
        raise ArrayError(f"{where}: {error}, expected pairs of id and weight") from error
    if not np.isfinite(weights).all():
        raise ArrayError(f"{where}: holds a weight that is not finite")
    return ids, weights


def _lists(rows: list[tuple[Int64, Float32]], queries: int, total: int) -> KnnGraph:
    width = max((len(ids) for ids, _ in rows), default=0)
    ids = np.full((len(rows), width), -1, row_dtype(total))
    weights = np.full((len(rows), width), -np.inf, np.float32)
    for row, (row_ids, row_weights) in enumerate(rows):
        ids[row, : len(row_ids)] = row_ids - queries
        weights[row, : len(row_ids)] = row_weights
    return KnnGraph(ids, weights)
