"""The kNN graphs of a collection: built on demand, stored as derived files, followed when photos come and go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from resight.artifacts.descriptors import Vectors
from resight.errors import CollectionError, UsageError
from resight.graph.knn_graph import add_nodes, build_knn_graph, remove_nodes
from resight.graph.stored import StoredGraph, load_graph, save_graph
from resight.graph.verified import build_verified_graph
from resight.progress import Progress, silent
from resight.ranking.propagation import TrainingPhotos
from resight.ranking.tuning import Automatic, choose_settings
from resight.ranking.vector_database import VectorDatabase
from resight.ranking.verification import Verifier
from resight.recipes.graph import Neighbourhood, solve_offline
from resight.store.folder import derived_path, faults, write_atomic
from resight.store.tensor_file import read_tensors, write_tensors
from resight.types import Float32, Int64, KnnGraph

SIMILARITY, VERIFIED = "graph.safetensors", "verified_graph.safetensors"
VERIFIED_LOG = "verified_graph.log"
OFFLINE, OFFLINE_FORMAT = "offline_diffusion.safetensors", "resight offline diffusion 1"
CHOSEN = "chosen.json"


@dataclass(frozen=True)
class GraphReport:
    """What was built: `nodes`, `edges` in both directions, and neighbours asked for."""

    kind: str
    nodes: int
    edges: int
    k: int


def build_graphs(
    folder: Path,
    vectors: Vectors,
    verifier: Verifier | None,
    *,
    k: int = 50,
    verified: bool = False,
    offline: bool = False,
    progress: Progress = silent,
) -> list[GraphReport]:
    """Build and store the graph of `k` neighbours; `verified`: also the graph of those that geometry proves; `offline`:
    also the part of diffusion that needs no query.

    A verified graph whose making was stopped is continued. The caller must be the collection's only writer. Memory: 12
    bytes an edge. Raises `UsageError` for k < 1, and for a verified graph without local features.
    """
    if verified and verifier is None:
        raise UsageError("a verified graph needs local features: index the photos with recipe hybrid")
    progress("building the graph", 0, 1)
    graph = build_knn_graph(vectors.matrix, k)
    save_graph(derived_path(folder, SIMILARITY), StoredGraph(graph, vectors.rows, "similarity", _name(vectors)))
    progress("building the graph", 1, 1)
    reports = [_report("similarity", graph)]
    if verified and verifier is not None:
        proven = _verify(folder, graph, vectors, verifier, progress)
        save_graph(derived_path(folder, VERIFIED), StoredGraph(proven, vectors.rows, "inliers", _name(vectors)))
        derived_path(folder, VERIFIED_LOG).unlink(missing_ok=True)
        reports.append(_report("verified", proven))
    if offline:
        solved = solve_offline(graph, k)
        _save_offline(folder, solved, _name(vectors))
        reports.append(GraphReport("off-line diffusion", len(graph), int(solved.nnz), k))
    return reports


def follow_graphs(folder: Path, vectors: Vectors) -> None:
    """Bring the graph of similarities, if there is one, up to photos that came or went, without building it anew.

    A graph of other descriptors (another whitening) is dropped. Verified graphs and off-line diffusion stay as they
    are: recipes then say that they are to be built again.
    """
    path = derived_path(folder, SIMILARITY)
    stored = _optional(path)
    if stored is None or stored.made_from == _name(vectors):
        return
    if _whitening_of(stored.made_from) != _whitening_of(_name(vectors)):
        path.unlink()
        return
    kept = np.isin(stored.rows, vectors.rows)
    known = vectors.matrix[np.isin(vectors.rows, stored.rows)]
    graph = stored.graph if kept.all() else remove_nodes(stored.graph, np.flatnonzero(~kept), known)
    if kept.sum() < len(vectors.rows):
        graph = add_nodes(graph, vectors.matrix)  # rows only grow, so new photos stand behind the known ones
    save_graph(path, StoredGraph(graph, vectors.rows, "similarity", _name(vectors)))


def tune(folder: Path, vectors: Vectors) -> Automatic:
    """Choose options of the graph recipes for the collection, without labels, and keep them for its searches."""
    verified = _fitting(folder, VERIFIED, vectors)
    chosen = choose_settings(vectors.matrix, verified)
    derived_path(folder, CHOSEN).parent.mkdir(exist_ok=True)
    write_atomic(derived_path(folder, CHOSEN), json.dumps(asdict(chosen)).encode())
    return chosen


def neighbourhood(
    folder: Path, vectors: Vectors, verifier: Verifier | None, training: TrainingPhotos | None = None
) -> Neighbourhood:
    """What graph recipes work on. Stored parts that no longer fit the collection count as missing.

    Raises `CollectionError` when a stored file is damaged.
    """
    return Neighbourhood(
        VectorDatabase(vectors.matrix, vectors.rows, vectors.index),
        graph=_fitting(folder, SIMILARITY, vectors),
        verified=_fitting(folder, VERIFIED, vectors),
        verifier=verifier,
        training=training,
        solved=_load_offline(folder, vectors),
        chosen=_chosen(folder),
    )


def _verify(folder: Path, graph: KnnGraph, vectors: Vectors, verifier: Verifier, progress: Progress) -> KnnGraph:
    def inliers(node: int, nodes: Int64) -> Int64:
        one = replace(verifier, jobs=1)  # blocks of photos are verified in parallel already
        query = one.features(vectors.rows[[node]])[0]
        proofs = one(query, vectors.rows[nodes])
        return np.array([proof.inliers if proof.verified else 0 for proof in proofs], np.int64)

    log = derived_path(folder, VERIFIED_LOG)
    return build_verified_graph(graph, inliers, path=log, key=_name(vectors), progress=progress)


def _report(kind: str, graph: KnnGraph) -> GraphReport:
    return GraphReport(kind, len(graph), int((graph.ids >= 0).sum()), graph.k)


def _name(vectors: Vectors) -> str:
    """What a graph over these vectors is made from: their whitening, and which photos."""
    import hashlib

    whitening = "" if vectors.whitening is None else vectors.whitening.fingerprint
    return f"{whitening}:{hashlib.sha256(vectors.rows.astype('<i8').tobytes()).hexdigest()}"


def _whitening_of(name: str) -> str:
    return name.partition(":")[0]


def _optional(path: Path) -> StoredGraph | None:
    return load_graph(path) if path.exists() else None


def _fitting(folder: Path, name: str, vectors: Vectors) -> KnnGraph | None:
    stored = _optional(derived_path(folder, name))
    return stored.graph if stored is not None and stored.made_from == _name(vectors) else None


def _save_offline(folder: Path, solved: scipy.sparse.csr_array, name: str) -> None:
    tensors = {
        "values": np.asarray(solved.data, np.float32),
        "columns": np.asarray(solved.indices, np.int32),
        "starts": np.asarray(solved.indptr, np.int64),
    }
    write_tensors(derived_path(folder, OFFLINE), OFFLINE_FORMAT, tensors, {"made_from": name})


def _load_offline(folder: Path, vectors: Vectors) -> scipy.sparse.csr_array | None:
    path, count = derived_path(folder, OFFLINE), len(vectors.rows)
    if not path.exists():
        return None

    def build(tensors: dict[str, Any], metadata: dict[str, str]) -> scipy.sparse.csr_array | None:
        if metadata["made_from"] != _name(vectors):
            return None
        parts: tuple[Float32, Int64, Int64] = (tensors["values"], tensors["columns"], tensors["starts"])
        matrix = scipy.sparse.csr_array(parts, shape=(count, count))
        matrix.check_format(full_check=True)  # raises ValueError for columns or starts that cannot be
        return matrix

    return read_tensors(path, OFFLINE_FORMAT, build)


def _chosen(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    path = derived_path(folder, CHOSEN)
    if not path.exists():
        return {}
    with faults("read", path):
        text = path.read_bytes()
    try:
        content = json.loads(text)
        names = {"alpha-expansion": "expansion", "explore-exploit": "traversal", "diffusion": "diffusion"}
        return {recipe: dict(content[name]["settings"]) for recipe, name in names.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise CollectionError(f"{path} is damaged ({error}): run resight graph tune again") from error
