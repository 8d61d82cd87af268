"""Accuracy and time of graph methods on a planted world: chains of views, where only neighbours look alike.

    PYTHONPATH=tests python benchmarks/planted_world.py [--photos 10000] [--things 200] [--automatic]

Prints a Markdown table of mAP over one unseen query per thing, against nearest neighbours, the baseline. The time of a
query is that of the search and the re-ranking; the graph is made beforehand. `--automatic`: also with settings chosen
without labels.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from chains import plant_chains
from resight.evaluation.metrics import rectangle_ap
from resight.graph.adjacency import adjacency
from resight.graph.diffusion import affinity, normalise, offline_diffusion
from resight.graph.knn_graph import build_knn_graph, cut
from resight.ranking.diffusion_stages import Diffusion, OfflineDiffusion
from resight.ranking.expansion_stages import QueryExpansion
from resight.ranking.neighbourhood_stages import KReciprocal, SuperGlobal
from resight.ranking.pipeline import Pipeline
from resight.ranking.propagation import ExploreExploit
from resight.ranking.search import GlobalSearch
from resight.ranking.tuning import choose_settings
from resight.ranking.vector_database import VectorDatabase
from resight.types import KnnGraph, Queries, Stage


def main() -> None:
    """Plant the world, score every method, print the table."""
    arguments = parse()
    world = plant_chains(arguments.photos, arguments.things)
    database, queries = VectorDatabase.over(world.vectors), Queries(vectors=world.queries)
    positives = [np.flatnonzero(world.thing == thing) for thing in world.wanted]
    search = GlobalSearch(database.index)
    print(f"{arguments.photos} photos, {arguments.things} things of {np.mean([len(p) for p in positives]):.0f} views\n")
    print("| method | mAP | gain | ms per query |\n|---|--:|--:|--:|")
    plain = None
    for name, stage in stages(world.vectors, database, arguments.automatic):
        pipeline = Pipeline((search,) if stage is None else (search, stage))
        pipeline(queries.only(0))  # compiles
        started = time.process_time()
        ranking = pipeline(queries)
        spent = 1000 * (time.process_time() - started) / len(queries)
        score = 100 * rectangle_ap(ranking.ids, positives).map
        plain = score if plain is None else plain
        print(f"| {name} | {score:.1f} | {score - plain:+.1f} | {spent:.1f} |", flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--things", type=int, default=200)
    parser.add_argument("--automatic", action="store_true")
    return parser.parse_args()


def stages(vectors: np.ndarray, database: VectorDatabase, automatic: bool) -> list[tuple[str, Stage | None]]:
    """Names and stages; none is the baseline."""
    graph = build_knn_graph(vectors, 200)
    edges, few = adjacency(cut(graph, 50)), normalise(affinity(cut(graph, 5)))
    solved = offline_diffusion(few, graph)
    rows: list[tuple[str, Stage | None]] = [
        ("nearest neighbours", None),
        ("alpha-QE, n=10", QueryExpansion(database, 10)),
        ("SuperGlobal", SuperGlobal(database)),
        ("k-reciprocal, first 400", KReciprocal(database)),
        ("EGT, threshold 0.42", ExploreExploit(database, edges, 0.42)),
        ("EGT, threshold 0.5", ExploreExploit(database, edges, 0.5)),
        ("diffusion, k=50", Diffusion(database, normalise(affinity(cut(graph, 50))))),
        ("diffusion, k=5", Diffusion(database, few)),
        ("diffusion, k=5, 200 steps", Diffusion(database, few, iterations=200)),
        ("off-line diffusion, k=5, 200 candidates", OfflineDiffusion(database, solved)),
    ]
    return rows + chosen(vectors, database, graph) if automatic else rows


def chosen(vectors: np.ndarray, database: VectorDatabase, graph: KnnGraph) -> list[tuple[str, Stage | None]]:
    """The methods with settings found without labels."""
    found = choose_settings(vectors)
    for choice in (found.expansion, found.traversal, found.diffusion):
        print(f"<!-- {choice.method}: {choice.reason} -->")
    flow, threshold = dict(found.diffusion.settings), found.traversal.settings["threshold"]
    normalised = normalise(affinity(cut(graph, int(flow.pop("k")))))
    return [
        ("alpha-QE, automatic", QueryExpansion(database, **found.expansion.settings)),
        ("EGT, automatic", ExploreExploit(database, adjacency(cut(graph, 50)), threshold)),
        ("diffusion, automatic", Diffusion(database, normalised, **flow)),
    ]


if __name__ == "__main__":
    main()
