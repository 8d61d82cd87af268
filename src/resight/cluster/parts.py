"""What recipes work on when a collection lies in shards: an inverted file, a verifier and an index of vectors that ask
the shards and merge.

ASMK scores of one codebook do not depend on what else is indexed, and neither do inner products or proofs: what is
merged is equal to the last bit to what one collection of all photos answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from resight.arrays import Float64
from resight.cluster.engines import Engine
from resight.cluster.shard import State, shard_of
from resight.errors import UsageError
from resight.index.asmk import Aggregated, Asmk
from resight.index.asmk_scoring import best
from resight.index.exact import finite_vectors
from resight.matching.geometry import Verification
from resight.products import lengths
from resight.ranking.verification import Verifier
from resight.store.tables import Tables
from resight.ties import nearest
from resight.types import Float32, Int64, LocalFeatures, Ranking


def by_shard(rows: Int64) -> dict[int, Int64]:
    """Places of global rows (n,), by the number of their shard."""
    shards = shard_of(rows)
    return {int(shard): np.flatnonzero(shards == shard) for shard in np.unique(shards)}


class ShardedAsmk(Asmk):
    """The inverted files of one kind of local features in all shards. A search asks every shard for the scores of its
    photos, four bytes each.

    `alike`: an index without photos over the codebook of all; `rows` of the photos that have such features.
    """

    def __init__(self, alike: Asmk, engine: Engine, key: str, rows: Int64) -> None:
        super().__init__(alike.codebook, **asdict(alike.kernel))
        if self.kernel.idf:
            raise UsageError(
                "words weighed by their frequency (idf) depend on all photos, which no shard knows: index without idf "
                "to search in shards"
            )
        self._engine, self._key, self._held = engine, key, rows

    def __len__(self) -> int:
        return len(self._held)

    @property
    def rows(self) -> Int64:
        """Global rows of all photos in it, ascending, (N,) int64."""
        return self._held.copy()

    def dense(self, aggregated: Aggregated, queries: int) -> tuple[Int64, Float32]:
        """As `Asmk.dense`, over all shards that are there."""
        parts = self._engine.every("dense", self._key, aggregated, queries)
        return np.concatenate([rows for rows, _ in parts]), np.concatenate([scores for _, scores in parts], axis=1)

    def search_aggregated(self, aggregated: Aggregated, k: int | None = None, *, queries: int | None = None) -> Ranking:
        """As `Asmk.search_aggregated`, over all shards that are there."""
        if k is not None and k < 1:
            raise UsageError(f"{k} results were asked for: give at least 1")
        count = queries if queries is not None else int(aggregated.rows[-1]) + 1 if len(aggregated) else 0
        parts = self._engine.every("dense", self._key, aggregated, count)
        rows, scores = [rows for rows, _ in parts], [np.ascontiguousarray(scores) for _, scores in parts]
        total = sum(map(len, rows))
        return Ranking(*best(scores, rows, count, total if k is None else min(k, total)))

    def scores(self, query_rows: Any, descriptors: Any, *, queries: int | None = None) -> Float64:
        """As `Asmk.scores`, in single precision."""
        aggregated = self.aggregate_query(query_rows, descriptors)
        count = queries if queries is not None else int(aggregated.rows[-1]) + 1 if len(aggregated) else 0
        return self.dense(aggregated, count)[1].astype(np.float64)

    def score(self, row: int, descriptors: Any, words: Int64) -> float:
        """As `Asmk.score`, asked of the shard that holds the photo."""
        shard = shard_of(row)
        answers = self._engine.ask("score", {shard: (self._key, row, np.asarray(descriptors), words)})
        return float(next(iter(answers.values()), 0.0))  # a shard that has gone meanwhile scores nothing


@dataclass(frozen=True, eq=False)
class ShardedVerifier(Verifier):
    """Verification beside the shard that holds a photo's features: the query travels, they do not."""

    engine: Engine | None = field(default=None, repr=False)

    def _verified(self, query: LocalFeatures, rows: Int64) -> Sequence[Verification]:
        assert self.engine is not None
        places = by_shard(rows)
        answers = self.engine.ask("verify", {shard: (query, rows[where]) for shard, where in places.items()})
        found: list[Verification] = [self._unproven] * len(rows)  # of a shard that has gone meanwhile
        for shard, proofs in answers.items():
            for place, proof in zip(places[shard].tolist(), proofs, strict=True):
                found[place] = proof
        return found

    @property
    def _unproven(self) -> Verification:
        pairs = np.empty((0, 2), np.int32)
        nothing = np.empty(0, bool)
        return Verification(self.model, None, pairs, nothing, self.min_inliers, math.inf, (0.0, 0.0), -math.inf)


