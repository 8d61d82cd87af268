"""Processor time of one query of recipe `classic`, by stage: what a user waits for, whatever else the machine does.

    python benchmarks/query.py ../shared/data/holidays/images [--queries 100] [--top 20] [--work FOLDER]

Indexes the photos (again only if needed) and searches for some of them, cut by a pixel and saved again so that each is
new: read from its file, searched, verified, expanded, verified again, its best results judged. Every query runs twice:
"cold" reads the candidates from the collection, "hot" finds those that lie in memory, but no proofs. Prints a Markdown
table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resight.collection import Collection, open_collection, open_or_create
from resight.collection.query import judge
from resight.ranking.verification import VERIFIED
from resight.types import Queries

STAGES = ("reading the query", "first stage", "verification", "expansion", "verification again", "judging the results")


def main() -> None:
    """Index the photos, time the queries, print the table."""
    arguments = parse()
    with tempfile.TemporaryDirectory() as scratch:
        path = (arguments.work or Path(scratch)) / "query.resight"
        open_or_create(path, "classic").add([arguments.photos])
        collection = open_collection(path)
        rows = collection.snapshot.tables.feature_rows
        asked = rows[np.linspace(0, len(rows) - 1, min(arguments.queries, len(rows))).astype(int)]
        photos = collection.snapshot.photos(asked)
        chosen = [changed(photo["path"], Path(scratch) / f"{photo['row']}.jpg") for photo in photos]
        timed(collection, chosen[0], arguments.top)  # loads the compiled code
        cold = measure(open_collection(path), chosen, arguments.top, fresh=True)
        hot = measure(collection, chosen * 2, arguments.top, fresh=False)[len(chosen) :]
        report(len(rows), cold, hot)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--queries", type=int, default=100, help="how many of the photos are searched for")
    parser.add_argument("--top", type=int, default=20, help="results asked for")
    parser.add_argument("--work", type=Path, help="keep the collection in this folder")
    return parser.parse_args()


def measure(collection: Collection, photos: Sequence[str], top: int, *, fresh: bool) -> Any:
    """Processor milliseconds of every stage of every query, (n, 6); `fresh`: no photo lies in memory."""
    rows = []
    for photo in photos:
        if fresh:
            collection = open_collection(collection.path)
            tables = collection.snapshot.tables
            _ = collection.snapshot.index, tables.local(tables.feature_rows[:1])  # a service has them in memory
        rows.append(timed(collection, photo, top))
    return np.array(rows)


def changed(photo: str, path: Path) -> str:
    """Save a photo without its outermost pixels: the same view, but another file."""
    image = Image.open(photo).convert("RGB")
    image.crop((1, 1, image.width - 1, image.height - 1)).save(path, quality=95)
    return str(path)


def timed(collection: Collection, photo: str, top: int) -> list[float]:
    """Processor milliseconds of every stage of one query."""
    spent: list[float] = []

    def clock(run: Callable[[], Any]) -> Any:
        started = time.process_time()
        result = run()
        spent.append(1000 * (time.process_time() - started))
        return result

    query = clock(lambda: collection.query(photo))
    queries: Queries = query.queries()
    ranking = None
    for stage in collection.pipeline().stages:
        ranking = clock(lambda stage=stage, before=ranking: stage(queries, before))
    ids, scores, rule = ranking.ids[0, :top], ranking.scores[0, :top], collection.match_rule()
    clock(lambda: judge(collection.snapshot, rule, query, ids, scores, VERIFIED, own=ranking))
    return spent


def report(photos: int, cold: Any, hot: Any) -> None:
    """Print the table: mean and 90th percentile of each stage."""
    print(f"{photos} photos, {len(cold)} queries, milliseconds of processor time.\n")
    print("| stage | cold, mean | cold, 90 % below | hot, mean | hot, 90 % below |\n|---|--:|--:|--:|--:|")
    columns = [(name, cold[:, i], hot[:, i]) for i, name in enumerate(STAGES)]
    for name, *parts in [*columns, ("**all**", cold.sum(axis=1), hot.sum(axis=1))]:
        print(f"| {name} | " + " | ".join(f"{part.mean():.0f} | {np.quantile(part, 0.9):.0f}" for part in parts) + " |")


if __name__ == "__main__":
    main()
