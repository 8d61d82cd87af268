"""Verified graphs on INRIA Holidays: time to build one, and what expansion and traversal gain by it.

    python benchmarks/verified_graph.py ../shared/data/holidays/images \\
        ../shared/data/descriptors/holidays_resnet101v2_c4_gem.npy ../shared/data/descriptors/holidays_ids.txt \\
        [--work FOLDER] [--k 20]

Photos are named by six digits: number // 100 is the group, number % 100 == 0 a query, which is never its own result;
the text file names the rows of the descriptors. Local features are those of recipe classic. Prints Markdown tables;
the baseline is nearest neighbours of the descriptors. `--work` keeps the collection, and the blocks of a stopped run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from resight.artifacts.inverted_file import verifier as verifier_of
from resight.collection import Collection, open_or_create
from resight.evaluation.metrics import rectangle_ap
from resight.evaluation.significance import compare
from resight.graph.adjacency import adjacency
from resight.graph.knn_graph import build_knn_graph
from resight.graph.verified import build_verified_graph
from resight.ranking.expansion_stages import VerifiedExpansion, verified_augmentation
from resight.ranking.pipeline import Pipeline
from resight.ranking.propagation import ExploreExploit
from resight.ranking.search import GlobalSearch
from resight.ranking.tuning import choose_settings
from resight.ranking.vector_database import VectorDatabase
from resight.ranking.verification import Verifier
from resight.types import KnnGraph, Queries, Stage


def main() -> None:
    """Index the photos if needed, build the graph, print the tables."""
    arguments = parse()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.work or Path(scratch)
        collection = open_or_create(folder / "holidays.resight", "classic", {})
        collection.add([arguments.photos])
        collection = open_or_create(folder / "holidays.resight", "classic", {})
        numbers = {int(Path(id_).stem): row for id_, row in collection.ids.items()}
        listed = np.array(arguments.ids.read_text().split(), int)
        rows = np.array([numbers[number] for number in listed])
        order = np.argsort(rows)
        database = VectorDatabase.over(np.load(arguments.descriptors)[order], rows[order])
        verifier = verifier_of(collection.snapshot.tables)
        candidates = build_knn_graph(database.vectors, arguments.k)
        verified = build(candidates, database, verifier, listed[order] // 100, folder / "blocks")
        table(collection, database, verifier, verified, listed[order])


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("descriptors", type=Path)
    parser.add_argument("ids", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--k", type=int, default=20)
    return parser.parse_args()


def build(
    candidates: KnnGraph, database: VectorDatabase, verifier: Verifier, group: np.ndarray, blocks: Path
) -> KnnGraph:
    """The verified graph; prints how long it took and how many of its edges join photos of one group."""
    one = replace(verifier, jobs=1)

    def inliers(node: int, nodes: np.ndarray) -> list[int]:
        query = one.features(database.rows[[node]])[0]
        return [proof.inliers if proof.verified else 0 for proof in one(query, database.rows[nodes])]

    started, spent = time.perf_counter(), time.process_time()
    graph = build_verified_graph(candidates, inliers, path=blocks)
    started, spent = time.perf_counter() - started, time.process_time() - spent
    print(f"{candidates.ids.size} candidate edges: {started:.0f} s, {spent:.0f} s of processor\n")
    print("| edges of at least | edges | of one group | of all pairs of a group |\n|--:|--:|--:|--:|")
    pairs = (np.bincount(group) * (np.bincount(group) - 1)).sum()
    for least in (1, 8, 20, 40):
        node, slot = np.nonzero(graph.weights >= least)
        same = group[node] == group[graph.ids[node, slot]]
        print(f"| {least} inliers | {len(node)} | {same.mean():.1%} | {same.sum() / pairs:.1%} |")
    return graph


def table(
    collection: Collection, database: VectorDatabase, verifier: Verifier, verified: KnnGraph, numbers: np.ndarray
) -> None:
    """mAP of methods with and without the graph."""
    group = numbers // 100
    asked = np.flatnonzero((numbers % 100 == 0) & (np.bincount(group)[group] > 1))
    own = database.rows[asked]
    positives = [database.rows[np.setdiff1d(np.flatnonzero(group == group[node]), [node])] for node in asked]
    local = tuple(collection.snapshot.features(int(row)) for row in own)
    search, plain = GlobalSearch(database.index), None
    moved = VectorDatabase.over(verified_augmentation(database.vectors, verified), database.rows)
    stages: list[tuple[str, VectorDatabase, Stage | None]] = [
        ("nearest neighbours", database, None),
        ("QE-SV", database, VerifiedExpansion(database, verifier)),
        ("QE-SV, query and collection", moved, VerifiedExpansion(moved, verifier)),
    ]
    edges = adjacency(verified)
    for threshold in (8, 20, 40):
        stage = ExploreExploit(database, edges, threshold, 20, verifier=verifier)
        stages.append((f"EGT-SV, threshold {threshold}", database, stage))
    print("\n| method | mAP | p |\n|---|--:|--:|")
    for name, vectors, stage in stages:
        first = search if vectors is database else GlobalSearch(vectors.index)
        queries = Queries(local=local, vectors=database.vectors[asked], rows=own)
        ranking = Pipeline((first,) if stage is None else (first, stage))(queries)
        scores = rectangle_ap(ranking.ids, positives, junk=[[row] for row in own]).ap
        plain = scores if plain is None else plain
        p = 1.0 if np.array_equal(scores, plain) else compare(scores, plain, seed=0).p_value
        print(f"| {name} | {100 * scores.mean():.2f} | {p:.3f} |", flush=True)
    print()
    chosen = choose_settings(database.vectors, verified)
    for choice in (chosen.expansion, chosen.traversal, chosen.diffusion):
        print(f"- {choice.method}: {choice.reason}")


if __name__ == "__main__":
    main()
