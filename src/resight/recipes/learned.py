"""Recipes over what was trained on a collection: refined descriptors, and a learned similarity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from resight.artifacts.similarity import describe_collection, similarity_pipeline
from resight.collection.collection import Collection
from resight.fitting.separation import load_refinement, refined_pipeline
from resight.ranking.pipeline import Pipeline, composable, explain
from resight.types import Evidence, Float32, Queries, Ranking, Stage


@composable
@dataclass(frozen=True, eq=False)
class Describing:
    """`stage`, given queries whose global descriptors (Q, D) `describe` makes of them; online."""

    describe: Callable[[Queries], Float32]
    stage: Stage

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        return self.stage(self._described(queries), ranking)

    def explain(self, queries: Queries, query: int, row: int, before: Ranking | None = None) -> tuple[Evidence, ...]:
        """What the stage itself says."""
        return explain(self.stage, self._described(queries), query, row, before)

    def _described(self, queries: Queries) -> Queries:
        return replace(queries, vectors=self.describe(queries))


def separation(collection: Collection, *, limit: int | None = None) -> Pipeline:
    """Search among the descriptors that `resight fit separation` made (Liu et al., NeurIPS 2019)."""
    described = describe_collection(collection)
    return Pipeline((Describing(described.describe, refined_pipeline(load_refinement(collection), limit=limit)),))


def deep_similarity(collection: Collection, *, top: int = 1000) -> Pipeline:
    """Search, and order the first `top` by what `resight fit similarity` learnt (Garcia and Vogiatzis, 2019)."""
    pipeline, described = similarity_pipeline(collection, top=top)
    return Pipeline((Describing(described.describe, pipeline),))


LEARNED: dict[str, Callable[..., Pipeline]] = {"separation": separation, "deep-similarity": deep_similarity}
