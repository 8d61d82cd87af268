"""Every recipe by name: what photos are indexed with for it, and the pipeline that searches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

from resight.errors import UsageError
from resight.extras import needed
from resight.features.extraction import Blend, Describer
from resight.features.global_descriptor import GlobalDescriptor
from resight.features.local.encoders import MODEL_FILES, find_kind, kind_key
from resight.matching.matchers import MatchSettings
from resight.ranking.pipeline import Pipeline
from resight.ranking.search import Describe
from resight.recipes import graph, learned, regions, verified
from resight.recipes.local import classic, found_and_proven, hybrid, reranked, usual_weights
from resight.recipes.options import check_options, check_values, options_of
from resight.recipes.resources import Resources
from resight.recipes.settings import GlobalSettings, IndexSettings, LocalSettings, pooling
from resight.recipes.vectors import vectors
from resight.types import Int64


@dataclass(frozen=True)
class Recipe:
    """`build`: resources, allowed rows and options to a pipeline. `features`: the kinds of local features, and
    `vector`: the settings of the global descriptor, that photos are indexed with unless they are told otherwise;
    neither for a recipe that searches what others indexed. `backbone`: any network will do. `published`: the name of a
    trained network whose weights can be given, `network` its recipe where that is another. `descriptors`: it searches
    by global descriptors. `alone`: of several kinds of local features one finds, the others prove. `needs`: the
    parts of a collection that it cannot do without, by the names of `resight.collection.snapshot.Snapshot.holds`.
    """

    build: Callable[..., Pipeline]
    features: tuple[str, ...] = ()
    vector: GlobalSettings | None = None
    backbone: bool = True
    published: bool = False
    descriptors: bool = True
    alone: bool = False
    network: str = ""
    needs: tuple[str, ...] = ("database",)

    @property
    def others(self) -> bool:
        """Whether it needs more than descriptors and graphs over them, so that a file of descriptors is not enough."""
        return self.indexes or not {"database", "graph", "offline"}.issuperset(self.needs)

    @property
    def verifies(self) -> bool:
        """Whether it needs local features."""
        return "verifier" in self.needs

    @property
    def taught(self) -> bool:
        """Whether it searches with what was fitted to a collection by hand."""
        return not {"training", "separated", "similarity"}.isdisjoint(self.needs)

    @property
    def regions(self) -> bool:
        """Whether it needs regions of activation maps."""
        return "regions" in self.needs

    @property
    def indexes(self) -> bool:
        """Whether photos can be indexed with it."""
        return bool(self.features) or self.vector is not None


def _of_descriptors(build: Callable[..., Pipeline], *needs: str) -> Recipe:
    return Recipe(build, needs=("database", *needs))


def _of_one_kind(features: str) -> Recipe:
    return Recipe(found_and_proven, (features,), descriptors=False, alone=True, needs=("index", "verifier"))


RECIPES: Mapping[str, Recipe] = {
    "classic": Recipe(classic, ("rootsift",), descriptors=False, needs=("index", "verifier")),
    "how": _of_one_kind("how"),
    "fire": _of_one_kind("fire"),
    "gem": Recipe(vectors, vector=GlobalSettings(), published=True),
    "rmac": Recipe(vectors, vector=GlobalSettings(pool="rmac"), published=True),
    "ap-gem": Recipe(vectors, vector=GlobalSettings(), backbone=False, published=True),
    "solar": Recipe(vectors, vector=GlobalSettings(), backbone=False, published=True),
    "delg": Recipe(vectors, vector=GlobalSettings(), backbone=False, published=True),
    "frozen": Recipe(vectors, vector=GlobalSettings(pool="class-token")),
    "hybrid": Recipe(
        hybrid,
        ("rootsift",),
        GlobalSettings(scales=(1.0, math.sqrt(2)), whiten="zca"),
        needs=("index", "verifier", "database"),
    ),
    "delg-reranked": Recipe(
        reranked,
        ("delg",),
        GlobalSettings(),
        backbone=False,
        published=True,
        network="delg",
        needs=("verifier", "database"),
    ),
    "alpha-expansion": _of_descriptors(graph.alpha_expansion),
    "verified-expansion": _of_descriptors(graph.verified_expansion, "verifier"),
    "explore-exploit": _of_descriptors(graph.explore_exploit, "graph"),
    "semi-supervised": _of_descriptors(graph.semi_supervised, "training", "graph"),
    "diffusion": _of_descriptors(graph.diffusion, "graph"),
    "offline-diffusion": _of_descriptors(graph.offline_diffusion, "offline"),
    "spectral-ranking": _of_descriptors(graph.spectral_ranking, "graph"),
    "hybrid-diffusion": _of_descriptors(graph.hybrid_diffusion, "graph"),
    "manifold-embedding": _of_descriptors(graph.manifold_embedding),
    "k-reciprocal": _of_descriptors(graph.k_reciprocal),
    "super-global": _of_descriptors(graph.super_global),
    "alpha-expansion-verified": _of_descriptors(verified.alpha_expansion_verified, "verifier"),
    "verified-diffusion": _of_descriptors(verified.verified_diffusion, "index", "verifier", "graph"),
    "deep-spatial": _of_descriptors(regions.deep_spatial, "regions"),
    "deep-spatial-diffusion": _of_descriptors(regions.deep_spatial_diffusion, "regions", "graph"),
    "landmark2019": _of_descriptors(graph.landmark2019, "verifier", "verified_graph", "graph"),
    "separation": _of_descriptors(learned.separation, "separated"),
    "deep-similarity": _of_descriptors(learned.deep_similarity, "similarity"),
}
FEATURES: Any = str | tuple[str, ...] | None  # the type of setting `features`
VECTOR = "vector"  # what settings of the global descriptor alone begin with
INDEXING = tuple(name for name, recipe in RECIPES.items() if recipe.indexes)
DEFAULT = INDEXING[0]


@dataclass(frozen=True)
class Settings:
    """What a collection keeps of a photo: `kinds` of local features, the one that localises best first, which
    verifies; a `vector`; or both.
    """

    recipe: str
    kinds: tuple[LocalSettings, ...]
    vector: GlobalSettings | None

    @property
    def local(self) -> LocalSettings | None:
        """The kind that verifies, None without local features."""
        return self.kinds[0] if self.kinds else None

    @property
    def further(self) -> tuple[str, ...]:
        """Keys of the other kinds."""
        return tuple(kind.key for kind in self.kinds[1:])

    @property
    def max_side(self) -> int:
        """Pixels that the longer side of a photo is brought to when it is decoded: what the largest part needs."""
        return max(part.max_side for part in (*self.kinds, self.vector) if part is not None)

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
    return next(n for n, one in kept if one.vector and one.backbone and bool(one.features) == recipe.verifies)


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


def local_weights(name: str, kinds: Iterable[str]) -> dict[str, float]:
    """What each of `kinds` of local features (keys, the one that verifies first) is worth in recipe `name`, unless
    other weights were learned."""
    return usual_weights(kinds, alone=find_recipe(name).alone)


def settings_of(name: str, parameters: Mapping[str, Any]) -> Settings:
    """The settings of recipe `name` with `parameters` in place of its defaults.

    `features` names the kinds of local features, in a recipe that has some. All other parameters are fields of the
    settings of its parts: `count` counts for every part that has one, `how.count` for kind how alone, `vector.scales`
    for the global descriptor. Raises `UsageError` on a recipe that photos cannot be indexed with, an unknown kind or
    parameter, and a value of the wrong type or range.
    """
    if name not in INDEXING:
        raise UsageError(f"recipe {name!r} cannot index photos: choose one of {', '.join(INDEXING)}")
    recipe = RECIPES[name]
    names = chosen_features(recipe.features, parameters)
    parts: dict[str, tuple[Any, ...]] = {
        kind: (find_kind(kind).load()(), IndexSettings(), MatchSettings()) for kind in names
    }
    if recipe.vector is not None:
        parts[VECTOR] = (recipe.vector,)
    known = {"features": ",".join(names)} if recipe.features else {}
    _check_parameters(name, parameters, parts, known)
    made = {part: tuple(_with(one, part, parameters) for one in defaults) for part, defaults in parts.items()}
    kinds = sorted(names, key=lambda kind: find_kind(kind).cell)  # stable: among equals the first named verifies
    keys = [kind_key(kind) if place else "" for place, kind in enumerate(kinds)]
    local = []
    for kind, key in zip(kinds, keys, strict=True):
        encoding, indexing, matching = made[kind]
        local.append(LocalSettings(kind, encoding, indexing, key, matching))
    return Settings(name, tuple(local), made[VECTOR][0] if recipe.vector is not None else None)


def chosen_features(usual: tuple[str, ...], parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """The kinds that `parameters` ask for, else the `usual` ones. Raises `UsageError` for unknown and repeated ones."""
    if not usual:
        return ()
    asked = parameters.get("features")
    check_values("the recipe", {"features": asked}, {"features": ",".join(usual)}, {"features": FEATURES})
    names = usual if asked is None else asked
    listed = [part.strip() for part in names.split(",")] if isinstance(names, str) else list(names)
    for kind in listed:
        find_kind(kind)
    if not listed or len(set(listed)) < len(listed):
        raise UsageError(f"features={','.join(map(str, listed))}: name at least one kind, and each once")
    return tuple(listed)


def setting_names(name: str, parameters: Mapping[str, Any]) -> set[str]:
    """The names of all settings that recipe `name` can be indexed with."""
    recipe = RECIPES[name]
    parts = [
        [find_kind(kind).load(), IndexSettings, MatchSettings] for kind in chosen_features(recipe.features, parameters)
    ]
    named = dict(zip(chosen_features(recipe.features, parameters), parts, strict=True))
    if recipe.vector is not None:
        named[VECTOR] = [GlobalSettings]
    every = {(part, one.name) for part, kinds in named.items() for kind in kinds for one in fields(kind)}
    return {"features", *(field for _, field in every), *(f"{part}.{field}" for part, field in every)}


def _check_parameters(
    name: str, parameters: Mapping[str, Any], parts: Mapping[str, tuple[Any, ...]], known: dict[str, Any]
) -> None:
    """Raises `UsageError` for a parameter that no part has, and a value that the type of a part's field excludes."""
    hints: dict[str, Any] = dict.fromkeys(known, FEATURES)
    defaults = dict(known)
    for part, ones in parts.items():
        for one in ones:
            kinds = get_type_hints(type(one))
            for field in fields(one):
                defaults.setdefault(field.name, getattr(one, field.name))
                hints.setdefault(field.name, kinds[field.name])
                defaults[f"{part}.{field.name}"] = getattr(one, field.name)
                hints[f"{part}.{field.name}"] = kinds[field.name]
    check_values(f"recipe {name}", parameters, defaults, hints)


