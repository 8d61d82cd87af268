"""Recipes: functions that put stages together. Their keyword arguments are their configuration.

Which features a recipe needs is said in `resight.recipes.settings`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from resight.errors import UsageError
from resight.index.asmk import Asmk
from resight.ranking.confidence import UNKNOWN, Confidence
from resight.ranking.hamming import HammingExpansion
from resight.ranking.pipeline import Fusion, Pipeline
from resight.ranking.search import Anew, AsmkSearch, GlobalSearch, Standardised, VectorIndex
from resight.ranking.verification import SpatialRerank, Verifier
from resight.types import Int64, Stage

T = TypeVar("T")
WEIGHT = 2.0  # of the global descriptor in recipe hybrid
SUMS = UNKNOWN  # sums of standardised similarities are in standard deviations already


@dataclass(frozen=True, eq=False)
class Resources:
    """What a collection offers to a recipe; a part that its recipe does not keep is None.

    `index` and `vectors`: of local features and of global descriptors. `verifier`: access to the photos' local
    features. `confidence` and `vector_confidence`: what unrelated photos score by each.
    """

    verifier: Verifier
    confidence: Confidence
    index: Asmk | None = None
    vectors: VectorIndex | None = None
    vector_confidence: Confidence | None = None


def classic(
    resources: Resources,
    *,
    verify: int = 100,
    sources: int = 10,
    expand: bool = True,
    strict: bool = False,
    allowed: Int64 | None = None,
) -> Pipeline:
    """RootSIFT, ASMK, spatial verification of the first `verify`, Hamming query expansion with `sources` verified
    photos, and verification of what that brought up. `strict`: order the verified ones by their inliers alone.
    `allowed`: rows that may be returned, ascending; None for all.
    """
    index = _need(resources.index)
    rerank = SpatialRerank(resources.verifier, resources.confidence, verify, strict)
    search = Pipeline((AsmkSearch(index, allowed), rerank))
    if not expand:
        return search
    expansion = HammingExpansion(index, resources.verifier, sources, verify, allowed=allowed)
    return Pipeline((*search.stages, expansion, rerank))


def vectors(resources: Resources, *, allowed: Int64 | None = None) -> Pipeline:
    """Nearest neighbours of one global descriptor: recipes gem, rmac, ap-gem, solar, delg, frozen."""
    return Pipeline((GlobalSearch(_need(resources.vectors), _need(resources.vector_confidence), allowed),))


def hybrid(
    resources: Resources,
    *,
    weight: float = WEIGHT,
    verify: int = 100,
    sources: int = 10,
    expand: bool = True,
    strict: bool = False,
    allowed: Int64 | None = None,
) -> Pipeline:
    """`classic`, with the similarity of a global descriptor added to that of the local features before verification.

    Both are in standard deviations above unrelated photos; `weight`: what one of the global descriptor is worth.
    """
    index = _need(resources.index)
    whole = GlobalSearch(_need(resources.vectors), _need(resources.vector_confidence), allowed)
    local = Standardised(resources.confidence)
    rerank = SpatialRerank(resources.verifier, SUMS, verify, strict)
    search = Pipeline((_sum(Pipeline((AsmkSearch(index, allowed), local)), weight, whole), rerank))
    if not expand:
        return search
    expansion = HammingExpansion(index, resources.verifier, sources, verify, allowed=allowed)
    return Pipeline((*search.stages, _sum(Pipeline((expansion, local)), weight, Anew(whole)), rerank))


def _sum(local: Stage, weight: float, whole: Stage) -> Fusion:
    if not (np.isfinite(weight) and weight >= 0):
        raise UsageError(f"weight={weight}: the global descriptor counts with 0 or more")
    return Fusion(((1.0, local), (weight, whole)))


def _need(part: T | None) -> T:
    if part is None:
        raise UsageError("this collection was not made for the recipe: its features are missing")
    return part


def call_recipe(name: str, recipe: Callable[..., Pipeline], what: Any, options: Mapping[str, Any]) -> Pipeline:
    """`recipe(what, **options)`. Raises `UsageError`, naming the options there are, for one that the recipe lacks."""
    parameters = inspect.signature(recipe).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    if unknown := [option for option in options if option not in known]:
        public = ", ".join(option for option in known if option != "allowed")
        raise UsageError(f"recipe {name} has no option {unknown[0]!r}: it has {public or 'none'}")
    return recipe(what, **options)


PIPELINES: dict[str, Callable[..., Pipeline]] = {"classic": classic, "hybrid": hybrid}
