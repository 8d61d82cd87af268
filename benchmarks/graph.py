"""Speed of graph building, explore-exploit traversal and diffusion, on generated descriptors.

python benchmarks/graph.py [--photos 20000] [--dim 512] [--growth]

Prints Markdown tables. The quoted figures are those of the published programs (EGT's Python and Java, the Python
off-line diffusion, the MATLAB diffusion under Octave) for 20 000 photos, 512 dimensions and 70 queries on two cores;
wall time. They are divided by our processor time, which is summed over all cores and suffers less from other programs.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from resight.graph.adjacency import adjacency
from resight.graph.diffusion import affinity, diffuse, normalise, offline_diffusion, seeds
from resight.graph.knn_graph import build_knn_graph, cut, neighbours
from resight.graph.traversal import explore
from resight.types import KnnGraph

QUERIES = 70


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result of `call`, wall seconds and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def descriptors(photos: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Groups of about 20 photos around random centres, and queries near some of them."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(photos // 20, 1), dim), np.float32)
    vectors = centres[rng.integers(0, len(centres), photos)]
    vectors += 1.2 * rng.standard_normal(vectors.shape, np.float32)
    queries = vectors[:QUERIES] + 0.5 * rng.standard_normal((QUERIES, dim), np.float32)
    return tuple(x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, vectors))


def warm_up() -> None:
    """Compile every kernel, on a tiny collection."""
    queries, vectors = descriptors(300, 16)
    graph = build_knn_graph(vectors, 10)
    explore(neighbours(queries, vectors, 10), graph, 0.5, 20)
    normalised = normalise(affinity(graph))
    diffuse(normalised, seeds(neighbours(queries, vectors, 5), 300))
    offline_diffusion(normalised, graph)


def table(photos: int, dim: int) -> None:
    queries, vectors = descriptors(photos, dim)
    print("| step | wall s | processor s | quoted s | quoted / processor |\n|---|---|---|---|---|")

    def row(name: str, wall: float, cpu: float, quoted: float | None = None) -> None:
        tail = f"{quoted:g} | {quoted / cpu:.1f}" if quoted else " | "
        print(f"| {name} | {wall:.4f} | {cpu:.4f} | {tail} |", flush=True)

    graph, wall, cpu = timed(lambda: build_knn_graph(vectors, 100))
    row("kNN graph, k=100", wall, cpu, 46.6)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    edges, wall, cpu = timed(lambda: adjacency(graph))
    row("reverse edges (max)", wall, cpu)
    near = neighbours(queries, vectors, 100)
    for limit in (100, 1000):
        _, wall, cpu = timed(lambda limit=limit: explore(near, edges, 0.42, limit))
        row(f"explore-exploit, limit {limit}, one query", wall / QUERIES, cpu / QUERIES, 0.014)
    normalised, wall, cpu = timed(lambda: normalise(affinity(cut(graph, 49))))
    row("affinity, k=50", wall, cpu)
    y = seeds(cut(near, 10), photos)
    _, wall, cpu = timed(lambda: diffuse(normalised, y))
    row("on-line diffusion, 70 queries", wall, cpu, 9.0)
    wide, wall, cpu = timed(lambda: build_knn_graph(vectors, 999))
    row("kNN graph, k=999", wall, cpu)
    _, wall, cpu = timed(lambda: offline_diffusion(normalised, wide))
    row("off-line diffusion, 1000 candidates", wall, cpu, 34.0)
    print(f"\nPeak memory of the process after the first graph: {peak:.2f} GB (quoted 6.3 GB)")


def growth() -> None:
    """Explore-exploit traversal on generated graphs of growing size, limit 100."""
    print("\n| nodes | one query, ms | look-ups | graph, bytes per edge |\n|---|---|---|---|")
    for nodes in (10_000, 100_000, 1_000_000):
        rng = np.random.default_rng(1)
        ids = (np.arange(nodes, dtype=np.int64)[:, None] + 1 + np.cumsum(rng.integers(1, 200, (nodes, 20)), 1)) % nodes
        weights = -np.sort(-rng.random((nodes, 20), np.float32), axis=1)
        edges = adjacency(KnnGraph(ids.astype(np.int32), weights))
        rows = rng.integers(0, nodes, 1000)
        near = KnnGraph(ids[rows].astype(np.int32), weights[rows])
        found, _, cpu = timed(lambda edges=edges, near=near: explore(near, edges, 0.99, 100))
        size = (edges.ids.nbytes + edges.weights.nbytes) / len(edges.ids)
        print(f"| {nodes} | {cpu:.3f} | {found.lookups.mean():.0f} | {size:.1f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--growth", action="store_true", help="time traversal on 10^4 to 10^6 nodes only")
    arguments = parser.parse_args()
    warm_up()
    if arguments.growth:
        growth()
    else:
        table(arguments.photos, arguments.dim)
