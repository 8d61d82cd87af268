"""The page of a refinement: what training did to the descriptors of a collection, in figures."""

from __future__ import annotations

import io

import numpy as np

from resight.collection import Collection
from resight.errors import ImageError
from resight.graph.knn_graph import build_knn_graph, neighbours
from resight.images.decode import decode
from resight.refine import Refinement
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
        ("neighbours", str(facts["neighbours"]) + (" verified" if facts["verified"] else "")),
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
    figures.append(
        (
            "Neighbours of a photo, before and after: edges that both agree on are green",
            _graph(collection, before, after, rows),
        )
    )
    title = "Refined descriptors"
    subtitle = f"{collection.path.name}: guided similarity separation"
    return ReportPage(title, subtitle, summary, figures)


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
    import scipy.sparse
    from scipy.sparse.csgraph import connected_components

    nearest = build_knn_graph(vectors, 1).ids[:, 0]
    every = np.arange(len(vectors))
    graph = scipy.sparse.csr_array((np.ones(len(every)), (every, nearest)), shape=(len(every), len(every)))
    _, labels = connected_components(graph, directed=False)
    sizes = np.bincount(labels)
    largest = np.argsort(-sizes, kind="stable")[:COLOURED]
    names = {int(label): f"{sizes[label]} photos ({number})" for number, label in enumerate(largest, 1)}
    return [names.get(int(label)) for label in labels]


def _graph(collection: Collection, before: np.ndarray, after: np.ndarray, rows: Int64) -> bytes:
    """The photo with the most similar neighbours after training, and the graph around it."""
    k = min(4, len(after) - 1)
    graph = build_knn_graph(after, k)
    centre = int(np.argmax(graph.weights.sum(axis=1)))
    near = neighbours(after[[centre]], after, min(DRAWN, len(after))).ids[0]
    nodes = [centre, *[int(node) for node in near if node != centre]][:DRAWN]
    plain = build_knn_graph(before, k)
    edges = [
        GraphEdge(nodes.index(node), nodes.index(int(other)), "", bool(other in plain.ids[node]))
        for node in nodes
        for other in graph.ids[node]
        if int(other) in nodes
    ]
    photos = [GraphNode(_pixels(collection, int(rows[node]))) for node in nodes]
    buffer = io.BytesIO()
    draw_graph(photos, edges).save(buffer, "PNG")
    return buffer.getvalue()


def _pixels(collection: Collection, row: int) -> np.ndarray:
    try:
        return decode(collection.photo(row)["path"], max_side=THUMBNAIL).pixels
    except ImageError:
        return np.full((THUMBNAIL, THUMBNAIL, 3), 230, np.uint8)  # the file is gone since
