"""Every recipe by name: what photos are indexed with for it, and the pipeline that searches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

from resight.errors import UsageError
from resight.features.extraction import Blend, Describer
from resight.features.global_descriptor import GlobalDescriptor
from resight.ranking.pipeline import Pipeline
from resight.ranking.search import Describe
from resight.recipes import graph, learned
from resight.recipes.local import classic, hybrid
from resight.recipes.options import check_options, check_values, options_of
from resight.recipes.resources import Resources
from resight.recipes.settings import MODEL_FILES, GlobalSettings, LocalSettings, pooling
from resight.recipes.vectors import vectors
from resight.types import Int64


@dataclass(frozen=True)
class Recipe:
    """`build`: resources, allowed rows and options to a pipeline. `local` and `vector`: default settings of the
    features that photos are indexed with; both None for a recipe that searches what others indexed. `backbone`: any
    network will do. `published`: the name of a trained network whose weights can be given. `descriptors`: it searches
    by global descriptors. `others`: it needs more than these, so that a file of descriptors is not enough. `verifies`:
    it needs local features beside them. `taught`: it searches with what was fitted to a collection by hand.
    """

    build: Callable[..., Pipeline]
    local: LocalSettings | None = None
    vector: GlobalSettings | None = None
    backbone: bool = True
    published: bool = False
    descriptors: bool = True
    others: bool = True
    verifies: bool = False
    taught: bool = False

    @property
    def indexes(self) -> bool:
        """Whether photos can be indexed with it."""
        return self.local is not None or self.vector is not None


def _of_descriptors(build: Callable[..., Pipeline]) -> Recipe:
    return Recipe(build, others=False)


def _verifying(build: Callable[..., Pipeline]) -> Recipe:
    return Recipe(build, verifies=True)


def _taught(build: Callable[..., Pipeline]) -> Recipe:
    return Recipe(build, taught=True)


RECIPES: Mapping[str, Recipe] = {
    "classic": Recipe(classic, local=LocalSettings(), descriptors=False),
    "gem": Recipe(vectors, vector=GlobalSettings(), published=True),
    "rmac": Recipe(vectors, vector=GlobalSettings(pool="rmac"), published=True),
    "ap-gem": Recipe(vectors, vector=GlobalSettings(), backbone=False, published=True),
    "solar": Recipe(vectors, vector=GlobalSettings(), backbone=False, published=True),
    "delg": Recipe(vectors, vector=GlobalSettings(), backbone=False, published=True),
    "frozen": Recipe(vectors, vector=GlobalSettings(pool="class-token")),
    "hybrid": Recipe(hybrid, LocalSettings(), GlobalSettings(scales=(1.0, math.sqrt(2)), whiten="zca")),
    "alpha-expansion": _of_descriptors(graph.alpha_expansion),
    "verified-expansion": _verifying(graph.verified_expansion),
    "explore-exploit": _of_descriptors(graph.explore_exploit),
    "semi-supervised": _taught(graph.semi_supervised),
    "diffusion": _of_descriptors(graph.diffusion),
    "offline-diffusion": _of_descriptors(graph.offline_diffusion),
    "spectral-ranking": _of_descriptors(graph.spectral_ranking),
    "hybrid-diffusion": _of_descriptors(graph.hybrid_diffusion),
    "manifold-embedding": _of_descriptors(graph.manifold_embedding),
    "k-reciprocal": _of_descriptors(graph.k_reciprocal),
    "super-global": _of_descriptors(graph.super_global),
    "landmark2019": _verifying(graph.landmark2019),
    "separation": _taught(learned.separation),
    "deep-similarity": _taught(learned.deep_similarity),
}
INDEXING = tuple(name for name, recipe in RECIPES.items() if recipe.indexes)
DEFAULT = INDEXING[0]


@dataclass(frozen=True)
class Settings:
    """What a collection keeps of a photo: `local` features, one `vector`, or both."""

    recipe: str
    local: LocalSettings | None
    vector: GlobalSettings | None

    @property
    def max_side(self) -> int:
        """Pixels that the longer side of a photo is brought to when it is decoded."""
        part = self.local or self.vector
        assert part is not None
        return part.max_side

    @cached_property
    def descriptor(self) -> Describer | None:
        """The network that makes the vectors, or the two of a blend, opened; None for a recipe without them.

        Raises `UsageError` when its file is missing, damaged or does not fit the recipe.
        """
        return None if self.vector is None else open_descriptor(self.recipe, self.vector)


def find_recipe(name: str) -> Recipe:
    """The recipe of this name. Raises `UsageError`, with all names, when there is none."""
    if name not in RECIPES:
        raise UsageError(f"recipe {name!r} is unknown: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


def indexed_with(name: str) -> str:
    """What photos are usually indexed with for recipe `name`: itself, or the first recipe that keeps what it needs."""
    recipe = find_recipe(name)
    if recipe.indexes:
        return name
    kept = ((known, RECIPES[known]) for known in INDEXING)
    return next(known for known, one in kept if one.vector and (one.local is not None) == recipe.verifies)


def check_recipe(name: str, options: Mapping[str, Any]) -> None:
    """Raises `UsageError` unless there is a recipe `name` that can be searched with these options."""
    check_options(name, find_recipe(name).build, options)


def search_options(name: str) -> Mapping[str, Any]:
    """The options of a search with recipe `name`, and their defaults."""
    return options_of(find_recipe(name).build)


def pipeline(name: str, resources: Resources, options: Mapping[str, Any], allowed: Int64 | None = None) -> Pipeline:
    """The stages of recipe `name` over `resources`; only rows in `allowed` (n,) ascending are returned.

    Raises `UsageError` for an unknown recipe, a wrong option, and when `resources` lack what the recipe needs.
    """
    check_recipe(name, options)
    recipe = find_recipe(name)
    stages = recipe.build(resources, allowed, **options)
    if recipe.descriptors and resources.describe is not None:
        return Pipeline((Describe(resources.describe, stages),))
    return stages


def settings_of(name: str, parameters: Mapping[str, Any]) -> Settings:
    """The settings of recipe `name` with `parameters` in place of its defaults.

    Raises `UsageError` on a recipe that photos cannot be indexed with, an unknown parameter, and a value of the wrong
    type or range.
    """
    if name not in INDEXING:
        raise UsageError(f"recipe {name!r} cannot index photos: choose one of {', '.join(INDEXING)}")
    recipe = RECIPES[name]
    parts = [part for part in (recipe.local, recipe.vector) if part is not None]
    defaults = {field.name: getattr(part, field.name) for part in parts for field in fields(part)}
    hints = {name: kind for part in parts for name, kind in get_type_hints(type(part)).items()}
    check_values(f"recipe {name}", parameters, defaults, hints)
    return Settings(name, _with(recipe.local, parameters), _with(recipe.vector, parameters))


def open_descriptor(name: str, settings: GlobalSettings) -> Describer:
    """The network of `settings`, opened, or both of a blend. Raises `UsageError` when that cannot be done."""
    recipe = RECIPES[name]
    if not (settings.weights or settings.backbone):
        raise UsageError(f"recipe {name} needs a network: give {_ways(recipe)}")
    if settings.backbone and not recipe.backbone:
        raise UsageError(f"recipe {name} is a trained network, not a backbone: give its checkpoint with --weights")
    if settings.weights:
        first = _published(settings.weights, settings, name if recipe.published else None)
    else:
        first = _pooled(settings.backbone, settings)
    if not settings.second:
        return first
    place = Path(settings.second).expanduser()
    exported = place.is_dir() or place.suffix.lower() == ".onnx"
    second = _pooled(settings.second, settings) if exported else _published(settings.second, settings, None)
    return Blend((first, second))


def _published(path: str, settings: GlobalSettings, recipe: str | None) -> GlobalDescriptor:
    """The descriptor of a checkpoint; without `recipe`, the one that it was made for."""
    from resight.features.checkpoints import load_descriptor

    return load_descriptor(path, recipe=recipe, scales=settings.scales or None, max_side=settings.max_side)


def _pooled(path: str, settings: GlobalSettings) -> GlobalDescriptor:
    """The pooled maps of a backbone."""
    from resight.features.networks.open import open_backbone

    backbone = open_backbone(path)
    pool, pooled = pooling(settings, backbone.output)
    return GlobalDescriptor(backbone, pool, pooled, scales=settings.scales or (1.0,), max_side=settings.max_side)


def with_absolute_paths(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`parameters`, those that name files of networks made absolute, so that they hold in every working folder."""
    named = {k: v for k, v in parameters.items() if k in MODEL_FILES and isinstance(v, str) and v}
    return {**parameters, **{key: str(Path(value).expanduser().absolute()) for key, value in named.items()}}


def _ways(recipe: Recipe) -> str:
    ways = ["--backbone FILE.onnx"] * recipe.backbone + ["--weights CHECKPOINT"] * recipe.published
    return " or ".join(ways)


def _with(part: Any, parameters: Mapping[str, Any]) -> Any:
    if part is None:
        return None
    names = {field.name for field in fields(part)}
    own = {name: tuple(v) if isinstance(v, list) else v for name, v in parameters.items() if name in names}
    if "scales" in own:
        own["scales"] = tuple(float(scale) for scale in own["scales"])
    return replace(part, **own)
