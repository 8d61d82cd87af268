"""The page of a refinement: what training did to the descriptors of a collection, in figures."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from resight.collection.collection import Collection
from resight.errors import ImageError
from resight.graph.components import components
from resight.graph.knn_graph import build_knn_graph, neighbours
from resight.images.decode import decode
from resight.ranking.search import GlobalSearch
from resight.ranking.separation import Separation
from resight.ranking.vector_database import VectorDatabase
from resight.types import Float32, Int64, Queries, Stage
from resight.viz.curves import embedding_map
from resight.viz.graph import GraphEdge, GraphNode, draw_graph
from resight.viz.pictures import ABSENT, Pixels
from resight.viz.report import ReportPage
from resight.viz.separation import gradients_of_query, loss_over_similarity, similarity_histogram, study, training_curve

MOST_ON_A_MAP = 1500
COLOURED = 12  # groups of the map that get a colour
DRAWN = 12  # photos in the picture of the graph
THUMBNAIL = 240
MOST_NEAR = 4  # neighbours that tell which photo is drawn
TIMED = 20  # queries
FEWEST_TIMED = 100  # photos below which a time says nothing


def separation_page(
    collection: Collection,
    facts: Mapping[str, Any],
    before: Float32,
    after: Float32,
    rows: Int64,
    proven: Int64 | None = None,
    stage: Separation | None = None,
) -> ReportPage:
    """Figures of a training: loss, gradients, similarities, epochs, maps before and after, part of the graph, and the
    time of a query.

    `facts`: its settings and story. `before` and `after` (N, D): descriptors of the photos `rows` (N,) that it was
    trained on. `proven` (P, 2): rows of pairs that geometry proves, where the training joined those alone. `stage`:
    what searches, to be timed.
    """
    centre = _centre(after)
    others = np.delete(np.arange(len(after)), centre)
    beside = before[others] @ before[centre], after[others] @ after[centre]
    summary = [
        ("photos", str(len(rows))),
        ("neighbours", f"{facts['neighbours']:.1f}" + (" verified" if facts["verified"] else "")),
        ("beta", f"{facts['beta']:.3f}"),
        ("epoch kept", f"{facts['best']} of {len(facts['epochs'])}"),
    ]
    figures = [
        ("Loss and gradient of a pair: above beta pairs are pulled together", loss_over_similarity(facts["beta"])),
        (
            "One photo as the query: the gradient at every other photo, and what became of their similarity",
            gradients_of_query(*beside, facts["beta"]),
        ),
        ("Similarities before and after", similarity_histogram(before, after, facts["beta"])),
    ]
    if facts["epochs"]:
        epochs = facts["epochs"]
        watched = [(e["number"], e["found_again"]) for e in epochs if e["found_again"] is not None]
        curve = training_curve([e["loss"] for e in epochs], watched, facts["best"])
        figures.append(("Training: no labels are looked at", curve))
    figures += _maps(before, after)
    green = "geometry proves" if facts["verified"] else "both agree on"
    title = f"Neighbours of a photo before (grey) and after training: edges that {green} are green"
    figures.append((title, _graph(collection, before, after, rows, proven)))
    if stage is not None:
        figures.append(
            ("Processor time of a query", study(_query_seconds(stage), "photos", "milliseconds", logarithmic=True))
        )
    subtitle = f"{collection.path.name}: guided similarity separation"
    return ReportPage("Refined descriptors", subtitle, summary, figures)


def _maps(before: Float32, after: Float32) -> list[tuple[str, bytes]]:
    """t-SNE before and after, the largest groups of mutual neighbours after training coloured alike in both."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(before))[:MOST_ON_A_MAP])
    groups = _groups(after[chosen])
    return [
        (f"Map of the photos {when} training (PCA, then t-SNE)", embedding_map(vectors[chosen], groups))
        for when, vectors in (("before", before), ("after", after))
    ]


