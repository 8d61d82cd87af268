"""Scores of ranked lists, each form of average precision under its own name.

Every function takes `ids` (Q, K) integers, database rows best first, -1 padded. Lists may be truncated: positives that
were not retrieved still count. Queries without positives score NaN, are left out of the means and are counted. Bad
rankings (repeated ids, ids outside the database, no queries) raise `ArrayError`, naming the queries and their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resight.arrays import Float64
from resight.errors import UsageError
from resight.evaluation.positions import Positions, locate
from resight.precision import precision_of_ranks
from resight.types import Bool, Int64

# protocol: (labels that count as positive, labels that are removed from the ranking)
PROTOCOLS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
    "plain": (("ok",), ("junk",)),
}


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of Q queries. `metric` names what `ap` (Q,) float64 holds: a form of average precision, or for `ukbench`
    the hits among four. `p_at` (Q, len(at)) float64 is the precision at the ranks `at`. NaN: no positives.
    """

    metric: str
    ap: Float64
    at: tuple[int, ...]
    p_at: Float64

    def __len__(self) -> int:
        return len(self.ap)

    def __float__(self) -> float:
        return self.map

    @property
    def empty(self) -> int:
        """Number of queries without positives; the means leave them out."""
        return int(np.isnan(self.ap).sum())

    @property
    def map(self) -> float:
        """Mean of `ap` over the queries with positives; NaN when there are none."""
        return float(_mean(self.ap))

    @property
    def mp_at(self) -> Float64:
        """Mean precision at each rank of `at`, (len(at),) float64."""
        return _mean(self.p_at)


@dataclass(frozen=True, eq=False)
class Recalls:
    """Recall of Q queries at the ranks `at`: `per_query` (Q, len(at)) float64, NaN for queries without positives."""

    at: tuple[int, ...]
    per_query: Float64

    @property
    def empty(self) -> int:
        """Number of queries without positives."""
        return int(np.isnan(self.per_query).any(axis=1).sum())

    @property
    def mean(self) -> Float64:
        """Mean recall at each rank of `at`, (len(at),) float64."""
        return _mean(self.per_query)


def revisited(
    ids: ArrayLike,
    ground_truth: Sequence[Mapping[str, Any]],
    protocol: str,
    at: Sequence[int] = (1, 5, 10),
    database_size: int | None = None,
) -> Scores:
    """Trapezoid AP and precision at ranks as revisited Oxford and Paris define them (Radenovic et al., CVPR 2018).

    `ground_truth`: per query a mapping with row arrays "easy", "hard", "junk" (protocols "easy", "medium", "hard") or
    "ok", "junk" (protocol "plain": classic Oxford and Paris, INSTRE); a missing "junk" means none. Junk is removed from
    the list first. AP sums, over the positives, the mean of the precision before and after each, divided by all
    positives. P@k divides by min(k, rank of the last retrieved positive); with no positive retrieved it is 0.
    Raises `UsageError` for an unknown protocol or missing labels, `ArrayError` for bad rankings or ground truth.
    """
    return revisited_protocols(ids, ground_truth, (protocol,), at, database_size)[protocol]


def revisited_protocols(
    ids: ArrayLike,
    ground_truth: Sequence[Mapping[str, Any]],
    protocols: Sequence[str] = ("easy", "medium", "hard"),
    at: Sequence[int] = (1, 5, 10),
    database_size: int | None = None,
) -> dict[str, Scores]:
    """`revisited` for several protocols from one pass over the ids: {protocol: Scores}."""
    ranks = _ranks(at)
    judged: dict[str, list[Any]] = {}
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise UsageError(f"there is no protocol {protocol!r}: choose among {', '.join(PROTOCOLS)}")
        for label in sum(PROTOCOLS[protocol], ()):
            if label not in judged:
                judged[label] = [_rows(truth, label, q, protocol) for q, truth in enumerate(ground_truth)]
    positions = locate(ids, judged, database_size)
    return {protocol: _trapezoid(positions, *PROTOCOLS[protocol], ranks) for protocol in protocols}


def rectangle_ap(
    ids: ArrayLike, positives: Sequence[Any], junk: Sequence[Any] | None = None, database_size: int | None = None
) -> Scores:
    """Non-interpolated AP: the mean over all positives of the precision at each, 0 for those not retrieved.

    `positives` and `junk`: one row array per query; junk is removed first. Queries that are database images themselves
    (INRIA Holidays; Jegou et al., ECCV 2008) belong in `junk`. `p_at` is empty. Raises as `revisited`.
    """
    positions = locate(ids, _judged(positives, junk), database_size)
    query, rank, _ = _ranked_positives(positions, ("ok",), ("junk",))
    ap = precision_of_ranks(query, rank, _total(positions, ("ok",)))
    return Scores("rectangle AP", ap, (), np.empty((len(ap), 0)))


