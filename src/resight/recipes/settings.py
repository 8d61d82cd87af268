"""How a recipe describes photos: the settings that a collection is made with and keeps in its stamp."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from typing import Any

from resight.errors import UsageError
from resight.features.global_descriptor import GlobalDescriptor
from resight.features.local.encoders import open_encoder
from resight.features.pooling import class_token, gem, mac, rmac, smooth_regional_gem, spoc
from resight.index.asmk import Asmk, Codebook
from resight.types import Encoder

MODEL_FILES = ("backbone", "weights")  # settings that name a file
WHITENINGS = ("none", "pca", "zca")
POOLS = ("gem", "mac", "spoc", "rmac", "regional-gem", "class-token")
CHECKPOINT_RECIPES = ("rmac", "gem", "ap-gem", "solar", "delg")  # those with published weights for torch


@dataclass(frozen=True)
class ClassicSettings:
    """How recipe `classic` extracts and indexes local features.

    `count`, `max_side`, `enlarge_below`, `contrast`: of `RootSift`. `words`: size of the codebook, None to follow the
    size of the collection. `binary`: compact signatures instead of full precision. `query_multiple`: words per
    descriptor of a query. `idf`: words weigh by their inverse document frequency.
    """

    count: int = 1000
    max_side: int = 1024
    enlarge_below: int = 512
    contrast: float = 0.01
    words: int | None = None
    binary: bool = True
    query_multiple: int = 5
    idf: bool = False

    def __post_init__(self) -> None:
        if self.words is not None and self.words < 1:
            raise UsageError(f"words={self.words}: a codebook needs at least one word")
        if self.query_multiple < 1:
            raise UsageError(f"query_multiple={self.query_multiple}: a descriptor needs at least one word")
        _ = self.encoder  # checks the rest

    @property
    def encoder(self) -> Encoder:
        """The extractor of local features."""
        size = {"max_side": self.max_side, "enlarge_below": self.enlarge_below}
        return open_encoder("rootsift", count=self.count, contrast=self.contrast, **size)

    def index(self, codebook: Codebook) -> Asmk:
        """An empty index over `codebook`."""
        return Asmk(codebook, binary=self.binary, query_multiple=self.query_multiple, idf=self.idf)


@dataclass(frozen=True)
class GlobalSettings:
    """How a photo becomes one vector.

    `backbone`: an ONNX file, or the folder of a Hugging Face model; or `weights`: a published checkpoint of torch.
    `pool`: one of `POOLS`, with power `p` for GeM; a checkpoint brings its own. `scales`: sizes relative to the photo
    whose longer side was brought to at most `max_side` pixels; none for the checkpoint's published ones, or the photo
    as it is. `whiten`: a whitening learnt without labels from the collection's own vectors, one of
    `WHITENINGS`; `whiten_dim`: dimensions that PCA keeps, None for all; `half`: search in half precision, which takes
    half the memory.
    """

    backbone: str = ""
    weights: str = ""
    pool: str = "gem"
    p: float = 3.0
    scales: tuple[float, ...] = ()
    max_side: int = 1024
    whiten: str = "none"
    whiten_dim: int | None = None
    half: bool = False

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise UsageError(f"pool={self.pool!r}: choose one of {', '.join(POOLS)}")
        if self.whiten not in WHITENINGS:
            raise UsageError(f"whiten={self.whiten!r}: choose one of {', '.join(WHITENINGS)}")
        if not (math.isfinite(self.p) and self.p > 0):
            raise UsageError(f"p={self.p}: the generalised mean needs a positive p")
        if not all(math.isfinite(scale) and scale > 0 for scale in self.scales):
            raise UsageError(f"scales={list(self.scales)}: all must be positive")
        if self.max_side < 1 or (self.whiten_dim is not None and self.whiten_dim < 1):
            raise UsageError(f"max_side={self.max_side} and whiten_dim={self.whiten_dim} must be at least 1")
        if bool(self.backbone) and bool(self.weights):
            raise UsageError("give a backbone or weights, not both: they are two ways to name one network")


@dataclass(frozen=True)
class Settings:
    """What a recipe keeps of a photo: `local` features, one `vector`, or both."""

    recipe: str
    local: ClassicSettings | None
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


GLOBAL_DEFAULTS: Mapping[str, GlobalSettings] = {
    "gem": GlobalSettings(),
    "rmac": GlobalSettings(pool="rmac"),
    "ap-gem": GlobalSettings(),
    "solar": GlobalSettings(),
    "delg": GlobalSettings(),
    "frozen": GlobalSettings(pool="class-token"),
    "hybrid": GlobalSettings(scales=(1.0, math.sqrt(2)), whiten="zca"),
}
RECIPES = ("classic", *GLOBAL_DEFAULTS)


def settings_of(recipe: str, parameters: Mapping[str, Any]) -> Settings:
    """The settings of `recipe` with `parameters` in place of its defaults.

    Raises `UsageError` on an unknown recipe or parameter, and on a value of the wrong type or range.
    """
    if recipe not in RECIPES:
        raise UsageError(f"recipe {recipe!r} is unknown: choose one of {', '.join(RECIPES)}")
    local = ClassicSettings() if recipe in ("classic", "hybrid") else None
    vector = GLOBAL_DEFAULTS.get(recipe)
    known = {field.name: getattr(part, field.name) for part in (local, vector) if part for field in fields(part)}
    for name, value in parameters.items():
        if name not in known:
            raise UsageError(f"recipe {recipe} has no setting {name!r}: it has {', '.join(known)}")
        _check_type(name, value, known[name])
    return Settings(recipe, _with(local, parameters), _with(vector, parameters))


def open_descriptor(recipe: str, settings: GlobalSettings) -> GlobalDescriptor:
    """The network of `settings`, opened. Raises `UsageError` when that cannot be done."""
    if settings.weights:
        from resight.features.checkpoints import load_descriptor

        return load_descriptor(
            settings.weights,
            recipe=recipe if recipe in CHECKPOINT_RECIPES else None,
            scales=settings.scales or None,
            max_side=settings.max_side,
        )
    if not settings.backbone:
        raise UsageError(f"recipe {recipe} needs a network: give --backbone FILE.onnx" + _or_weights(recipe))
    if recipe in ("ap-gem", "solar", "delg"):
        raise UsageError(f"recipe {recipe} is a trained network, not a backbone: give its checkpoint with --weights")
    from resight.features.networks.open import open_backbone

    backbone = open_backbone(settings.backbone)
    pool, name = _pool(settings, backbone.output)
    return GlobalDescriptor(backbone, pool, name, scales=settings.scales or (1.0,), max_side=settings.max_side)


def _pool(settings: GlobalSettings, output: str) -> tuple[Any, str]:
    """The pooling function and its name; networks that give vectors need none, and only tokens have a class token."""
    if output == "vectors":
        return None, ""
    name = "gem" if settings.pool == "class-token" and output == "maps" else settings.pool
    if name == "gem":
        return partial(gem, p=settings.p), f"gem {settings.p}"
    if name == "regional-gem":
        return (lambda maps: gem(smooth_regional_gem(maps), settings.p)), f"regional-gem {settings.p}"
    return {"mac": mac, "spoc": spoc, "rmac": rmac, "class-token": class_token}[name], name


def _or_weights(recipe: str) -> str:
    return " or --weights CHECKPOINT" if recipe in CHECKPOINT_RECIPES else ""


def _with(part: Any, parameters: Mapping[str, Any]) -> Any:
    if part is None:
        return None
    own = {name: value for name, value in parameters.items() if name in asdict(part)}
    if "scales" in own:
        own["scales"] = tuple(float(scale) for scale in own["scales"])
    return type(part)(**{**asdict(part), **own})


def _check_type(name: str, value: Any, default: Any) -> None:
    """Booleans stay booleans, whole numbers whole; a number setting without a default may also be None."""
    kinds = {
        bool: (bool,),
        int: (int,),
        float: (int, float),
        str: (str,),
        tuple: (list, tuple),
        type(None): (int, type(None)),
    }[type(default)]
    wrong = not isinstance(value, kinds) or (isinstance(value, bool) and kinds != (bool,))
    if not wrong and isinstance(value, list | tuple):
        wrong = any(isinstance(item, bool) or not isinstance(item, int | float) for item in value)
    if wrong:
        raise UsageError(f"{name}={value!r} is not of the right kind: its default is {default!r}")
