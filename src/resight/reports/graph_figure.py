"""How the results of a search hang together: the stored graph among them, drawn for the report."""

from __future__ import annotations

import io
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from resight.collection.answer import Answer
from resight.collection.collection import Collection
from resight.ranking.vector_database import VectorDatabase
from resight.recipes.catalogue import find_recipe
from resight.recipes.graph import explore_exploit
from resight.reports.pictures import shown_pixels
from resight.types import Int64, KnnGraph
from resight.viz.graph import GraphEdge, GraphNode, draw_graph
from resight.viz.pictures import placeholder

SHOWN = 10  # results in the picture
NEAREST = 3  # results that the query is joined to without proof


def graph_figure(
    collection: Collection, answer: Answer, recipe: str | None = None, options: Mapping[str, Any] | None = None
) -> bytes | None:
    """A PNG of the query, its first results and the edges between them; None where the collection has no graph.

    `recipe` and `options` as they were searched with. Green edges are proven by geometry, orange ones lead to the last
    result of recipe `explore-exploit`.
    """
    snapshot = collection.snapshot
    graph, database = snapshot.graph, snapshot.database
    if graph is None or database is None or not answer.results:
        return None
    path = _path(collection, answer, recipe, options or {})
    known = [result.row for result in answer.results[:SHOWN]]
    rows = np.array([*known, *(row for row in path if row not in known)], np.int64)
    nodes = [_node(answer.query.path, "query")]
    nodes += [_node(photo["path"], photo["id"]) for photo in snapshot.photos(rows)]
    place = {int(row): i for i, row in enumerate(rows, 1)}
    edges = _query_edges(answer, place)
    edges += _edges(database, snapshot.verified_graph, rows, verified=True)
    seen = {frozenset((edge.first, edge.second)) for edge in edges}
    weak = _edges(database, graph, rows, verified=False)
    edges += [edge for edge in weak if frozenset((edge.first, edge.second)) not in seen]
    walked = [0, *(place[row] for row in path)] if path else []
    seen = {frozenset((edge.first, edge.second)) for edge in edges}
    edges += [GraphEdge(a, b) for a, b in pairwise(walked) if frozenset((a, b)) not in seen]
    stream = io.BytesIO()
    draw_graph(nodes, edges, walked).save(stream, "PNG")
    return stream.getvalue()


def _node(path: str, caption: str) -> GraphNode:
    pixels = shown_pixels(path)
    return GraphNode(placeholder("the file\nis gone") if pixels is None else pixels, caption)


def _path(collection: Collection, answer: Answer, recipe: str | None, options: Mapping[str, Any]) -> list[int]:
    """Rows on the way from the query to the last result shown, which the traversal knows."""
    if recipe is None or find_recipe(recipe).build is not explore_exploit:
        return []
    last = answer.results[:SHOWN][-1]
    evidence = collection.pipeline(None, recipe, **options).explain(answer.query.queries(), 0, last.row)
    paths = [item.data["path"] for item in evidence if "path" in item.data]
    return [int(row) for row in paths[0]] if paths else []


def _query_edges(answer: Answer, place: dict[int, int]) -> list[GraphEdge]:
    edges = []
    for rank, result in enumerate(answer.results[:SHOWN]):
        if result.inliers:
            edges.append(GraphEdge(0, place[result.row], str(result.inliers), verified=True))
        elif rank < NEAREST:
            edges.append(GraphEdge(0, place[result.row]))
    return edges


def _edges(database: VectorDatabase, graph: KnnGraph | None, rows: Int64, *, verified: bool) -> list[GraphEdge]:
    """Edges of `graph` between `rows`, each once; those of similarities only to the first few neighbours."""
    if graph is None:
        return []
    nodes = database.nodes(rows)
    places = {int(node): i for i, node in enumerate(nodes, 1) if node >= 0}
    found: dict[frozenset[int], GraphEdge] = {}
    for node, first in places.items():
        near = graph.ids[node] if verified else graph.ids[node][:NEAREST]
        for slot, other in enumerate(near.tolist()):
            if other in places and other != node:
                label = str(int(graph.weights[node, slot])) if verified else ""
                pair = frozenset((first, places[other]))
                found.setdefault(pair, GraphEdge(first, places[other], label, verified))
    return list(found.values())
