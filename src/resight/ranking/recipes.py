"""Recipes: functions that put stages together. Their keyword arguments are their configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from resight.errors import UsageError
from resight.features.local_features import RootSift
from resight.index.asmk import Asmk, Codebook
from resight.ranking.confidence import Confidence
from resight.ranking.hamming import HammingExpansion
from resight.ranking.pipeline import Pipeline
from resight.ranking.search import AsmkSearch
from resight.ranking.verification import SpatialRerank, Verifier
from resight.types import Int64


@dataclass(frozen=True, eq=False)
class Resources:
    """What a collection offers to a recipe: its index, access to its photos' features, and its calibration."""

    index: Asmk
    verifier: Verifier
    confidence: Confidence


def classic(
    resources: Resources, *, verify: int = 100, sources: int = 10, expand: bool = True, allowed: Int64 | None = None
) -> Pipeline:
    """RootSIFT, ASMK, spatial verification of the first `verify`, Hamming query expansion with `sources` verified
    photos, and verification of what that brought up. `allowed`: rows that may be returned, ascending; None for all.
    """
    index, verifier, confidence = resources.index, resources.verifier, resources.confidence
    rerank = SpatialRerank(verifier, confidence, verify)
    search = Pipeline((AsmkSearch(index, allowed), rerank))
    if not expand:
        return search
    expansion = HammingExpansion(index, verifier, sources, verify, allowed=allowed)
    return Pipeline((*search.stages, expansion, rerank))


@dataclass(frozen=True)
class ClassicSettings:
    """How recipe `classic` extracts and indexes; kept in the collection's stamp.

    `count`, `max_side`, `enlarge_below`, `contrast`: of `RootSift`. `words`: size of the codebook, None to follow the
    size of the collection. `binary`: compact signatures instead of full precision. `query_multiple`: words per
    descriptor of a query.
    """

    count: int = 1000
    max_side: int = 1024
    enlarge_below: int = 512
    contrast: float = 0.01
    words: int | None = None
    binary: bool = True
    query_multiple: int = 5

    @property
    def encoder(self) -> RootSift:
        """The extractor of local features."""
        return RootSift(self.count, self.max_side, self.enlarge_below, self.contrast)

    def index(self, codebook: Codebook) -> Asmk:
        """An empty index over `codebook`."""
        return Asmk(codebook, binary=self.binary, query_multiple=self.query_multiple)


RECIPES = {"classic": ClassicSettings}


def settings_of(recipe: str, parameters: Mapping[str, Any]) -> ClassicSettings:
    """The settings of `recipe` with `parameters` in place of its defaults.

    Raises `UsageError` on an unknown recipe or parameter, and on a value of the wrong type or range.
    """
    if recipe not in RECIPES:
        raise UsageError(f"recipe {recipe!r} is unknown: choose one of {', '.join(RECIPES)}")
    known = {field.name: field for field in fields(RECIPES[recipe])}
    for name, value in parameters.items():
        if name not in known:
            raise UsageError(f"recipe {recipe} has no setting {name!r}: it has {', '.join(known)}")
        _check_type(name, value, getattr(ClassicSettings(), name))
    settings = RECIPES[recipe](**parameters)
    if settings.words is not None and settings.words < 1:
        raise UsageError(f"words={settings.words}: a codebook needs at least one word")
    if settings.query_multiple < 1:
        raise UsageError(f"query_multiple={settings.query_multiple}: a descriptor needs at least one word")
    _ = settings.encoder  # checks the rest
    return settings


def _check_type(name: str, value: Any, default: Any) -> None:
    """Booleans stay booleans, whole numbers whole; a number setting without a default may also be None."""
    kinds = {bool: (bool,), int: (int,), float: (int, float), type(None): (int, type(None))}[type(default)]
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds != (bool,)):
        raise UsageError(f"{name}={value!r} is not of the right kind: its default is {default!r}")
