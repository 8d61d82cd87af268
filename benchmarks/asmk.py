"""Speed and memory of ASMK on random descriptors, beside the figures of the authors' program.

    python benchmarks/asmk.py [--images 20000] [--features 100] [--words 4096] [--queries 70]

Images come in batches of 1000, as in indexing, so that the peak holds index and working memory, not the whole input.
The quoted figures (another run, on two cores) are for the default sizes: aggregation 13.0 s, adding 4.6 s, 70 queries
with five assignments 2.5 s, peak 4.0 GB. Quantisation is faiss in both and stands apart. Times are of the processor,
all cores together.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from resight.index.asmk import Asmk, Codebook, aggregate

DIM = 128
BATCH = 1000
QUOTED = {"aggregate": 13.0, "add": 4.6, "search": 2.5, "peak": 4.0}


@contextmanager
def timed(times: Counter[str], name: str) -> Iterator[None]:
    start = time.process_time()
    yield
    times[name] += time.process_time() - start


def descriptors(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, DIM), np.float32)


def fill(indexes: dict[str, Asmk], images: int, features: int, times: Counter[str]) -> None:
    """Quantise every batch once; aggregate it for each index and add it there."""
    for first in range(0, images, BATCH):
        count = min(BATCH, images - first)
        points = descriptors(first + 1, count * features)
        rows = np.repeat(np.arange(first, first + count), features)
        codebook = next(iter(indexes.values())).codebook
        with timed(times, "quantise"):
            words = codebook.assign(points)
        for name, index in indexes.items():
            with timed(times, f"aggregate {name}"):
                aggregated = aggregate(index.codebook, rows, words, points)
            with timed(times, f"add {name}"):
                index.add_aggregated(aggregated)


def ask(index: Asmk, name: str, queries: int, features: int, times: Counter[str]) -> None:
    points = descriptors(1, queries * features)  # the first database images: each must find itself
    rows = np.repeat(np.arange(queries), features)
    with timed(times, f"quantise queries {name}"):
        words = index.codebook.assign(points, index.kernel.query_multiple)
    with timed(times, f"aggregate queries {name}"):
        aggregated = aggregate(index.codebook, rows, words, points, planes=index.kernel.planes)
    with timed(times, f"search {name}"):
        ranking = index.search_aggregated(aggregated, 100)
    if not np.array_equal(ranking.ids[:, 0], np.arange(queries)):
        raise SystemExit("a query did not find itself first: the timings mean nothing")


def main() -> None:
    parser = argparse.ArgumentParser(description="speed and memory of binary ASMK on random descriptors")
    for name, default in (("images", 20000), ("features", 100), ("words", 4096), ("queries", 70)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    plain = Codebook(descriptors(0, options.words))
    turned = plain.with_rotation(descriptors(10**6, 20 * options.words), np.random.default_rng(0))
    indexes = {"signs": Asmk(plain), "turned, asymmetric": Asmk(turned)}
    times: Counter[str] = Counter()
    fill(indexes, options.images, options.features, times)
    for name, index in indexes.items():
        ask(index, name, options.queries, options.features, times)
    report(indexes, times)


def report(indexes: dict[str, Asmk], times: Counter[str]) -> None:
    print("| step | bits | processor seconds | authors' program (quoted) | times faster |\n|---|---|---|---|---|")
    print(f"| quantise images (faiss) | | {times['quantise']:.1f} | | |")
    for name in indexes:
        for step in ("aggregate", "add", "search"):
            seconds = times[f"{step} {name}"]
            print(f"| {step} | {name} | {seconds:.2f} | {QUOTED[step]} | {QUOTED[step] / seconds:.0f} |")
        for step in ("quantise", "aggregate"):
            print(f"| {step} queries | {name} | {times[f'{step} queries {name}']:.2f} | | |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| peak memory, both indexes, GB | | {peak:.2f} | {QUOTED['peak']} | {QUOTED['peak'] / peak:.1f} |")
    index = next(iter(indexes.values()))
    print(f"\n{index.bytes_per_image():.0f} bytes per image, {index.memory_bytes / index.postings:.2f} per posting")


if __name__ == "__main__":
    main()
