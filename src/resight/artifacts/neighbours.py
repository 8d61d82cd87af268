"""The kNN graphs of a collection: built on demand, followed when photos come and go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from resight.artifacts import files
from resight.artifacts.descriptors import Descriptors
from resight.artifacts.refined_vectors import bring_up, follow_refined, remove_refined, usable_refined
from resight.artifacts.spectra import build_basis, build_embedding
from resight.errors import UsageError
from resight.graph.adjacency import Adjacency, adjacency
from resight.graph.knn_graph import MOST_EDGES, add_nodes, build_knn_graph, cut, remove_nodes
from resight.graph.searched import add_searched, build_searched_graph, remove_searched, sampled_recall
from resight.graph.stored import StoredGraph, load_graph, save_graph
from resight.graph.verified import build_verified_graph
from resight.index.refined import RefinedIndex
from resight.progress import Progress, silent
from resight.ranking.expansion_stages import Augmentation, verified_augmentation
from resight.ranking.verification import Verifier, inliers_between
from resight.recipes.resources import solve_offline
from resight.store.tensor_file import read_tensors, write_tensors
from resight.store.writer import Writer
from resight.types import Bool, Float32, Int64, KnnGraph

SEARCHED_FROM = 200_000  # photos beyond which neighbours are searched: all pairs take time by the square of the photos
RECALL = 0.955  # of the searches that the graph is made from: what they miss is mostly found from the other side
OFFLINE_FORMAT = "resight offline diffusion 1"


@dataclass(frozen=True)
class GraphReport:
    """What was built: `nodes`, `edges` in both directions, or numbers stored, and neighbours asked for.
    `recall`: the share of the true neighbours that the graph lists, measured on 256 photos where it is below 1."""

    kind: str
    nodes: int
    edges: int
    k: int
    recall: float = 1.0


def build_graphs(
    writer: Writer,
    descriptors: Descriptors,
    verifier: Verifier | None,
    *,
    k: int = 50,
    verified: bool = False,
    offline: bool = False,
    spectral: bool = False,
    manifold: bool = False,
    augmented: Augmentation | None = None,
    progress: Progress = silent,
) -> list[GraphReport]:
    """Build and store the graph of `k` neighbours; `verified`: also the graph of those that geometry proves; `offline`:
    also the part of diffusion that needs no query; `spectral`: also the eigenvectors that spectral ranking needs;
    `manifold`: also the manifold embedding, of up to 10 000 photos; `augmented`: the verified graph, and the graph of
    descriptors after that augmentation with it.

    A verified graph whose making was stopped is continued. Memory: 12 bytes an edge. Raises `UsageError` for k < 1 or
    more edges than 2^30, and for a verified graph without local features.
    """
    photos = len(descriptors.rows)
    if k < 1 or min(k, photos) * photos > MOST_EDGES:
        raise UsageError(f"k={k} for {photos} photos: give at least 1, and at most {MOST_EDGES} edges in all")
    if (verified or augmented is not None) and verifier is None:
        raise UsageError("a verified graph needs local features: index the photos with a recipe that keeps some")
    k = min(k, max(photos - 1, 1))
    progress("building the graph", 0, 1)
    graph, recall = _build_similar(writer, descriptors, k, progress)
    _save(writer, files.GRAPH, graph, descriptors, "similarity")
    progress("building the graph", 1, 1)
    reports = [replace(_report("similarity", graph), recall=recall)]
    if (verified or augmented is not None) and verifier is not None:
        proven = build_verified(writer, graph, descriptors, verifier, progress)
        reports.append(_report("verified", proven))
        if augmented is not None:
            reports.append(_report("augmented", _build_augmented(writer, graph, proven, descriptors, augmented)))
    if offline:
        solved = solve_offline(graph, k)
        _save_offline(writer, solved, descriptors.made_from)
        reports.append(GraphReport("off-line diffusion", len(graph), int(solved.nnz), k))
    if spectral:
        basis = build_basis(writer, graph, descriptors)
        reports.append(GraphReport("spectral basis", len(graph), basis.vectors.size, k))
    if manifold:
        embedding = build_embedding(writer, descriptors)
        reports.append(GraphReport("manifold embedding", len(graph), embedding.database.size, k))
    return reports


def _build_similar(writer: Writer, descriptors: Descriptors, k: int, progress: Progress) -> tuple[KnnGraph, float]:
    """The graph of similarities and its recall: exact, or searched where comparing all pairs would take too long."""
    rows, matrix = descriptors.rows, descriptors.matrix
    if len(rows) <= SEARCHED_FROM:
        remove_refined(writer, files.GRAPH_CODED)
        return build_knn_graph(matrix, k), 1.0
    index = follow_refined(writer, files.GRAPH_CODED, rows, matrix, anew=True, recall=RECALL, k=k + 1)
    graph = build_searched_graph(index, rows, k, index.by_lists(), progress)
    return graph, sampled_recall(graph, rows, index)


def build_verified(
    writer: Writer, graph: KnnGraph, descriptors: Descriptors, verifier: Verifier, progress: Progress = silent
) -> KnnGraph:
    """Build and store the graph of those edges of `graph` that geometry proves; one that was stopped is continued."""
    log = files.place(writer, files.VERIFIED_LOG)
    proven = build_verified_graph(
        graph, inliers_between(verifier, descriptors.rows), path=log, key=descriptors.made_from, progress=progress
    )
    _save(writer, files.VERIFIED_GRAPH, proven, descriptors, "inliers")
    files.remove(writer, files.VERIFIED_LOG)
    return proven


def _build_augmented(
    writer: Writer, graph: KnnGraph, proven: KnnGraph, descriptors: Descriptors, how: Augmentation
) -> KnnGraph:
    """Build and store the graph of descriptors that moved towards their reliable neighbours."""
    near = cut(graph, min(how.first, graph.k))
    moved = verified_augmentation(descriptors.matrix, proven, how.least, how.most, near)
    built = build_knn_graph(moved, graph.k)
    made_from = f"{descriptors.made_from}; {how.name}"
    save_graph(
        files.place(writer, files.AUGMENTED_GRAPH), StoredGraph(built, descriptors.rows, "similarity", made_from)
    )
    return built


def load_augmented(folder: Path, descriptors: Descriptors, how: Augmentation) -> KnnGraph | None:
    """The stored graph of augmented descriptors, None where there is none of that augmentation of `descriptors`.

    Raises `CollectionError` when it is damaged.
    """
    stored = files.read(files.AUGMENTED_GRAPH, folder, load_graph)
    return stored.graph if stored is not None and stored.made_from == f"{descriptors.made_from}; {how.name}" else None


def follow_graphs(writer: Writer, descriptors: Descriptors) -> None:
    """Bring the graph of similarities, if there is one, up to photos that came or went, without building it anew.

    A graph of other descriptors (another whitening) stays as it is, and so do verified and augmented graphs and
    off-line diffusion: recipes then say that they are to be built again. Raises `CollectionError` when the graph is
    damaged.
    """
    stored = files.read(files.GRAPH, writer.folder, load_graph)
    if stored is None or stored.made_from == descriptors.made_from:
        return
    if stored.made_from.partition(":")[0] != descriptors.fingerprint:
        return
    kept = np.isin(stored.rows, descriptors.rows)
    old = np.isin(descriptors.rows, stored.rows)
    index = usable_refined(writer.folder, files.GRAPH_CODED)
    if index is not None and index.dim == descriptors.matrix.shape[1]:
        graph = _follow_searched(stored, index, descriptors, kept, old)
        index.save(files.place(writer, files.GRAPH_CODED.codes))
    else:
        known = descriptors.matrix[old]
        graph = stored.graph if kept.all() else remove_nodes(stored.graph, np.flatnonzero(~kept), known)
        if kept.sum() < len(descriptors.rows):
            graph = add_nodes(graph, descriptors.matrix)  # rows only grow, so new photos stand behind the known ones
    _save(writer, files.GRAPH, graph, descriptors, "similarity")


def _follow_searched(
    stored: StoredGraph, index: RefinedIndex, descriptors: Descriptors, kept: Bool, old: Bool
) -> KnnGraph:
    """The searched graph and its index without the nodes that are not `kept` (N,), and with the rows that are not `old`
    (M,)."""
    graph, rows = stored.graph, descriptors.rows
    bring_up(index, rows[old], descriptors.matrix[old])
    if not kept.all():
        graph = remove_searched(graph, np.flatnonzero(~kept), rows[old], index)
    bring_up(index, rows, descriptors.matrix)
    return graph if old.all() else add_searched(graph, rows, index)


def load_neighbours(folder: Path, artifact: files.Artifact, descriptors: Descriptors) -> KnnGraph | None:
    """The stored graph of similarities or of inliers, None where there is none that fits `descriptors`.

    Raises `CollectionError` when it is damaged.
    """
    stored = files.read(artifact, folder, load_graph)
    return stored.graph if stored is not None and stored.made_from == descriptors.made_from else None


def load_edges(folder: Path, descriptors: Descriptors) -> Adjacency | None:
    """The edges in both directions of the stored graph of similarities, None where there are none that fit.

    Raises `CollectionError` when the graph is damaged.
    """
    stored = files.read(files.GRAPH, folder, load_graph)
    return stored.edges if stored is not None and stored.made_from == descriptors.made_from else None


def load_offline(folder: Path, descriptors: Descriptors) -> scipy.sparse.csr_array | None:
    """The stored off-line diffusion (N, N), None where there is none that fits `descriptors`.

    Raises `CollectionError` when it is damaged.
    """
    count = len(descriptors.rows)

    def build(tensors: dict[str, Any], metadata: dict[str, str]) -> scipy.sparse.csr_array | None:
        if metadata["made_from"] != descriptors.made_from:
            return None
        parts: tuple[Float32, Int64, Int64] = (tensors["values"], tensors["columns"], tensors["starts"])
        matrix = scipy.sparse.csr_array(parts, shape=(count, count))
        matrix.check_format(full_check=True)  # raises ValueError for columns or starts that cannot be
        return matrix

    return files.read(files.OFFLINE, folder, lambda path: read_tensors(path, OFFLINE_FORMAT, build))


def _save(writer: Writer, artifact: files.Artifact, graph: KnnGraph, descriptors: Descriptors, weights: str) -> None:
    edges = adjacency(graph) if artifact is files.GRAPH else None
    stored = StoredGraph(graph, descriptors.rows, weights, descriptors.made_from, edges)
    save_graph(files.place(writer, artifact), stored)


def _save_offline(writer: Writer, solved: scipy.sparse.csr_array, made_from: str) -> None:
    tensors = {
        "values": np.asarray(solved.data, np.float32),
        "columns": np.asarray(solved.indices, np.int32),
        "starts": np.asarray(solved.indptr, np.int64),
    }
    write_tensors(files.place(writer, files.OFFLINE), OFFLINE_FORMAT, tensors, {"made_from": made_from})


def _report(kind: str, graph: KnnGraph) -> GraphReport:
    return GraphReport(kind, len(graph), int((graph.ids >= 0).sum()), graph.k)
