"""The recipe of one global descriptor per photo, whatever network makes it."""

from __future__ import annotations

from resight.ranking.pipeline import Pipeline
from resight.ranking.search import GlobalSearch
from resight.recipes.resources import Resources, need_vectors
from resight.types import Int64


def vectors(resources: Resources, allowed: Int64 | None = None) -> Pipeline:
    """Nearest neighbours by the inner product of global descriptors; `allowed`: rows that may be returned."""
    return Pipeline((GlobalSearch(need_vectors(resources), resources.vector_confidence, allowed),))
