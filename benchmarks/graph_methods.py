"""Accuracy of every re-ranking method on INRIA Holidays: with the papers' settings, the best ones, and automatic ones.

    python benchmarks/graph_methods.py ../shared/data/descriptors/holidays_resnet101v2_c4_gem.npy \\
        ../shared/data/descriptors/holidays_ids.txt [--whiten] [--groups-of N]

Rows of the descriptors stand for the numbers in the text file: number // 100 is the group, number % 100 == 0 a query,
which is never its own result. `--whiten`: whiten them first, without labels. `--groups-of N`: every photo of a group of
at least N is a query instead. "Best" is tuned on the very queries that it is scored on, so it is a bound, not a result;
"automatic" sees no labels. Every method re-ranks nearest neighbours, the baseline. Prints a Markdown table; p is of a
paired randomisation test against the baseline.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from resight.evaluation.metrics import rectangle_ap
from resight.evaluation.significance import compare
from resight.features.whitening import fit_zca
from resight.graph.adjacency import adjacency
from resight.graph.diffusion import affinity, normalise, offline_diffusion
from resight.graph.knn_graph import build_knn_graph, cut
from resight.graph.manifold import iterative_embedding
from resight.graph.spectral import spectral_basis
from resight.ranking.diffusion_stages import Diffusion, HybridDiffusion, OfflineDiffusion, SpectralRanking
from resight.ranking.expansion import database_augmentation
from resight.ranking.expansion_stages import QueryExpansion
from resight.ranking.neighbourhood_stages import KReciprocal, ManifoldSearch, SuperGlobal
from resight.ranking.propagation import ExploreExploit
from resight.ranking.search import GlobalSearch
from resight.ranking.tuning import choose_settings
from resight.ranking.vector_database import VectorDatabase
from resight.types import KnnGraph, Queries, Stage

Build = Callable[..., Stage]
Method = tuple[dict[str, Any], dict[str, tuple[Any, ...]], Build]


def main() -> None:
    """Read the descriptors, score every method, print the table."""
    arguments = parse()
    numbers = np.array(arguments.ids.read_text().split(), int)
    vectors = np.load(arguments.descriptors).astype(np.float32)
    if arguments.whiten:
        vectors = fit_zca(vectors, 0.5).apply(vectors)
    Table(vectors, numbers, arguments.groups_of).print()


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("descriptors", type=Path)
    parser.add_argument("ids", type=Path)
    parser.add_argument("--whiten", action="store_true")
    parser.add_argument("--groups-of", type=int, default=0)
    return parser.parse_args()


class Table:
    """One collection and its queries."""

    def __init__(self, vectors: np.ndarray, numbers: np.ndarray, groups_of: int) -> None:
        group = numbers // 100
        asked = np.bincount(group)[group] >= groups_of if groups_of else numbers % 100 == 0
        self.rows = np.flatnonzero(asked & (np.bincount(group)[group] > 1))
        self.positives = [np.setdiff1d(np.flatnonzero(group == group[row]), [row]) for row in self.rows]
        self.vectors, self.queries = vectors, Queries(vectors=vectors[self.rows], rows=self.rows)
        self.database = VectorDatabase.over(vectors)
        self.graph = build_knn_graph(vectors, min(100, len(vectors) - 1))
        self.plain = self.score(None)

    def score(self, stage: Stage | None) -> np.ndarray:
        """Average precision of every query, of nearest neighbours re-ranked by `stage`."""
        ranking = GlobalSearch(self.database.index)(self.queries)
        ranking = ranking if stage is None else stage(self.queries, ranking)
        return np.asarray(rectangle_ap(ranking.ids, self.positives, junk=[[row] for row in self.rows]).ap)

    def print(self) -> None:
        """Score every method and print a row for each."""
        started = time.perf_counter()
        chosen = choose_settings(self.vectors)
        print(f"{len(self.rows)} queries, {len(self.vectors)} photos; nearest neighbours {100 * self.plain.mean():.2f}")
        print(f"Settings chosen in {time.perf_counter() - started:.1f} s, without labels:\n")
        automatic = {"alpha-QE": chosen.expansion, "EGT": chosen.traversal, "diffusion": chosen.diffusion}
        for choice in automatic.values():
            print(f"- {choice.method}: {choice.reason}")
        print("\n| method | as published | p | best | its settings | p | automatic |\n|---|--:|--:|--:|---|--:|--:|")
        for name, (published, grid, build) in methods(self.vectors, self.graph).items():
            first = self.score(build(self.database, **published))
            settings, best = max(self.tuned(build, grid), key=lambda each: each[1].mean())
            found = automatic.get(name)
            tail = f"{100 * self.score(build(self.database, **found.settings)).mean():.2f}" if found else ""
            tail += " (do without)" if found and not found.worthwhile else ""
            words = ", ".join(f"{key} {value:g}" for key, value in settings.items())
            print(f"| {name} | {self.cell(first)} | {self.cell(best, words)} | {tail} |", flush=True)

    def tuned(self, build: Build, grid: dict[str, tuple[Any, ...]]) -> list[tuple[dict[str, Any], np.ndarray]]:
        """All settings of the grid with their scores."""
        every = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
        return [(settings, self.score(build(self.database, **settings))) for settings in every]

    def cell(self, scores: np.ndarray, words: str | None = None) -> str:
        """mAP, settings, and the p-value against the baseline."""
        same = np.array_equal(scores, self.plain)
        p = 1.0 if same else compare(scores, self.plain, seed=0).p_value
        return " | ".join([f"{100 * scores.mean():.2f}", *([] if words is None else [words]), f"{p:.3f}"])


def methods(
    vectors: np.ndarray, graph: KnnGraph
) -> dict[str, tuple[dict[str, Any], dict[str, tuple[Any, ...]], Build]]:
    """Of every method: the published settings, those to try, and how to make its stage."""

    def flow(k: int) -> Any:
        return normalise(affinity(cut(graph, min(k, graph.k))))

    return {
        "AQE": ({"n": 10}, {"n": (1, 2, 3, 5)}, lambda db, n: QueryExpansion(db, n, 0.0)),
        "alpha-QE": ({"n": 50, "alpha": 3}, {"n": (1, 2, 3, 5, 10), "alpha": (1, 3, 6, 10)}, QueryExpansion),
        "alpha-DBA": (
            {"n": 10, "alpha": 3},
            {"n": (1, 2, 3, 5), "alpha": (1, 3, 6, 10)},
            lambda _, n, alpha: Moved(VectorDatabase.over(database_augmentation(vectors, n, alpha))),
        ),
        "EGT": (
            {"threshold": 0.42, "k": 100},
            {"threshold": tuple(np.quantile(graph.weights[:, 0], (0, 0.02, 0.05, 0.1, 0.3, 0.5, 1))), "k": (3, 10, 50)},
            lambda db, threshold, k=50: ExploreExploit(db, adjacency(cut(graph, k)), threshold, k),
        ),
        "diffusion": (
            {"k": 49, "seeds": 10, "alpha": 0.99},
            {"k": (3, 5, 10, 20, 50), "seeds": (1, 2, 5), "alpha": (0.5, 0.9)},
            lambda db, k, seeds, alpha: Diffusion(db, flow(k), seeds, alpha=alpha),
        ),
        "off-line diffusion": (
            {"k": 49, "seeds": 10, "alpha": 0.99},
            {"k": (5, 10), "seeds": (1, 2), "alpha": (0.5, 0.9)},
            lambda db, k, seeds, alpha: OfflineDiffusion(db, offline_diffusion(flow(k), graph, alpha), seeds),
        ),
        "FSR": (
            {"rank": 200, "k": 49, "seeds": 10, "alpha": 0.99},
            {"rank": (200, 400), "k": (5, 20), "seeds": (1, 2), "alpha": (0.5, 0.9)},
            lambda db, rank, k, seeds, alpha: SpectralRanking(db, spectral_basis(flow(k), rank), seeds, alpha=alpha),
        ),
        "DFS-FSR": (
            {"rank": 100, "k": 49, "seeds": 10, "alpha": 0.99},
            {"rank": (100,), "k": (5, 20), "seeds": (1, 2), "alpha": (0.5, 0.9)},
            lambda db, rank, k, seeds, alpha: HybridDiffusion(
                db, flow(k), spectral_basis(flow(k), rank), seeds, alpha=alpha
            ),
        ),
        "IME": (
            {"k": 5, "components": 2048},
            {"k": (2, 5), "components": (128, 2048)},
            lambda db, k, components: ManifoldSearch(db, iterative_embedding(vectors, components, k)),
        ),
        "k-reciprocal": (
            {"k1": 20, "k2": 6, "original_weight": 0.3},
            {"k1": (3, 5, 10), "k2": (1, 2, 3), "original_weight": (0.3, 0.7)},
            lambda db, k1, k2, original_weight: KReciprocal(db, 100, k1, k2, original_weight),
        ),
        "SuperGlobal": (
            {"k": 9, "beta": 0.15},
            {"k": (2, 3, 5), "beta": (0.15, 0.5, 1.0)},
            lambda db, k, beta: SuperGlobal(db, 100, k, beta),
        ),
    }


class Moved:
    """Search among moved descriptors, with queries that were moved like the photos they are."""

    def __init__(self, database: VectorDatabase) -> None:
        self.database = database

    def __call__(self, queries: Queries, ranking: Any = None) -> Any:
        return GlobalSearch(self.database.index)(Queries(vectors=self.database.vectors[queries.rows]))


if __name__ == "__main__":
    main()
