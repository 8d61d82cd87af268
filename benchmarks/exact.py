"""Exact search against faiss's flat index, and a neighbour graph against the matrix product that it needs.

    python benchmarks/exact.py [--rows 100000] [--dim 2048] [--queries 70] [--graph 20000]

Random unit vectors, 100 results. Every time is the best of five runs in this process, of two for the graph; what is
compared takes turns. The scores of the two searches must agree to rounding.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import faiss
import numpy as np

from resight.index.exact import QUERY_BLOCK, VECTOR_BLOCK, ExactIndex

K = 100


def unit_rows(count: int, dim: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dim), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def best_seconds(functions: list[Callable[[], object]], runs: int) -> list[float]:
    """Least seconds of each function, which take turns, so that a busy moment of the machine hits them alike."""
    seconds = np.empty((runs, len(functions)))
    for times in seconds:
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            times[i] = time.perf_counter() - start
    return seconds.min(axis=0).tolist()


def matrix_product(queries: np.ndarray, vectors: np.ndarray) -> None:
    """All inner products in the blocks of the search, thrown away."""
    out = np.empty(VECTOR_BLOCK * QUERY_BLOCK, np.float32)
    for i in range(0, len(queries), QUERY_BLOCK):
        for j in range(0, len(vectors), VECTOR_BLOCK):
            a, b = vectors[j : j + VECTOR_BLOCK], queries[i : i + QUERY_BLOCK]
            np.matmul(a, b.T, out=out[: len(a) * len(b)].reshape(len(a), len(b)))


def check(index: ExactIndex, flat: faiss.IndexFlatIP, queries: np.ndarray) -> None:
    ours, (scores, ids) = index.search(queries, K), flat.search(queries, K)
    if not np.allclose(ours.scores, scores, atol=1e-5):
        raise SystemExit("the scores of the two searches differ")
    differ = ours.ids != ids
    print(f"Results at another rank than in faiss, all within rounding: {differ.mean():.4%}\n")


def table(title: str, cases: dict[str, Callable[[], object]], runs: int) -> None:
    """Print one Markdown table; the first case is the baseline."""
    print(f"| {title} | seconds | ratio |\n|---|---|---|")
    seconds = best_seconds(list(cases.values()), runs)
    for name, time_taken in zip(cases, seconds, strict=True):
        print(f"| {name} | {time_taken:.3f} | {time_taken / seconds[0]:.2f} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rows", 100_000), ("dim", 2048), ("queries", 70), ("graph", 20_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    vectors, queries = unit_rows(options.rows, options.dim, 0), unit_rows(options.queries, options.dim, 1)
    index, flat = ExactIndex.over(vectors), faiss.IndexFlatIP(options.dim)
    flat.add(vectors)
    check(index, flat, queries)

    few = np.arange(0, options.rows, 100)
    for count in (1, options.queries):
        some = queries[:count]
        cases = {
            "faiss IndexFlatIP": lambda some=some: flat.search(some, K),
            "resight": lambda some=some: index.search(some, K),
            "resight, 1 % of the rows allowed": lambda some=some: index.search(some, K, few),
        }
        table(f"{count} queries, {options.rows} x {options.dim}, top {K}", cases, 5)
    nodes = vectors[: options.graph]
    graph = ExactIndex.over(nodes)
    cases = {"matrix product": lambda: matrix_product(nodes, nodes), "resight": lambda: graph.search(nodes, K)}
    table(f"{len(nodes)} nodes, {options.dim} dimensions, {K} neighbours each", cases, 2)


if __name__ == "__main__":
    main()