def open_descriptor(name: str, settings: GlobalSettings) -> Describer:
    """The network of `settings`, opened, or both of a blend. Raises `UsageError` when that cannot be done."""
    recipe = RECIPES[name]
    if not (settings.weights or settings.backbone):
        raise UsageError(f"recipe {name} needs a network: give {_ways(recipe)}")
    if settings.backbone and not recipe.backbone:
        raise UsageError(f"recipe {name} is a trained network, not a backbone: give its checkpoint with --weights")
    if settings.weights:
        first = _published(settings.weights, settings, (recipe.network or name) if recipe.published else None)
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
    with needed("a published checkpoint"):
        from resight.features.checkpoints.descriptor import load_descriptor

    return load_descriptor(path, recipe=recipe, scales=settings.scales or None, max_side=settings.max_side)


def _pooled(path: str, settings: GlobalSettings) -> GlobalDescriptor:
    """The pooled maps of a backbone."""
    from resight.features.networks.open import open_backbone

    backbone = open_backbone(path)
    pool, pooled = pooling(settings, backbone.output)
    return GlobalDescriptor(backbone, pool, pooled, scales=settings.scales or (1.0,), max_side=settings.max_side)


def names_model(parameter: str) -> bool:
    """Whether a parameter, such as `backbone` or `how.weights`, names a file of a network."""
    return parameter.rpartition(".")[2] in MODEL_FILES


def with_absolute_paths(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`parameters`, those that name files of networks made absolute, so that they hold in every working folder."""
    named = {k: v for k, v in parameters.items() if names_model(k) and isinstance(v, str) and v}
    return {**parameters, **{key: str(Path(value).expanduser().absolute()) for key, value in named.items()}}


def _ways(recipe: Recipe) -> str:
    ways = ["--backbone FILE.onnx"] * recipe.backbone + ["--weights CHECKPOINT"] * recipe.published
    return " or ".join(ways)


def _with(part: Any, name: str, parameters: Mapping[str, Any]) -> Any:
    """`part`, the settings of part `name`, with the parameters that are meant for it."""
    own: dict[str, Any] = {}
    for field in fields(part):
        for key in (field.name, f"{name}.{field.name}"):
            if key in parameters:
                own[field.name] = parameters[key]
    own = {key: tuple(value) if isinstance(value, list) else value for key, value in own.items()}
    if "scales" in own:
        own["scales"] = tuple(float(scale) for scale in own["scales"])
    return replace(part, **own)
