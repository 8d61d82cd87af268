"""Recipes in which geometry orders what descriptors found, or descriptors spread what geometry proved."""

from __future__ import annotations

from resight.ranking.diffusion_stages import Diffusion
from resight.ranking.expansion_stages import QueryExpansion
from resight.ranking.pipeline import Pipeline
from resight.ranking.search import AsmkSearch, Filter, GlobalSearch
from resight.ranking.verification import SpatialRerank
from resight.recipes.options import check_verify
from resight.recipes.resources import (
    GAMMA,
    Resources,
    need_database,
    need_index,
    need_verifier,
    normalised_graph,
)
from resight.types import Int64


def alpha_expansion_verified(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    n: int = 10,
    alpha: float = 3.0,
    verify: int = 100,
    strict: bool = True,
) -> Pipeline:
    """Alpha query expansion, and the first `verify` of its results ordered by the inliers of local features (aQE + SV;
    Radenovic et al., TPAMI 2019; Noh et al., ICCV 2017). `strict` False: inliers count beside the similarity. Online.
    """
    check_verify(verify)
    database, verifier = need_database(resources), need_verifier(resources)
    found = GlobalSearch(database.index) >> QueryExpansion(database, n, alpha)
    found = found if allowed is None else found >> Filter(allowed)
    return found >> SpatialRerank(verifier, resources.vector_confidence, verify, strict)


def verified_diffusion(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    verify: int = 100,
    k: int = 49,
    seeds: int = 10,
    alpha: float = 0.99,
    iterations: int = 20,
    limit: int | None = 1000,
) -> Pipeline:
    """ASMK over local features, the first `verify` ordered by their inliers, and diffusion of global descriptors from
    the `seeds` best of these (HessAff-ASMK*-SV + DFS; Radenovic et al., CVPR 2018). Transductive.
    """
    check_verify(verify)
    index, verifier, database = need_index(resources), need_verifier(resources), need_database(resources)
    normalised = normalised_graph(resources, k)
    proven = AsmkSearch(index) >> SpatialRerank(verifier, resources.confidence, verify, strict=True)
    if allowed is None:
        return proven >> Diffusion(database, normalised, seeds, GAMMA, alpha, iterations, limit)
    found: Pipeline = proven >> Diffusion(database, normalised, seeds, GAMMA, alpha, iterations, None)
    found = found >> Filter(allowed)
    return found if limit is None else found % limit
