"""Mean average precision of one descriptor file under every whitening, learnt on the same photos without labels.

    python benchmarks/whitening.py VECTORS.npy IDS.txt

VECTORS (N, D) float32, one line of IDS per row. Ids are those of INRIA Holidays: the group is id // 100, queries end
in 00, and a query is never its own result. AP is not interpolated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from resight.evaluation.metrics import rectangle_ap
from resight.features.pooling import normalise
from resight.features.whitening import fit_pca, fit_zca
from resight.index.exact import ExactIndex

DIMS = (None, 512, 256, 128)


def mean_average_precision(vectors: np.ndarray, ids: np.ndarray) -> float:
    group = ids // 100
    queries = np.flatnonzero((ids % 100 == 0) & (np.bincount(group)[group] > 1))
    positives = [np.setdiff1d(np.flatnonzero(group == group[q]), [q]) for q in queries]
    ranking = ExactIndex.over(vectors).search(vectors[queries], len(ids))
    return float(rectangle_ap(ranking.ids, positives, junk=[[q] for q in queries]).map)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("ids", type=Path)
    options = parser.parse_args()
    vectors, ids = np.load(options.vectors), np.array(options.ids.read_text().split(), int)

    base = mean_average_precision(normalise(vectors), ids)
    print(f"{len(vectors)} photos, {vectors.shape[1]} dimensions\n")
    print("| whitening | dimension | mAP | gain |\n|---|---|---|---|")
    print(f"| none | {vectors.shape[1]} | {base:.3f} | |")
    cases = [(f"PCA, power {power}", fit_pca(vectors, power=power)) for power in (0.0, 0.25, 0.5)]
    for shrinkage in (None, 0.2, 0.5, 0.8):
        fitted = fit_zca(vectors, shrinkage)
        cases.append((f"ZCA, shrinkage {float(fitted.provenance['shrinkage']):.2f}", fitted))
    for name, whitening in cases:
        for dim in DIMS if name.startswith("PCA") else DIMS[:1]:
            score = mean_average_precision(whitening.apply(vectors, dim), ids)
            print(f"| {name} | {dim or whitening.dim} | {score:.3f} | {score - base:+.3f} |")


if __name__ == "__main__":
    main()
