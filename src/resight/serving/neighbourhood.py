"""The photos around one photo: found by a search, joined by geometry and similarity, placed by forces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from resight.arrays import Float64
from resight.collection.answer import Answer
from resight.collection.snapshot import Snapshot
from resight.collection.steps import search_in_steps
from resight.serving import models
from resight.serving.opened import State
from resight.serving.photo_keys import key_of
from resight.serving.querying import Source, ask
from resight.serving.searching import BATCH
from resight.types import Int64, KnnGraph

SOURCES = 12  # photos near the first that are compared with all others, where no graph of inliers is stored
LOOSE = 12  # photos that nothing proves which are shown
ROUNDS = 120
Pair = tuple[int, int]


@dataclass(frozen=True)
class _Edge:
    inliers: int | None = None
    similarity: float | None = None


def neighbourhood(state: State, place: int, most: int, check: Callable[[], None]) -> models.Neighbourhood:
    """At most `most` photos: the one at `place` first, then those that a search finds for it: all that geometry proves,
    and the nearest others. Not for the event loop. Raises as `Collection.search`.
    """
    snapshot, collection = state.collection.snapshot, state.collection
    query = ask(state, Source(None, key_of(state.photos.ids[place]))).query
    pipeline, rule = snapshot.pipeline(None, None, {}), collection.match_rule()
    answer = None
    for step in search_in_steps(snapshot, rule, pipeline, query, top=most - 1, verify=most, batch=BATCH):
        check()
        answer = step
    assert isinstance(answer, Answer)
    proven = [result for result in answer.results if result.inliers]
    loose = [result for result in answer.results if not result.inliers][: min(LOOSE, most - 1 - len(proven))]
    rows = np.array([int(state.photos.rows[place]), *(result.row for result in (*proven, *loose))], np.int64)
    edges = {(0, number): _Edge(inliers=result.inliers) for number, result in enumerate(proven, 1)}
    for pair, inliers in _joined(snapshot, rows[: len(proven) + 1], check).items():
        edges.setdefault(pair, _Edge(inliers=inliers))
    edges = _with_similarity(snapshot, rows, edges, range(len(proven) + 1, len(rows)))
    return _drawn(state, rows, edges)


def _joined(snapshot: Snapshot, rows: Int64, check: Callable[[], None]) -> dict[Pair, int]:
    """Pairs of `rows` that geometry joins: out of the stored graph of inliers, else verified now."""
    if snapshot.verified_graph is not None and snapshot.descriptors is not None:
        return _stored(snapshot.verified_graph, snapshot.descriptors.rows, rows)
    found: dict[Pair, int] = {}
    if snapshot.verifier is None:
        return found
    for number in range(1, min(SOURCES, len(rows) - 1) + 1):
        check()
        others = rows[number + 1 :]
        for other, proof in enumerate(snapshot.verifier(snapshot.features(int(rows[number])), others), number + 1):
            if proof.verified:
                found[number, other] = proof.inliers
    return found


def _stored(graph: KnnGraph, known: Int64, rows: Int64) -> dict[Pair, int]:
    place = {int(row): number for number, row in enumerate(rows)}
    found: dict[Pair, int] = {}
    for number, row in enumerate(rows.tolist()):
        node = int(np.searchsorted(known, row))
        if node == len(known) or known[node] != row:
            continue
        near = graph.ids[node] >= 0
        for other, weight in zip(known[graph.ids[node][near]].tolist(), graph.weights[node][near], strict=True):
            if other in place and place[other] != number:
                first, second = sorted((number, place[other]))
                found.setdefault((first, second), int(weight))
    return found


def _with_similarity(snapshot: Snapshot, rows: Int64, edges: dict[Pair, _Edge], loose: range) -> dict[Pair, _Edge]:
    """`edges` with cosines where there are global descriptors, and an edge from each loose photo to its nearest."""
    cosines = _cosines(snapshot, rows)
    found = {
        pair: _Edge(edge.inliers, None if cosines is None else round(float(cosines[pair]), 4))
        for pair, edge in edges.items()
    }
    for number in loose:
        nearest = 0 if cosines is None else int(np.argmax(cosines[number, :number]))
        similarity = None if cosines is None else round(float(cosines[number, nearest]), 4)
        found[nearest, number] = _Edge(None, similarity)
    return found


def _cosines(snapshot: Snapshot, rows: Int64) -> Float64 | None:
    """Cosines (n, n) of the global descriptors, None where there are none, or not of all."""
    if snapshot.settings.vector is None or snapshot.descriptors is None:
        return None
    known = snapshot.descriptors.rows
    places = np.searchsorted(known, rows)
    if not len(known) or (known[np.minimum(places, len(known) - 1)] != rows).any():
        return None
    vectors = np.asarray(snapshot.descriptors.matrix[places], np.float64)
    return vectors @ vectors.T


def _drawn(state: State, rows: Int64, edges: dict[Pair, _Edge]) -> models.Neighbourhood:
    photos, xy = state.photos, layout(len(rows), edges)
    places = [photos.at(row) for row in rows.tolist()]
    return models.Neighbourhood(
        nodes=[
            models.Node(
                key=key_of(photos.ids[place]),
                id=photos.ids[place],
                x=round(float(x), 4),
                y=round(float(y), 4),
                width=int(photos.widths[place]),
                height=int(photos.heights[place]),
                version=photos.sha256[place][:12],
            )
            for place, (x, y) in zip(places, xy, strict=True)
        ],
        edges=[
            models.Edge(a=first, b=second, inliers=edge.inliers, similarity=edge.similarity)
            for (first, second), edge in sorted(edges.items())
        ],
    )


def layout(count: int, edges: dict[Pair, _Edge]) -> Float64:
    """Places (n, 2) from 0 to 1 of the nodes of a graph: edges pull, all nodes push (Fruchterman and Reingold, 1991).

    The same graph has the same places. At most 300 nodes: all pairs push.
    """
    angles = np.arange(count) * np.pi * (3 - np.sqrt(5))  # a sunflower: nobody starts on another
    radius = np.sqrt(np.arange(count) / max(count - 1, 1))
    xy = 0.5 * radius[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    pairs = np.array(sorted(edges), np.int64).reshape(-1, 2)
    ideal = 1 / np.sqrt(max(count, 1))
    for heat in np.linspace(0.1, 0.005, ROUNDS):
        apart = xy[:, None] - xy[None]
        distance = np.maximum(np.linalg.norm(apart, axis=2), 1e-3)
        force = (apart * (ideal**2 / distance**2)[:, :, None]).sum(axis=1)
        along = xy[pairs[:, 0]] - xy[pairs[:, 1]]
        pull = along * (np.linalg.norm(along, axis=1) / ideal)[:, None]
        np.add.at(force, pairs[:, 0], -pull)
        np.add.at(force, pairs[:, 1], pull)
        length = np.maximum(np.linalg.norm(force, axis=1), 1e-9)
        xy = xy + force * (np.minimum(length, heat) / length)[:, None]
    low, span = xy.min(axis=0), np.maximum(np.ptp(xy, axis=0), 1e-9)
    return np.asarray((xy - low) / span if count > 1 else np.full((count, 2), 0.5))
