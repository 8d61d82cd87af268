"""Every recipe by name: what photos are indexed with for it, and the pipeline that searches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

from resight.errors import UsageError
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
    by global descriptors. `others`: it needs more than these, so that a file of descriptors is not enough. `needs`:
    the parts of a collection that it cannot do without, by the names of `resight.collection.snapshot.Snapshot.holds`.
    """

    build: Callable[..., Pipeline]
    local: LocalSettings | None = None
    vector: GlobalSettings | None = None
    backbone: bool = True
    published: bool = False
    descriptors: bool = True
    others: bool = True
    needs: tuple[str, ...] = ("database",)

    @property
    def indexes(self) -> bool:
        """Whether photos can be indexed with it."""
        return self.local is not None or self.vector is not None


def _of_descriptors(build: Callable[..., Pipeline], *needs: str, others: bool = False) -> Recipe:
    return Recipe(build, others=others, needs=("database", *needs))


RECIPES: Mapping[str, Recipe] = {
    "classic": Recipe(classic, local=LocalSettings(), descriptors=False, needs=("index", "verifier")),
    "gem": Recipe(vectors, vector=GlobalSettings(), published=True),
    "rmac": Recipe(vectors, vector=GlobalSettings(pool="rmac"), published=True),
    "ap-gem": Recipe(vectors, vector=GlobalSettings(), backbone=False, published=True),
    "solar": Recipe(vectors, vector=GlobalSettings(), backbone=False, published=True),
    "delg": Recipe(vectors, vector=GlobalSettings(), backbone=False, published=True),
    "frozen": Recipe(vectors, vector=GlobalSettings(pool="class-token")),
    "hybrid": Recipe(
        hybrid,
        LocalSettings(),
        GlobalSettings(scales=(1.0, math.sqrt(2)), whiten="zca"),
        needs=("index", "verifier", "database"),
    ),
    "alpha-expansion": _of_descriptors(graph.alpha_expansion),
    "verified-expansion": _of_descriptors(graph.verified_expansion, "verifier", others=True),
    "explore-exploit": _of_descriptors(graph.explore_exploit, "graph"),
    "semi-supervised": _of_descriptors(graph.semi_supervised, "training", "graph", others=True),
    "diffusion": _of_descriptors(graph.diffusion, "graph"),
    "offline-diffusion": _of_descriptors(graph.offline_diffusion, "offline"),
    "spectral-ranking": _of_descriptors(graph.spectral_ranking, "graph"),
    "hybrid-diffusion": _of_descriptors(graph.hybrid_diffusion, "graph"),
    "manifold-embedding": _of_descriptors(graph.manifold_embedding),
    "k-reciprocal": _of_descriptors(graph.k_reciprocal),
    "super-global": _of_descriptors(graph.super_global),
    "landmark2019": _of_descriptors(graph.landmark2019, "verifier", "verified_graph", "graph", others=True),
    "separation": _of_descriptors(learned.separation, "separated", others=True),
    "deep-similarity": _of_descriptors(learned.deep_similarity, "similarity", others=True),
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
    def descriptor(self) -> GlobalDescriptor | None:
        """The network that makes the vectors, opened; None for a recipe without them.

        Raises `UsageError` when its file is missing, damaged or does not fit the recipe.
        """
        return None if self.vector is None else open_descriptor(self.recipe, self.vector)


def find_recipe(name: str) -> Recipe:
    """The recipe of this name. Raises `UsageError`, with all names, when there is none."""
    if name not in RECIPES:
        raise UsageError(f"recipe {name!r} is unknown: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


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


def open_descriptor(name: str, settings: GlobalSettings) -> GlobalDescriptor:
    """The network of `settings`, opened. Raises `UsageError` when that cannot be done."""
    recipe = RECIPES[name]
    if settings.weights:
        from resight.features.checkpoints import load_descriptor

        return load_descriptor(
            settings.weights,
            recipe=name if recipe.published else None,
            scales=settings.scales or None,
            max_side=settings.max_side,
        )
    if not settings.backbone:
        raise UsageError(f"recipe {name} needs a network: give {_ways(recipe)}")
    if not recipe.backbone:
        raise UsageError(f"recipe {name} is a trained network, not a backbone: give its checkpoint with --weights")
    from resight.features.networks.open import open_backbone

    backbone = open_backbone(settings.backbone)
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
