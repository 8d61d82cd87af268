"""Time and memory of the revisited Oxford and Paris metric on long lists, against plain versions of it.

    python benchmarks/metrics.py [--queries 70] [--rows 1000000]

Each version runs in its own process on the same random rankings; its time is the best of three runs, its memory the
peak of the whole process, rankings (int32) included. All must give the same mAP to 1e-12.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from resight.evaluation import metrics

LEVELS = ("easy", "medium", "hard")
QUOTED_SECONDS, QUOTED_GB = 3.8, 1.7  # the published program, 70 queries x 1 000 000 rows, three protocols


def make_case(queries: int, rows: int) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    rng = np.random.default_rng(0)
    ids = np.empty((queries, rows), np.int32)
    truth = []
    for row in ids:
        row[:] = rng.permutation(rows)
        truth.append(dict(zip(("easy", "hard", "junk"), np.split(rng.permutation(rows)[:300].copy(), 3), strict=True)))
    return ids, truth


def one_pass(ids: np.ndarray, truth: list[dict[str, np.ndarray]]) -> list[float]:
    scores = metrics.revisited_protocols(ids, truth)
    return [scores[level].map for level in LEVELS]


def three_calls(ids: np.ndarray, truth: list[dict[str, np.ndarray]]) -> list[float]:
    return [metrics.revisited(ids, truth, level).map for level in LEVELS]


def single(ids: np.ndarray, truth: list[dict[str, np.ndarray]]) -> list[float]:
    return [metrics.revisited(ids, truth, "medium").map]


def plain_loop(ids: np.ndarray, truth: list[dict[str, np.ndarray]]) -> list[float]:
    """Walk down every list in Python."""

    def find(ranking: np.ndarray, positive: np.ndarray, junk: np.ndarray) -> list[int]:
        wanted, removed = set(positive.tolist()), set(junk.tolist())
        ranks, skipped = [], 0
        for rank, row in enumerate(ranking.tolist()):
            if row in removed:
                skipped += 1
            elif row in wanted:
                ranks.append(rank - skipped)
        return ranks

    return _per_query(ids, truth, find)


def isin_per_query(ids: np.ndarray, truth: list[dict[str, np.ndarray]]) -> list[float]:
    """Find the judged rows of one query and protocol at a time with numpy.isin."""

    def find(ranking: np.ndarray, positive: np.ndarray, junk: np.ndarray) -> list[int]:
        hits, removed = np.flatnonzero(np.isin(ranking, positive)), np.flatnonzero(np.isin(ranking, junk))
        return (hits - np.searchsorted(removed, hits)).tolist()

    return _per_query(ids, truth, find)


def _per_query(ids: np.ndarray, truth: list[dict[str, np.ndarray]], find: Callable[..., list[int]]) -> list[float]:
    maps = []
    for level in LEVELS:
        positive, junk = metrics.PROTOCOLS[level]
        aps = []
        for ranking, judged in zip(ids, truth, strict=True):
            good = np.concatenate([judged[label] for label in positive])
            ranks = find(ranking, good, np.concatenate([judged[label] for label in junk]))
            terms = [((n / r if r else 1.0) + (n + 1) / (r + 1)) / 2 for n, r in enumerate(ranks)]
            aps.append(sum(terms) / len(good))
        maps.append(float(np.mean(aps)))
    return maps


VERSIONS: dict[str, tuple[Callable[..., list[float]], str, int]] = {
    "plain": (plain_loop, "plain Python loop, three protocols", 1),
    "isin": (isin_per_query, "numpy.isin per query, three protocols", 1),
    "calls": (three_calls, "resight, three calls", 3),
    "pass": (one_pass, "resight, three protocols from one pass", 3),
    "single": (single, "resight, one protocol", 3),
}


def measure(version: str, queries: int, rows: int) -> None:
    """Run one version and print its result as JSON."""
    run, _, repeats = VERSIONS[version]
    ids, truth = make_case(queries, rows)
    run(*make_case(2, 1000))  # compile
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        maps = run(ids, truth)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"maps": maps, "seconds": min(seconds), "peak": peak, "ids": ids.nbytes}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=70)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=VERSIONS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        measure(args.only, args.queries, args.rows)
        return
    results = {}
    for version in VERSIONS:
        size = ["--queries", str(args.queries), "--rows", str(args.rows)]
        done = subprocess.run(
            [sys.executable, __file__, *size, "--only", version], check=True, capture_output=True, text=True
        )
        results[version] = json.loads(done.stdout)
    plain = results["plain"]
    print(f"{args.queries} queries x {args.rows} rows; rankings: {plain['ids'] / 1e9:.2f} GB\n")
    print("| version | seconds | times faster | peak memory, GB | mAP easy / medium / hard |")
    print("|---|---|---|---|---|")
    print(f"| published program (quoted) | {QUOTED_SECONDS} | | {QUOTED_GB} | |")
    for version, result in results.items():
        want = plain["maps"] if len(result["maps"]) == 3 else plain["maps"][1:2]
        np.testing.assert_allclose(result["maps"], want, rtol=0, atol=1e-12)
        maps = " / ".join(f"{value:.6f}" for value in result["maps"])
        print(
            f"| {VERSIONS[version][1]} | {result['seconds']:.2f} | {plain['seconds'] / result['seconds']:.1f} "
            f"| {result['peak'] / 1e9:.2f} | {maps} |"
        )


if __name__ == "__main__":
    main()
