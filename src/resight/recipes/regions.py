"""Recipes over regions of activation maps (Siméoni, Avrithis, Chum, CVPR 2019)."""

from __future__ import annotations

from typing import Any

from resight.errors import UsageError
from resight.features.global_descriptor import GlobalDescriptor
from resight.features.networks.backbone import Backbone
from resight.images.decode import decode
from resight.images.transform import decode_crop
from resight.matching.deep_spatial import DeepRegions, describe
from resight.ranking.deep_spatial import DeepSpatialDiffusion, DeepSpatialRerank, DescribeRegions
from resight.ranking.pipeline import Pipeline
from resight.ranking.search import Filter, GlobalSearch
from resight.recipes.options import check_verify
from resight.recipes.resources import GAMMA, Resources, need_database, need_regions, normalised_graph
from resight.types import Box, Int64


def deep_spatial(resources: Resources, allowed: Int64 | None = None, *, verify: int = 100) -> Pipeline:
    """Search, and order the first `verify` by deep spatial matching, DSM: regions of activation maps that one view
    carries over. Online; needs the regions of `verify` photos.
    """
    check_verify(verify)
    regions, of_query = need_regions(resources)
    search = GlobalSearch(need_database(resources).index, resources.vector_confidence, allowed)
    return search >> DescribeRegions(of_query, DeepSpatialRerank(regions, verify))


def deep_spatial_diffusion(
    resources: Resources,
    allowed: Int64 | None = None,
    *,
    verify: int = 100,
    k: int = 49,
    seeds: int = 5,
    alpha: float = 0.99,
    iterations: int = 20,
    faithful: bool = False,
    limit: int | None = 1000,
) -> Pipeline:
    """Diffusion from the `seeds` of the first `verify` with the most inliers of deep spatial matching, DSM + DFS;
    `faithful`: from one less, as the published program. Transductive.
    """
    check_verify(verify)
    regions, of_query = need_regions(resources)
    database, normalised = need_database(resources), normalised_graph(resources, k, GAMMA)
    stage = DeepSpatialDiffusion(
        database,
        normalised,
        regions,
        verify,
        seeds,
        faithful,
        alpha,
        iterations,
        None if allowed is not None else limit,
    )
    found: Pipeline = GlobalSearch(database.index) >> DescribeRegions(of_query, stage)
    if allowed is None:
        return found
    found = found >> Filter(allowed)
    return found if limit is None else found % limit


def maps_of(network: Any) -> Backbone:
    """The backbone whose maps have regions. Raises `UsageError` for a blend, and a network that gives no maps."""
    if not isinstance(network, GlobalDescriptor) or network.backbone.output != "maps":
        raise UsageError(
            "for deep spatial matching a collection needs one network that gives maps: index the photos with recipe gem"
        )
    return network.backbone


def query_regions(backbone: Backbone, max_side: int, path: str, box: Box | None) -> DeepRegions:
    """The regions of a query photo, or of the part of it in `box`. Raises `ImageError` when it cannot be read."""
    decoded = decode(path, max_side=max_side) if box is None else decode_crop(path, box, max_side=max_side)
    return describe(backbone, decoded.pixels, query=True, max_side=max_side)