def _groups(vectors: Float32) -> list[str | None]:
    """Names of the largest components of the graph of mutual nearest neighbours; None for other photos."""
    nearest = build_knn_graph(vectors, 1).ids[:, 0]
    labels = components(np.stack((np.arange(len(vectors)), nearest), axis=1), len(vectors))
    sizes = np.bincount(labels)
    largest = np.argsort(-sizes, kind="stable")[:COLOURED]
    names = {int(label): f"{sizes[label]} photos ({number})" for number, label in enumerate(largest, 1)}
    return [names.get(int(label)) for label in labels]


def _graph(collection: Collection, before: Float32, after: Float32, rows: Int64, pairs: Int64 | None) -> bytes:
    """The photo with the most similar neighbours after training, and the graph around it."""
    k = min(MOST_NEAR, len(after) - 1)
    graph, plain, centre = build_knn_graph(after, k), build_knn_graph(before, k), _centre(after)
    near = neighbours(after[[centre]], after, min(DRAWN, len(after))).ids[0]
    nodes = [centre, *[int(node) for node in near if node != centre]][:DRAWN]
    verified = pairs is not None
    proven = {(a, int(b)) for a in nodes for b in plain.ids[a]} if pairs is None else _places(pairs, rows)
    listed = {(a, int(b)) for lists in (graph, plain) for a in nodes for b in lists.ids[a]} | proven
    edges = [
        GraphEdge(i, j, "", bool({(a, b), (b, a)} & proven) and (verified or b in graph.ids[a] or a in graph.ids[b]))
        for i, a in enumerate(nodes)
        for j, b in enumerate(nodes[:i])
        if {(a, b), (b, a)} & listed
    ]
    photos = [GraphNode(_pixels(collection, int(rows[node]))) for node in nodes]
    buffer = io.BytesIO()
    draw_graph(photos, edges).save(buffer, "PNG")
    return buffer.getvalue()


def _centre(after: Float32) -> int:
    """The photo with the most similar neighbours after training."""
    return int(np.argmax(build_knn_graph(after, min(MOST_NEAR, len(after) - 1)).weights.sum(axis=1)))


def _query_seconds(stage: Separation) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of processor time of a query, plain and refined, among the first 1/1, 1/2, 1/4, ... of the
    photos: the least of several tries with one query at a time.
    """
    vectors, refined = stage.database.vectors, stage.refined.vectors
    most = min(len(vectors), len(refined))
    sizes = [max(most >> shift, 1) for shift in range(5) if shift == 0 or most >> shift >= FEWEST_TIMED]
    queries = [Queries(vectors=vectors[[row]] + stage.mean) for row in range(min(TIMED, most))]
    found: dict[str, list[tuple[float, float]]] = {"nearest neighbours": [], "refined": []}
    for size in sorted(sizes):
        among, moved = VectorDatabase.over(vectors[:size]), VectorDatabase.over(refined[:size])
        part = replace(stage, database=among, refined=moved, k=min(stage.k, size), limit=None)
        for name, search in (("nearest neighbours", GlobalSearch(among.index)), ("refined", part)):
            found[name].append((size, 1000 * min(_seconds(search, query) for query in queries)))
    return found


def _seconds(stage: Stage, query: Queries) -> float:
    started = time.process_time()  # other programs do not count
    stage(query, None)
    return time.process_time() - started


def _places(pairs: Int64, rows: Int64) -> set[tuple[int, int]]:
    """Pairs (P, 2) of rows as places in `rows`; those of other photos are left out."""
    kept = pairs[np.isin(pairs, rows).all(axis=1)]
    return {(int(a), int(b)) for a, b in np.searchsorted(rows, kept)}


def _pixels(collection: Collection, row: int) -> Pixels:
    try:
        return decode(collection.snapshot.photo(row)["path"], max_side=THUMBNAIL).pixels
    except ImageError:
        return ABSENT  # the file is gone since
