"""Recipes over what was fitted to a collection: separated descriptors, and a learned similarity."""

from __future__ import annotations

from resight.ranking.pipeline import Pipeline
from resight.ranking.search import Standardise
from resight.ranking.similarity import deep_similarity as learned_order
from resight.recipes.options import check_verify
from resight.recipes.resources import Resources, need_database, need_separation, need_similarity, need_verifier
from resight.types import Int64


def separation(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    verify: int | None = None,
    k: int | None = None,
    limit: int | None = None,
) -> Pipeline:
    """Search among the descriptors that `resight fit separation` made (Liu et al., NeurIPS 2019).

    A query takes up its `k` nearest photos, None for as many as in the training. `verify`: of its first so many results
    only those that geometry proves, in the order of their inliers, as far as there are any (GSS_V-SV, after
    `resight fit separation --verified`).
    """
    separated, verifier = need_separation(resources), None
    if verify is not None:
        check_verify(verify)
        verifier = need_verifier(resources)
    stage = separated.stage(limit, allowed, k=k, verifier=verifier, verify=verify or 1)
    return Pipeline((stage, Standardise(separated.confidence)))


def deep_similarity(resources: Resources, allowed: Int64 | None = None, *, rerank: int = 1000) -> Pipeline:
    """Search, and order the first `rerank` by what `resight fit similarity` learned (Garcia and Vogiatzis, 2019)."""
    database = need_database(resources)
    similarity = need_similarity(resources)
    return learned_order(database.index, similarity, database.rows, database.vectors, top=rerank, allowed=allowed)
