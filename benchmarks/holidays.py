"""Accuracy of recipe `classic` on INRIA Holidays, stage by stage.

    python benchmarks/holidays.py ../shared/data/holidays/images [--set binary=false] [--work FOLDER]

Photos are named by six digits: number // 100 is the group, number % 100 == 0 a query; a query is never its own result.
The score is the mean average precision of the benchmark (rectangle form). Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from resight.collection import Collection, open_or_create
from resight.evaluation.metrics import rectangle_ap
from resight.ranking.pipeline import Pipeline
from resight.types import Queries


def main() -> None:
    """Index the photos (again only if needed), rank every query with each prefix of the recipe, print the table."""
    arguments = parse()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.work or Path(scratch)
        collection = open_or_create(folder / "holidays.resight", "classic", arguments.settings)
        started = time.perf_counter()
        collection.add([arguments.photos])
        print(f"indexed in {time.perf_counter() - started:.0f} s; {collection.info()}\n")
        report(collection)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the recipe")
    parser.add_argument("--work", type=Path, help="keep the collection in this folder")
    arguments = parser.parse_args()
    pairs = (pair.split("=", 1) for pair in arguments.set)
    arguments.settings = {key: yaml.safe_load(value) for key, value in pairs}
    return arguments


def report(collection: Collection) -> None:
    """Print mAP and time per query after each stage."""
    queries, own, positives = protocol(collection)
    stages = collection.pipeline().stages
    print("| stages | mAP | ms per query |\n|---|--:|--:|")
    for count, name in ((1, "ASMK"), (2, "+ verification"), (4, "+ Hamming expansion, verified again")):
        started = time.perf_counter()
        found = [Pipeline(stages[:count])(query).ids[0] for query in queries]
        elapsed = 1000 * (time.perf_counter() - started) / len(queries)
        width = max(map(len, found))
        ids = np.array([np.pad(row, (0, width - len(row)), constant_values=-1) for row in found])
        score = rectangle_ap(ids, positives, own)
        print(f"| {name} | {100 * score.map:.1f} | {elapsed:.0f} |", flush=True)


def protocol(collection: Collection) -> tuple[list[Queries], list[np.ndarray], list[np.ndarray]]:
    """Queries, their own rows, and the rows of the other photos of their group."""
    row = {int(Path(id_).stem): place for id_, place in collection.ids.items()}
    queries, own, positives = [], [], []
    for number in sorted(row):
        group = np.array([row[other] for other in row if other // 100 == number // 100 and other != number], np.int64)
        if number % 100 == 0 and len(group):
            queries.append(Queries(local=(collection.snapshot.features(row[number]),), rows=np.array([row[number]])))
            own.append(np.array([row[number]]))
            positives.append(group)
    return queries, own, positives


if __name__ == "__main__":
    main()
