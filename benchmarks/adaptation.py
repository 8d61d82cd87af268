"""Mean average precision of one descriptor file under linear adaptation, learnt on half of the groups.

    python benchmarks/adaptation.py VECTORS.npy IDS.txt

VECTORS (N, D) float32, one line of IDS per row. Ids are those of INRIA Holidays: the group is id // 100, queries end
in 00, and a query is never its own result. Everything is learnt from the photos of the odd groups and measured among
the photos of the even ones, the other way round, and on random halves of the groups. AP is not interpolated.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from resight.evaluation.metrics import rectangle_ap
from resight.features.adaptation import fit_adaptation
from resight.features.pooling import normalise
from resight.features.whitening import fit_zca
from resight.graph.components import mutual_groups
from resight.graph.knn_graph import build_knn_graph
from resight.index.exact import ExactIndex

DIMS = (512, 256)


def mean_average_precision(vectors: np.ndarray, ids: np.ndarray) -> float:
    group = ids // 100
    queries = np.flatnonzero((ids % 100 == 0) & (np.bincount(group)[group] > 1))
    positives = [np.setdiff1d(np.flatnonzero(group == group[q]), [q]) for q in queries]
    ranking = ExactIndex.over(vectors).search(vectors[queries], len(ids))
    return float(rectangle_ap(ranking.ids, positives, junk=[[q] for q in queries]).map)


def halves(groups: np.ndarray) -> Iterator[np.ndarray]:
    """Masks of the photos to learn from: odd groups, even groups, and five random halves of the groups, both ways."""
    yield groups % 2 == 1
    yield groups % 2 == 0
    names, rng = np.unique(groups), np.random.default_rng(0)
    for _ in range(5):
        chosen = np.isin(groups, rng.permutation(names)[: len(names) // 2])
        yield chosen
        yield ~chosen


def scores(known: np.ndarray, groups: np.ndarray, vectors: np.ndarray, ids: np.ndarray) -> dict[str, float]:
    """mAP of `vectors` under what is learnt from `known` and, only where the name says so, `groups`."""
    zca = fit_zca(known, 0.5)
    mutual = mutual_groups(build_knn_graph(zca.apply(known), 1))
    adapted = fit_adaptation(known, groups)
    cases = {
        "none": normalise(vectors),
        "ZCA, shrinkage 0.5, without labels": zca.apply(vectors),
        "adaptation, mutual neighbours as groups": fit_adaptation(known, mutual).apply(vectors),
        "**adaptation, labelled groups**": adapted.apply(vectors),
    }
    cases |= {f"adaptation, labelled groups, {dim} dimensions": adapted.apply(vectors, dim) for dim in DIMS}
    print(f"{len(known)} photos learnt from, shrinkage {adapted.provenance['shrinkage']}", end="; ")
    return {name: mean_average_precision(case, ids) for name, case in cases.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("ids", type=Path)
    options = parser.parse_args()
    vectors, ids = np.load(options.vectors), np.array(options.ids.read_text().split(), int)
    tables = [scores(vectors[part], ids[part] // 100, vectors[~part], ids[~part]) for part in halves(ids // 100)]
    print("\n\n| learnt | odd groups, measured on even | even, measured on odd | mean | mean of ten random halves |")
    print("|---|---|---|---|---|")
    for name in tables[0]:
        columns = [table[name] for table in tables]
        numbers = (*columns[:2], np.mean(columns[:2]), np.mean(columns[2:]))
        print(f"| {name} | " + " | ".join(f"{number:.3f}" for number in numbers) + " |")


if __name__ == "__main__":
    main()
