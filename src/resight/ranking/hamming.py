"""Query expansion on aggregated local descriptors: what verified photos show enriches the query, which searches again.

Papers: Tolias and Jegou, "Visual query expansion with or without geometry: refining local descriptors by feature
aggregation", Pattern Recognition 2014 (Hamming query expansion); Chum et al., "Total recall", ICCV 2007.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resight.errors import UsageError
from resight.index.asmk import Asmk
from resight.matching.geometry import Verification
from resight.ranking.pipeline import Composable, need, reorder
from resight.ranking.query_words import words_of
from resight.ranking.search import local_features, restrict, stack
from resight.ranking.verification import VERIFIED, FeatureSource, Verifier
from resight.types import Bool, Evidence, Float32, Int64, LocalFeatures, Queries, Ranking

SURE = 5.0  # significance that a source needs: a wrong one does more harm than a right one that is left out


@dataclass(frozen=True, eq=False)
class HammingExpansion(Composable):
    """Search again with the query's descriptors and those of its best results, aggregated word by word.

    `verified`: only results that geometry proves beyond doubt are used, and of these only the features that lie within
    the query's frame; else the first `sources` results as they are (average expansion). Looks at the first `top`
    results; queries without a source keep their descriptors. A source is scored by the query and the other sources
    alone: its own features would find themselves, however wrong it is. A longer query shares more words with any photo
    by chance: scores are brought back to where unrelated photos were against the query alone. They are similarities
    again, so let `SpatialRerank` follow. `kind` and `features`: key and source of the features of `index` where they
    are not those that verify. Online: the features of at most `sources` photos, and one more search.
    """

    index: Asmk
    verifier: Verifier
    sources: int = 10
    top: int = VERIFIED
    verified: bool = True
    allowed: Int64 | None = None
    kind: str = ""
    features: FeatureSource | None = None

    def __post_init__(self) -> None:
        if self.sources < 1 or self.top < 1:
            raise UsageError(f"sources={self.sources} and top={self.top} must both be at least 1")

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        ranking = need(ranking, "HammingExpansion")
        found = [
            self._search(query, self._sources(proven, ids, row))
            for query, proven, ids, row in zip(*self._of(queries), ranking.ids, _own_rows(queries), strict=True)
        ]
        return restrict(Ranking.from_lists([ids for ids, _ in found], [scores for _, scores in found]), self.allowed)

    def _search(self, query: LocalFeatures, sources: list[tuple[int, LocalFeatures]]) -> tuple[Int64, Float32]:
        """Rows and scores (N,) of the query with its sources, each of these without its own features."""
        photos = (query, *(features for _, features in sources))
        owner, descriptors = stack(photos, self.index.codebook.dim)
        multiple = min(self.index.kernel.query_multiple, len(self.index.codebook))
        known = [words_of(self.index.codebook, photo, multiple) for photo in photos if len(photo)]
        words = np.concatenate(known) if known else np.empty((0, multiple), np.int64)
        aggregated = self.index.aggregate_query(np.zeros(len(owner), np.int64), descriptors, words)
        ranking = self.index.search_aggregated(aggregated, queries=1)
        ids, scores = ranking.ids[0], ranking.scores[0].copy()
        if not (sources and len(ids)):
            return ids, scores
        unrelated = float(np.median(scores))

        def level(part: Bool) -> float:
            """What unrelated photos score against the features in `part`: chance adds up as words do."""
            return unrelated * float(np.sqrt(len(np.unique(words[part])) / len(aggregated)))

        scores -= unrelated
        for number, (row, _) in enumerate(sources, 1):
            others = owner != number
            if row in ids:  # not so for one that a stopped run left out of the index
                own = self.index.score(row, descriptors[others], words[others])
                scores[ids == row] = own - level(others)
        rows, levels = reorder(ids, scores + level(owner == 0))
        return rows, levels

    def _of(self, queries: Queries) -> tuple[tuple[LocalFeatures, ...], tuple[LocalFeatures, ...]]:
        """The queries' features of the kind that is searched, and of the kind that verifies."""
        return local_features(queries, self.kind), local_features(queries)

    def _read(self, rows: Int64) -> Sequence[LocalFeatures]:
        return (self.features or self.verifier.features)(rows)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """The rows whose features enriched the query; nothing when there were none."""
        ranking = need(before, "HammingExpansion")
        local, own_row = local_features(queries)[query], _own_rows(queries)[query]
        rows = [row for row, _ in self._sources(local, ranking.ids[query], own_row)]
        if not rows:
            return ()
        kind = "verified" if self.verified else "first"
        summary = f"the query was enriched by {len(rows)} {kind} result{'s' if len(rows) > 1 else ''}"
        summary += ", this one among them" if row in rows else ""
        return (Evidence("HammingExpansion", summary, {"sources": rows}),)

    def _sources(self, query: LocalFeatures, ids: Int64, own_row: int) -> list[tuple[int, LocalFeatures]]:
        rows = ids[: self.top]
        rows = rows[(rows >= 0) & (rows != own_row)]
        if not self.verified:
            rows = rows[: self.sources]
            return list(zip(rows.tolist(), self._read(rows), strict=True))
        proofs = zip(rows.tolist(), self.verifier(query, rows), strict=True)
        chosen = [(row, proof) for row, proof in proofs if proof.verified and proof.significance >= SURE][
            : self.sources
        ]
        features = self._read(np.array([row for row, _ in chosen], np.int64)) if chosen else []
        return [(row, within(query, f, proof)) for (row, proof), f in zip(chosen, features, strict=True)]


def _own_rows(queries: Queries) -> list[int]:
    return [-1] * len(queries) if queries.rows is None else queries.rows.tolist()


def within(query: LocalFeatures, features: LocalFeatures, verification: Verification) -> LocalFeatures:
    """The features of a verified photo that lie where the query's own features lie, seen through the transform."""
    if verification.transform is None:
        raise UsageError("only a verified photo has a transform to carry its features back to the query")
    points = np.c_[features.xy, np.ones(len(features))] @ np.linalg.inv(verification.transform).T
    with np.errstate(divide="ignore", invalid="ignore"):
        points = points[:, :2] / points[:, 2:]
    low, high = query.xy.min(axis=0), query.xy.max(axis=0)
    return features.select(((points >= low) & (points <= high)).all(axis=1))
