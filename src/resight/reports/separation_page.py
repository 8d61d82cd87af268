"""The page of a refinement: what training did to the descriptors of a collection, in figures."""

from __future__ import annotations

import io

import numpy as np

from resight.artifacts.neighbours import neighbourhood
from resight.artifacts.similarity import describe_collection
from resight.collection.collection import Collection
from resight.errors import ImageError
from resight.fitting.separation import Refinement
from resight.fitting.separation_graph import listed_pairs
from resight.graph.components import components
from resight.graph.knn_graph import build_knn_graph, neighbours
from resight.images.decode import decode
from resight.types import Int64
from resight.viz.curves import embedding_map
from resight.viz.graph import GraphEdge, GraphNode, draw_graph
from resight.viz.report import ReportPage
from resight.viz.separation import loss_over_similarity, similarity_histogram, training_curve

MOST_ON_A_MAP = 1500
COLOURED = 12  # groups of the map that get a colour
DRAWN = 12  # photos in the picture of the graph
THUMBNAIL = 240


def refinement_page(collection: Collection, refinement: Refinement) -> ReportPage:
    """Figures of `refinement`: loss, similarities, training, maps before and after, and part of the graph."""
    facts, before = refinement.facts, refinement.model.index.inputs[0]
    places = np.flatnonzero(np.isin(refinement.trained, refinement.rows))
    after = refinement.vectors[np.isin(refinement.rows, refinement.trained)]
    before = before[places]
    summary = [
        ("photos", str(len(refinement.rows))),
        ("neighbours", f"{facts['neighbours']:.1f}" + (" verified" if facts["verified"] else "")),
        ("beta", f"{facts['beta']:.3f}"),
        ("epoch kept", f"{facts['best']} of {len(facts['epochs'])}"),
    ]
    figures = [
        ("Loss and gradient of a pair: above beta pairs are pulled together", loss_over_similarity(facts["beta"])),
        ("Similarities before and after", similarity_histogram(before, after, facts["beta"])),
    ]
    if facts["epochs"]:
        epochs = facts["epochs"]
        watched = [(e["number"], e["found_again"]) for e in epochs if e["found_again"] is not None]
        curve = training_curve([e["loss"] for e in epochs], watched, facts["best"])
        figures.append(("Training: no labels are looked at", curve))
    rows = refinement.trained[places]
    figures += _maps(before, after)
    green = "geometry proves" if facts["verified"] else "both agree on"
    title = f"Neighbours of a photo before (grey) and after training: edges that {green} are green"
    figures.append((title, _graph(collection, before, after, rows, verified=facts["verified"])))
    subtitle = f"{collection.path.name}: guided similarity separation"
    return ReportPage("Refined descriptors", subtitle, summary, figures)


def _maps(before: np.ndarray, after: np.ndarray) -> list[tuple[str, bytes]]:
    """t-SNE before and after, the largest groups of mutual neighbours after training coloured alike in both."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(before))[:MOST_ON_A_MAP])
    groups = _groups(after[chosen])
    return [
        (f"Map of the photos {when} training (PCA, then t-SNE)", embedding_map(vectors[chosen], groups))
        for when, vectors in (("before", before), ("after", after))
    ]


def _groups(vectors: np.ndarray) -> list[str | None]:
    """Names of the largest components of the graph of mutual nearest neighbours; None for other photos."""
    nearest = build_knn_graph(vectors, 1).ids[:, 0]
    labels = components(np.stack((np.arange(len(vectors)), nearest), axis=1), len(vectors))
    sizes = np.bincount(labels)
    largest = np.argsort(-sizes, kind="stable")[:COLOURED]
    names = {int(label): f"{sizes[label]} photos ({number})" for number, label in enumerate(largest, 1)}
    return [names.get(int(label)) for label in labels]


def _graph(collection: Collection, before: np.ndarray, after: np.ndarray, rows: Int64, *, verified: bool) -> bytes:
    """The photo with the most similar neighbours after training, and the graph around it."""
    k = min(4, len(after) - 1)
    graph, plain = build_knn_graph(after, k), build_knn_graph(before, k)
    centre = int(np.argmax(graph.weights.sum(axis=1)))
    near = neighbours(after[[centre]], after, min(DRAWN, len(after))).ids[0]
    nodes = [centre, *[int(node) for node in near if node != centre]][:DRAWN]
    proven = _proven(collection, rows) if verified else {(a, int(b)) for a in nodes for b in plain.ids[a]}
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


def _proven(collection: Collection, rows: Int64) -> set[tuple[int, int]]:
    """Pairs of places in `rows` that the collection's verified graph joins; none where it is there no more."""
    whole = collection.state.vectors
    graph = None if whole is None else neighbourhood(collection.path, whole, None).verified
    if graph is None:
        return set()
    place = {int(row): i for i, row in enumerate(rows)}
    known = describe_collection(collection).rows
    pairs = known[listed_pairs(graph)]
    return {(place[a], place[b]) for a, b in pairs.tolist() if a in place and b in place}


def _pixels(collection: Collection, row: int) -> np.ndarray:
    try:
        return decode(collection.photo(row)["path"], max_side=THUMBNAIL).pixels
    except ImageError:
        return np.full((THUMBNAIL, THUMBNAIL, 3), 230, np.uint8)  # the file is gone since