def mean_average_precision_at(
    ids: ArrayLike,
    positives: Sequence[Any],
    k: int,
    junk: Sequence[Any] | None = None,
    database_size: int | None = None,
) -> Scores:
    """AP@k: the precisions at the positives among the first k, summed and divided by min(number of positives, k).

    `positives` and `junk`: one row array per query; junk is removed first. `.map` is mAP@100 of Google Landmarks v2
    (Weyand et al., CVPR 2020) or mAP@1k of ILIAS (Kordopatis-Zilos et al., CVPR 2025). Raises as `revisited`, and
    `UsageError` when k is below 1.
    """
    (k,) = _ranks((k,))
    positions = locate(ids, _judged(positives, junk), database_size)
    query, rank, _ = _ranked_positives(positions, ("ok",), ("junk",))
    inside = rank < k
    ap = precision_of_ranks(query[inside], rank[inside], np.minimum(_total(positions, ("ok",)), k))
    return Scores(f"AP@{k}", ap, (), np.empty((len(ap), 0)))


def recall_at(
    ids: ArrayLike,
    positives: Sequence[Any],
    ks: Sequence[int],
    junk: Sequence[Any] | None = None,
    database_size: int | None = None,
) -> Recalls:
    """Recall@k: the share of a query's positives that stand among its first k results, junk removed.

    Raises as `revisited`, and `UsageError` for a k below 1.
    """
    ranks = _ranks(ks)
    positions = locate(ids, _judged(positives, junk), database_size)
    query, rank, _ = _ranked_positives(positions, ("ok",), ("junk",))
    total = _total(positions, ("ok",))
    columns = [_divide(_count(query[rank < k], positions.queries), total) for k in ranks]
    return Recalls(ranks, np.stack(columns, axis=1))


def ukbench(ids: ArrayLike, positives: Sequence[Any], database_size: int | None = None) -> Scores:
    """N-S score of UKBench (Nister and Stewenius, CVPR 2006): how many of a query's group are among its first four.

    `positives`: the rows of the whole group, the query's own row included, as it stays in the ranking. `ap` holds the
    hits (0 to 4), `.map` the N-S score, `p_at` the hits divided by 4. Raises as `revisited`.
    """
    positions = locate(ids, {"ok": positives}, database_size)
    found = positions.position
    hits = _count(positions.query[(found >= 0) & (found < 4)], positions.queries).astype(np.float64)
    hits[_total(positions, ("ok",)) == 0] = np.nan
    return Scores("N-S", hits, (4,), hits[:, None] / 4)


def _judged(positives: Sequence[Any], junk: Sequence[Any] | None) -> dict[str, Sequence[Any]]:
    return {"ok": positives, "junk": [()] * len(positives) if junk is None else junk}


def _ranks(ks: Sequence[int]) -> tuple[int, ...]:
    ranks = tuple(int(k) for k in ks)
    if any(k < 1 for k in ranks):
        raise UsageError(f"scores at ranks {ranks} were asked for: ranks start at 1")
    return ranks


def _rows(truth: Mapping[str, Any], label: str, q: int, protocol: str) -> Any:
    if label not in truth and label != "junk":
        raise UsageError(
            f"protocol {protocol!r} needs {label!r} rows, and query {q} of the ground truth has only {sorted(truth)}"
        )
    return truth.get(label, ())


def _ranked_positives(positions: Positions, positive: Sequence[str], junk: Sequence[str]) -> tuple[Int64, Int64, Int64]:
    """(query, 0-based rank with junk removed, how many positives stand before it) of every retrieved positive."""
    width = int(positions.position.max(initial=-1)) + 1
    key = positions.query * width + positions.position
    found = positions.position >= 0
    hits = np.sort(key[found & positions.mask(positive)])
    removed = np.sort(key[found & positions.mask(junk)])
    query = hits // max(width, 1)
    start = query * width
    rank = hits - start - (np.searchsorted(removed, hits) - np.searchsorted(removed, start))
    nth = np.arange(len(hits)) - np.searchsorted(query, query)
    return query, rank, nth


def _trapezoid(positions: Positions, positive: Sequence[str], junk: Sequence[str], at: tuple[int, ...]) -> Scores:
    query, rank, nth = _ranked_positives(positions, positive, junk)
    total = _total(positions, positive)
    before = np.where(rank == 0, 1.0, nth / np.maximum(rank, 1))
    ap = _divide(_sum(query, (before + (nth + 1) / (rank + 1)) / 2, positions.queries), total)
    last = np.zeros(positions.queries, np.int64)
    np.maximum.at(last, query, rank + 1)
    p_at = np.empty((positions.queries, len(at)))
    for column, k in enumerate(at):
        depth = np.minimum(last, k)
        hits = _count(query[rank < depth[query]], positions.queries)
        p_at[:, column] = np.where(total > 0, hits / np.maximum(depth, 1), np.nan)
    return Scores("trapezoid AP", ap, at, p_at)


def _total(positions: Positions, names: Sequence[str]) -> Int64:
    return _count(positions.query[positions.mask(names)], positions.queries)


def _count(query: Int64, queries: int) -> Int64:
    return np.bincount(query, minlength=queries).astype(np.int64)


def _sum(query: Int64, terms: Float64, queries: int) -> Float64:
    return np.bincount(query, weights=terms, minlength=queries).astype(np.float64)


def _divide(sums: NDArray[Any], total: Int64) -> Float64:
    return np.where(total > 0, sums / np.maximum(total, 1), np.nan)


def _mean(values: Float64) -> Float64:
    """Mean over the first axis without the NaN entries; NaN where nothing is left (no warning, unlike nanmean)."""
    valid: Bool = ~np.isnan(values)
    count = valid.sum(axis=0)
    total = np.where(valid, values, 0.0).sum(axis=0)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))
