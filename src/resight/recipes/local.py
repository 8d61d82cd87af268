"""Recipes over local features, alone or beside a global descriptor. Their keyword arguments are their options."""

from __future__ import annotations

import numpy as np

from resight.errors import UsageError
from resight.ranking.confidence import UNKNOWN
from resight.ranking.hamming import HammingExpansion
from resight.ranking.pipeline import Fusion, Pipeline
from resight.ranking.search import AsmkSearch, GlobalSearch, SearchAgain, Standardise
from resight.ranking.verification import VERIFIED, SpatialRerank
from resight.recipes.options import check_verify
from resight.recipes.resources import Resources, need_database, need_index, need_verifier
from resight.types import Int64

WEIGHT = 2.0  # of the global descriptor in recipe hybrid
SUMS = UNKNOWN  # sums of standardised similarities are in standard deviations already


def classic(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    verify: int = VERIFIED,
    sources: int = 10,
    expand: bool = True,
    strict: bool = False,
) -> Pipeline:
    """RootSIFT, ASMK, spatial verification of the first `verify`, Hamming query expansion with `sources` verified
    photos, and verification of what that brought up. `strict`: order the verified ones by their inliers alone.
    `allowed`: rows that may be returned, ascending; None for all.
    """
    check_verify(verify)
    index, verifier = need_index(resources), need_verifier(resources)
    rerank = SpatialRerank(verifier, resources.confidence, verify, strict)
    search: Pipeline = AsmkSearch(index, allowed) >> rerank
    if not expand:
        return search
    return search >> HammingExpansion(index, verifier, sources, verify, allowed=allowed) >> rerank


def hybrid(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    weight: float | None = None,
    verify: int = VERIFIED,
    sources: int = 10,
    expand: bool = True,
    strict: bool = False,
) -> Pipeline:
    """`classic`, with the similarity of a global descriptor added to that of the local features before verification.

    Both are in standard deviations above unrelated photos; `weight`: what one of the global descriptor is worth, None
    for what `resight fit fusion` learned, else 2.
    """
    check_verify(verify)
    weight = _weight(resources, weight)
    index, verifier, database = need_index(resources), need_verifier(resources), need_database(resources)
    descriptors = GlobalSearch(database.index, resources.vector_confidence, allowed)
    standardise, rerank = Standardise(resources.confidence), SpatialRerank(verifier, SUMS, verify, strict)
    similarity: Fusion = 1.0 * (AsmkSearch(index, allowed) >> standardise) + weight * descriptors
    search: Pipeline = similarity >> rerank
    if not expand:
        return search
    expansion = HammingExpansion(index, verifier, sources, verify, allowed=allowed)
    again: Fusion = 1.0 * (expansion >> standardise) + weight * SearchAgain(descriptors)
    return search >> again >> rerank


def _weight(resources: Resources, given: float | None) -> float:
    learned = resources.fusion_weight if given is None else given
    weight = WEIGHT if learned is None else learned
    if not (np.isfinite(weight) and weight >= 0):
        raise UsageError(f"weight={weight}: the global descriptor counts with 0 or more")
    return weight