class ShardedVectors:
    """The global descriptors of all shards, searched exactly (`resight.ranking.search.VectorIndex`)."""

    def __init__(self, engine: Engine, states: Sequence[State]) -> None:
        self._engine = engine
        self._count = sum(state.vectors for state in states)
        self.longest = max((state.longest for state in states), default=0.0)

    def __len__(self) -> int:
        return self._count

    def search(self, queries: Any, k: int, allowed: Any = None) -> Ranking:
        """As `resight.index.exact.ExactIndex.search`, over all shards that are there."""
        if k < 1:
            raise UsageError(f"{k} results were asked for: give at least 1")
        points = finite_vectors(queries, None)
        total = self._count if allowed is None else self._passing(points, np.asarray(allowed, np.int64))
        width = min(k, total)
        rows, _, levels = nearest(
            lambda which, m: self._candidates(points[which], m, allowed),
            len(points),
            width,
            total,
            lengths(points) * self.longest,
        )
        return Ranking(rows, levels.astype(np.float32))

    def _passing(self, points: Float32, allowed: Int64) -> int:
        """How many of the vectors are allowed, those of shards that are gone left out."""
        return self._candidates(points[:1], self._count, allowed)[0].shape[1] if len(points) else 0

    def _candidates(self, points: Float32, m: int, allowed: Any) -> tuple[Int64, Float32]:
        if allowed is None:
            parts = self._engine.every("candidates", points, m, None)
        else:
            rows = np.asarray(allowed, np.int64)
            calls = {shard: (points, m, rows[where]) for shard, where in by_shard(rows).items()}
            parts = list(self._engine.ask("candidates", calls).values())
        empty = (np.empty((len(points), 0), np.int64), np.empty((len(points), 0), np.float32))
        rows = np.concatenate([empty[0], *(rows for rows, _ in parts)], axis=1)
        scores = np.concatenate([empty[1], *(scores for _, scores in parts)], axis=1)
        order = np.lexsort((rows, -scores), axis=1)[:, :m]
        return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)


@dataclass(frozen=True, eq=False)
class ShardedTables(Tables):
    """The tables of all shards. Those of the head, which are empty, tell the columns."""

    engine: Engine | None = field(default=None, repr=False)
    states: tuple[State, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def rows(self) -> Int64:
        """Global rows of all photos, ascending, (N,) int64."""
        return np.concatenate([np.empty(0, np.int64), *(state.all for state in self.states)])

    @property
    def feature_rows(self) -> Int64:
        """Global rows of the photos that have local features, ascending, (M,) int64."""
        return np.concatenate([np.empty(0, np.int64), *(state.features for state in self.states)])

    def find(self, column: str, values: Sequence[str | int | bytes], columns: Sequence[str] | None = None) -> pa.Table:
        """As `Tables.find`, over all shards; a row is asked of its shard alone."""
        assert self.engine is not None
        wanted = self.images_dataset.schema.names if columns is None else list(columns)
        asked = sorted({*wanted, "row"})
        if column == "row":
            rows = np.asarray(values, np.int64)
            calls = {shard: ("row", rows[where].tolist(), asked) for shard, where in by_shard(rows).items()}
            parts = list(self.engine.ask("find", calls).values())
        else:
            parts = self.engine.every("find", column, list(values), asked)
        empty = super().find(column, [], asked)
        return pa.concat_tables([empty, *parts]).sort_by("row").select(wanted)

    def local(self, rows: Any, kind: str = "") -> list[bytes]:
        """As `Tables.local`; a shard is asked for the photos that it holds."""
        return self._of_photos("packed", rows, kind)

    def counts(self, rows: Any, kind: str = "") -> Int64:
        """As `Tables.counts`."""
        return np.array(self._of_photos("counts", rows, kind), np.int64)

    def _of_photos(self, method: str, rows: Any, kind: str) -> list[Any]:
        assert self.engine is not None
        asked = np.asarray(rows, np.int64)
        places = by_shard(asked)
        answers = self.engine.ask(method, {shard: (asked[where], kind) for shard, where in places.items()})
        found: list[Any] = [None] * len(asked)
        for shard, values in answers.items():
            for place, value in zip(places[shard].tolist(), values, strict=True):
                found[place] = value
        if any(value is None for value in found):
            raise UsageError(f"photos of {', '.join(self.engine.absent)} were asked for, which is gone")
        return found
