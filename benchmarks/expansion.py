"""When Hamming expansion helps and when it hurts: every query of INRIA Holidays whose average precision it changes.

    python benchmarks/expansion.py ../shared/data/holidays/images [more folders of photos] [--work FOLDER]

Photos of other folders are mixed in and never right. Prints a Markdown table: average precision after verification and
after expansion, in percent, and of each source whether it is right, its inliers and its significance.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from holidays import protocol

from resight.collection import Collection, open_or_create
from resight.evaluation.metrics import rectangle_ap
from resight.ranking.hamming import HammingExpansion
from resight.ranking.pipeline import Pipeline
from resight.types import Int64, Queries


def main() -> None:
    """Index the photos (again only if needed), and compare the two halves of recipe classic query by query."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, help="keep the collection in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        collection = open_or_create((arguments.work or Path(scratch)) / "expansion.resight", "classic")
        collection.add(arguments.photos)
        report(collection)


def report(collection: Collection) -> None:
    """Print the table, and the mean of all queries."""
    verified, expansion = Pipeline(collection.pipeline().stages[:2]), collection.pipeline().stages[2]
    assert isinstance(expansion, HammingExpansion)
    names, again = {row: id_ for id_, row in collection.ids.items()}, Pipeline(collection.pipeline().stages[2:])
    print("| query | verified | expanded | sources: right, inliers, significance |\n|---|--:|--:|---|")
    means = []
    for query, own, positives in zip(*protocol(collection), strict=True):
        ranking = verified(query)
        before = score(ranking.ids, own, positives)
        after = score(again(query, ranking).ids, own, positives)
        means.append((before, after))
        if abs(after - before) > 0.01:
            told = sources(expansion, query, ranking.ids, positives)
            print(f"| {names[int(own[0])]} | {before:.1f} | {after:.1f} | {told} |", flush=True)
    before, after = np.mean(means, axis=0)
    print(f"| mean of {len(means)} | {before:.1f} | {after:.1f} | |")


def score(ids: Int64, own: Int64, positives: Int64) -> float:
    """Average precision of one ranking (1, K), in percent."""
    return 100 * float(rectangle_ap(ids, [positives], [own]).ap[0])


def sources(expansion: HammingExpansion, query: Queries, ids: Int64, positives: Int64) -> str:
    """What enriched the query."""
    assert query.local is not None
    assert query.rows is not None
    found = expansion._sources(query.local[0], ids[0], int(query.rows[0]))
    proofs = expansion.verifier(query.local[0], [row for row, _ in found])
    return "; ".join(
        f"{'right' if row in positives else 'WRONG'}, {proof.inliers}, {proof.significance:.0f}"
        for (row, _), proof in zip(found, proofs, strict=True)
    )


if __name__ == "__main__":
    main()
