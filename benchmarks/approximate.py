"""Approximate search against exact search: recall, time and memory.

    python benchmarks/approximate.py regions BACKBONE.onnx PHOTOS OUT.npy
    python benchmarks/approximate.py search VECTORS.npy [--queries 200]

`regions` writes one vector for every cell of the backbone's feature maps, the mean of 3 x 3 cells, L2-normalised, as
float16. `search` takes every n-th vector of a file as a query, slightly disturbed, asks one query at a time for 100
results, and prints a Markdown table. Times are medians, and ratios are to exact search in float32 in the same run;
recall is against it. An approximate index states how many lists it scans, and the recall it measured itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from resight.features.networks.open import open_backbone
from resight.images.loader import load
from resight.images.scan import scan
from resight.index.approximate import ApproximateIndex
from resight.index.exact import ExactIndex
from resight.types import Ranking

K = 100


def write_regions(options: argparse.Namespace) -> None:
    """Vectors of all cells of all photos."""
    backbone = open_backbone(options.backbone)
    found = []
    for loaded in load([photo.path for photo in scan([options.photos]).photos]):
        if loaded.decoded is None:
            continue
        image = (loaded.decoded.pixels.astype(np.float32) / 255 - backbone.mean) / backbone.std
        maps = backbone.forward(image.astype(np.float32).transpose(2, 0, 1)[None])[0]
        cells = np.stack([cv2.blur(one, (3, 3)) for one in maps]).reshape(len(maps), -1).T
        found.append((cells / np.linalg.norm(cells, axis=1, keepdims=True)).astype(np.float16))
    np.save(options.out, np.concatenate(found))


def timed(search: Callable[[np.ndarray, int, object], Ranking], queries: np.ndarray, allowed: object) -> tuple:
    """Median milliseconds of a query, and the ids found for all."""
    seconds, ids = [], []
    for query in queries:
        start = time.perf_counter()
        ids.append(search(query[None], K, allowed).ids[0])
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)) * 1e3, ids


def recall(found: list[np.ndarray], truth: list[np.ndarray]) -> float:
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth, strict=True)]))


def compare(options: argparse.Namespace) -> None:
    """Print the table."""
    vectors = np.load(options.vectors).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rng, count = np.random.default_rng(0), len(vectors)
    queries = vectors[:: count // options.queries][: options.queries]
    queries = queries + rng.standard_normal(queries.shape, np.float32) * 0.3 / vectors.shape[1] ** 0.5
    allowed = {
        "none": None,
        "1 % at random": np.flatnonzero(rng.random(count) < 0.01),
        "20 % at random": np.flatnonzero(rng.random(count) < 0.2),
        "the first 25 %": np.arange(count // 4),
    }
    print(f"{count} x {vectors.shape[1]}, {len(queries)} queries, top {K}\n")
    print(
        "| index | vectors, MiB | built in, s | filter | recall | ms per query | ratio |\n|---|---|---|---|---|---|---|"
    )
    truth: dict[str, tuple] = {}
    for name, build in (
        ("ExactIndex, float32", lambda: ExactIndex.over(vectors)),
        ("ExactIndex, float16", lambda: ExactIndex.over(vectors, half=True)),
        ("ApproximateIndex, float32", lambda: ApproximateIndex.over(vectors, half=False)),
        ("ApproximateIndex, float16", lambda: ApproximateIndex.over(vectors)),
    ):
        start = time.perf_counter()
        index = build()
        built = time.perf_counter() - start
        if isinstance(index, ApproximateIndex):
            effort = index.effort
            name += f", {effort.probes} of {index.lists} lists, filtered {effort.filtered_probes}, {effort.recall:.3f}"
        size = vectors.nbytes / 2**20 / (2 if index.half else 1)
        for condition, rows in allowed.items():
            milliseconds, ids = timed(index.search, queries, rows)
            baseline, exact = truth.setdefault(condition, (milliseconds, ids))
            print(f"| {name} | {size:.0f} | {built:.1f} | {condition} | {recall(ids, exact):.3f} ", end="")
            print(f"| {milliseconds:.2f} | {milliseconds / baseline:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    regions = commands.add_parser("regions")
    for name in ("backbone", "photos", "out"):
        regions.add_argument(name, type=Path)
    regions.set_defaults(run=write_regions)
    search = commands.add_parser("search")
    search.add_argument("vectors", type=Path)
    search.add_argument("--queries", type=int, default=200)
    search.set_defaults(run=compare)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
