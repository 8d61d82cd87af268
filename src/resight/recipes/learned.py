"""Recipes over what was fitted to a collection: separated descriptors, and a learned similarity."""

from __future__ import annotations

from resight.ranking.pipeline import Pipeline
from resight.ranking.search import Standardise
from resight.ranking.similarity import deep_similarity as learned_order
from resight.recipes.resources import Resources, need_database, need_separation, need_similarity
from resight.types import Int64


def separation(resources: Resources, allowed: Int64 | None = None, *, limit: int | None = None) -> Pipeline:
    """Search among the descriptors that `resight fit separation` made (Liu et al., NeurIPS 2019)."""
    separated = need_separation(resources)
    return Pipeline((separated.stage(limit, allowed), Standardise(separated.confidence)))


def deep_similarity(resources: Resources, allowed: Int64 | None = None, *, rerank: int = 1000) -> Pipeline:
    """Search, and order the first `rerank` by what `resight fit similarity` learned (Garcia and Vogiatzis, 2019)."""
    database = need_database(resources)
    similarity = need_similarity(resources)
    return learned_order(database.index, similarity, database.rows, database.vectors, top=rerank, allowed=allowed)
