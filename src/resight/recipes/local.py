"""Recipes over local features of any kinds, alone or beside a global descriptor. Their keyword arguments are their
options.

Every kind, and the global descriptor, is searched by itself; their similarities, in standard deviations above unrelated
photos, are added with weights. The kind that localises best verifies what any of them found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from resight.errors import UsageError
from resight.ranking.confidence import UNKNOWN
from resight.ranking.hamming import HammingExpansion
from resight.ranking.nearest_rerank import NearestRerank
from resight.ranking.pipeline import Composable, Fusion, Pipeline
from resight.ranking.search import AsmkSearch, GlobalSearch, SearchAgain, Standardise
from resight.ranking.verification import VERIFIED, SpatialRerank, Verifier
from resight.recipes.options import check_verify
from resight.recipes.resources import Resources, need_index, need_kind, need_vectors, need_verifier
from resight.types import Int64

VECTOR = "vector"  # the global descriptor among the weights
WEIGHT = 2.0  # of the global descriptor beside local features
FURTHER = 1.0  # of every further kind of local features beside the one that verifies
SUMS = UNKNOWN  # sums of standardised similarities are in standard deviations already


def classic(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    parts: str | None = None,
    verify: int = VERIFIED,
    sources: int = 10,
    expand: bool = True,
    strict: bool = False,
) -> Pipeline:
    """ASMK over local features, RootSIFT unless others were indexed, spatial verification of the first `verify`,
    Hamming query expansion with `sources` verified photos, and verification of what that brought up. `strict`: order
    the verified ones by their inliers alone. `parts`: the weight of each of several kinds, as in `hybrid`. `allowed`:
    rows that may be returned, ascending; None for all.
    """
    usual = usual_weights(resources.kinds)
    return _local(resources, allowed, usual, parts, verify, sources, expand, strict)


def found_and_proven(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    parts: str | None = None,
    verify: int = VERIFIED,
    sources: int = 10,
    expand: bool = True,
    strict: bool = False,
) -> Pipeline:
    """One kind finds, ASMK over it alone, and where another kind is kept that localises better, that proves; else the
    one does both. Expansion and options as in `classic`.
    """
    usual = usual_weights(resources.kinds, alone=True)
    return _local(resources, allowed, usual, parts, verify, sources, expand, strict)


def reranked(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    verify: int = VERIFIED,
    distance: float = 0.9,
    tolerance: float = 20.0,
) -> Pipeline:
    """As DELG's authors search: nearest neighbours of the global descriptor, the first `verify` of them ordered by the
    inliers of an affine transform between local features. `distance`: of descriptors, beyond which features do not
    match; `tolerance`: pixels by which an inlier may be off. `allowed`: rows that may be returned.
    """
    check_verify(verify)
    search = GlobalSearch(need_vectors(resources), resources.vector_confidence, allowed)
    features = need_kind(resources, "").features
    return search >> NearestRerank(features, verify, distance, tolerance)


def hybrid(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    weight: float | None = None,
    parts: str | None = None,
    verify: int = VERIFIED,
    sources: int = 10,
    expand: bool = True,
    strict: bool = False,
) -> Pipeline:
    """`classic`, with the similarity of a global descriptor, and of every further kind of local features, added to that
    of the first kind before verification.

    All are in standard deviations above unrelated photos; `weight`: what one of the global descriptor is worth.
    `parts`: the weight of each of several parts, such as how=0.5,vector=2. What is not given is what `resight fit
    fusion` learned, else 2 for the global descriptor and 1 for a further kind.
    """
    usual = {**usual_weights(resources.kinds), VECTOR: WEIGHT}
    given = parts if weight is None else f"{VECTOR}={weight}" + ("" if parts is None else f",{parts}")
    need_vectors(resources)
    return _local(resources, allowed, usual, given, verify, sources, expand, strict)


def usual_weights(kinds: Iterable[str], *, alone: bool = False) -> dict[str, float]:
    """The weight of each of `kinds` (keys, the one that localises best first), unless something else was learned or is
    asked for. `alone`: the last one finds by itself.
    """
    keys = list(kinds)
    if alone:
        return {key: float(key == keys[-1]) for key in keys}
    return {key: FURTHER if place else 1.0 for place, key in enumerate(keys)}


def scoring(weights: Mapping[str, float]) -> str:
    """The kind whose scores others are added to, by key: the first that counts."""
    return next((key for key, weight in weights.items() if weight > 0 and key != VECTOR), "")


def chosen_weights(resources: Resources, usual: Mapping[str, float], given: str | None) -> dict[str, float]:
    """The `usual` weights, replaced by those that were learned, and these by those `given` as text.

    Raises `UsageError` on a part that the collection lacks, or weights that are no numbers of 0 or more.
    """
    weights = dict(usual)
    learned = resources.fusion_weights or {}
    if len(weights) > 1 and 0 not in usual.values():  # recipes that search by one kind alone do not fuse
        weights.update({key: weight for key, weight in learned.items() if key in weights})
    names = {**{name: key for key, name in resources.kinds.items()}, VECTOR: VECTOR}
    for part in filter(None, (given or "").split(",")):
        name, _, text = (piece.strip() for piece in part.partition("="))
        if names.get(name, VECTOR if name == VECTOR else None) not in weights:
            known = [name for name, key in names.items() if key in weights]
            raise UsageError(f"parts={given}: there is no part {name!r}, the parts are {', '.join(known)}")
        weights[names[name]] = _number(name, text)
    if not any(weight > 0 for weight in weights.values()):
        raise UsageError(f"parts={given}: at least one part must count")
    return weights


def _number(name: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError as error:
        raise UsageError(f"the weight of {name} is {text!r}: give a number, such as {name}=0.5") from error
    if not (np.isfinite(weight) and weight >= 0):
        raise UsageError(
            f"weight={weight}: {'the global descriptor' if name == VECTOR else name} counts with 0 or more"
        )
    return weight


def _local(
    resources: Resources,
    allowed: Int64 | None,
    usual: Mapping[str, float],
    given: str | None,
    verify: int,
    sources: int,
    expand: bool,
    strict: bool,
) -> Pipeline:
    """Searches, fused, verified, expanded, fused and verified again."""
    check_verify(verify)
    need_index(resources)
    verifier = need_verifier(resources)
    weights = chosen_weights(resources, usual, given)
    counted = {key: weight for key, weight in weights.items() if weight > 0}
    kinds = [key for key in counted if key != VECTOR]
    only = kinds[0] if len(counted) == 1 and kinds else None
    scale = SUMS if only is None else need_kind(resources, only).confidence
    rerank = SpatialRerank(verifier, scale, verify, strict)
    searches: dict[str, Composable] = {key: AsmkSearch(need_kind(resources, key).index, allowed, key) for key in kinds}
    if VECTOR in counted:
        searches[VECTOR] = GlobalSearch(need_vectors(resources), resources.vector_confidence, allowed)
    search = _fused(resources, searches, counted, only) >> rerank
    if not expand:
        return search
    again: dict[str, Composable] = {
        key: _expansion(resources, verifier, key, sources, verify, allowed) for key in kinds
    }
    if VECTOR in counted:
        again[VECTOR] = SearchAgain(searches[VECTOR])
    return search >> _fused(resources, again, counted, only) >> rerank


def _expansion(
    resources: Resources, verifier: Verifier, key: str, sources: int, verify: int, allowed: Int64 | None
) -> HammingExpansion:
    kind = need_kind(resources, key)
    return HammingExpansion(
        kind.index, verifier, sources, verify, allowed=allowed, kind=key, features=kind.features if key else None
    )


def _fused(
    resources: Resources, searches: Mapping[str, Composable], weights: Mapping[str, float], only: str | None
) -> Composable:
    """The one search as it is, or the weighted sum of several in standard deviations."""
    if only is not None:
        return searches[only]
    terms = []
    for key, search in searches.items():
        stage = search if key == VECTOR else search >> Standardise(need_kind(resources, key).confidence)
        terms.append((weights[key], stage))
    return Fusion(tuple(terms))
