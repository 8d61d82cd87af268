"""What a benchmark says of single results: right, wrong or junk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resight.evaluation.benchmark import Benchmark
from resight.evaluation.metrics import PROTOCOLS
from resight.types import Int64

PAD, WRONG, RIGHT, JUNK = -1, 0, 1, 2


def judged(benchmark: Benchmark, level: str, query: int, ids: Int64) -> NDArray[np.int8]:
    """Judgement of ranked rows `ids` (K,) of one query: 1 right, 0 wrong, 2 junk, -1 past the end of the list."""
    right, junk = _labels(benchmark, level)
    truth = benchmark.judgements[query]
    verdict = np.full(len(ids), WRONG, np.int8)
    for labels, value in ((right, RIGHT), (junk, JUNK)):
        for label in labels:
            verdict[np.isin(ids, truth[label])] = value
    verdict[ids < 0] = PAD
    return verdict


def right_rows(benchmark: Benchmark, level: str, query: int) -> Int64:
    """The right photos (R,) of a query, ascending."""
    truth = benchmark.judgements[query]
    return np.sort(np.concatenate([np.asarray(truth[label], np.int64) for label in _labels(benchmark, level)[0]]))


def shown_level(benchmark: Benchmark) -> str:
    """The level that is shown where one is: medium of revisited benchmarks, else the only one."""
    levels = benchmark.protocol.levels
    return "medium" if "medium" in levels else levels[0]


def _labels(benchmark: Benchmark, level: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labels that count as right, and as junk."""
    return PROTOCOLS[level] if benchmark.protocol.ap == "trapezoid" else (("ok",), ("junk",))
