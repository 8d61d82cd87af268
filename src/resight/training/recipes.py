"""What can be trained, and how long and with what each was trained by its authors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_type_hints

from resight.errors import UsageError
from resight.training.tuples.augmentation import Augmentation

Kind = Literal["descriptor", "local"]
Loss = Literal["contrastive", "triplet", "solar", "average-precision", "classes", "super-features"]
Optimiser = Literal["adam", "sgd"]


@dataclass(frozen=True)
class Settings:
    """How a network is trained.

    `epochs`, each of `queries` random pairs (None: all) in batches of `batch` tuples; for losses over photos (AP,
    classes), of `queries` photos in batches of `batch`. `side`: longest side of training photos in pixels.
    `negatives` of each query, mined out of a random `pool` of photos (None: all). `rate` of learning, `decay` of
    weights, `gamma`: what the rate is multiplied by after each epoch. `optimiser`: adam, or sgd with momentum 0.9.
    `trunk_rate`: factor of the rate for the trunk, 0 keeps it as it is; `p_rate`: for GeM's exponent. `warmup`: epochs
    over which the rate rises to its full value. `margin`, `weight`, `bins`: of the loss. `dim`: of the last layer, None
    for none, 0 for as many as there are channels. `share`: of the things shown that are held back to judge by.
    `patience`: epochs without a better validation that end training, None for none; `every`: epochs between two
    validations. `p` of GeM at the start. `seed`. `reweighting`, `smoothing`, `smoothed`, `confidence_from`, `window`:
    of blocks of context (`ContextSettings`). `templates`: super-features of a photo; `faithful`: their ratio test as
    published, with its fault. `count`: local features of a photo in validations. All others: changes of photos
    (`Augmentation`, whose gamma is `light`).
    Raises `UsageError` on values out of range.
    """

    epochs: int
    rate: float
    decay: float
    gamma: float
    side: int
    batch: int
    queries: int | None = 2000
    pool: int | None = 20_000
    negatives: int = 5
    margin: float = 0.85
    weight: float = 10.0
    bins: int = 20
    optimiser: str = "adam"
    trunk_rate: float = 1.0
    p_rate: float = 10.0
    warmup: int = 0
    dim: int | None = None
    p: float = 3.0
    share: float = 0.1
    patience: int | None = None
    every: int = 1
    seed: int = 0
    reweighting: str = "none"
    smoothing: str = "average"
    smoothed: str = "all"
    confidence_from: str = "maps"
    window: int = 3
    templates: int = 256
    faithful: bool = False
    count: int = 1000
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    light: float = 0.0
    grey: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    crop: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        sizes = (self.negatives, self.count, self.templates)
        whole = (self.epochs, self.side, self.batch, self.every, self.bins - 1, *sizes)
        optional = [1 if value is None else value for value in (self.queries, self.pool, self.patience)]
        if min(*whole, *optional) < 1:
            raise UsageError(
                "epochs, side, batch, every, negatives, queries, pool, patience must be at least 1, bins 2"
            )
        real = (self.rate, self.gamma, self.p)
        if not all(value > 0 for value in real) or min(self.decay, self.trunk_rate, self.p_rate, self.weight) < 0:
            raise UsageError("rate, gamma and p must be positive, decay, trunk_rate, p_rate and weight not negative")
        if self.optimiser not in get_args(Optimiser):
            raise UsageError(f"optimiser={self.optimiser!r} is neither adam nor sgd")
        if not 0 < self.share < 1 or self.warmup < 0 or self.seed < 0:
            raise UsageError(f"share={self.share} must lie between 0 and 1; warmup and seed must not be negative")
        _ = self.augmentation

    @property
    def augmentation(self) -> Augmentation:
        """How training photos are changed."""
        return Augmentation(
            self.flip, self.brightness, self.contrast, self.saturation, self.light,
            self.grey, self.rotation, self.zoom, self.crop, self.noise,
        )  # fmt: skip

    def rate_of(self, epoch: int) -> float:
        """What the rate is multiplied by in an epoch, from 1 on."""
        return min(1.0, epoch / (self.warmup + 1)) * float(self.gamma ** (epoch - 1))


@dataclass(frozen=True)
class Recipe:
    """A network and its loss: `kind` says which command trains it, `layout` what its file is like (`LAYOUTS` of
    `resight.features.checkpoints.trained`), `settings` are those of its `paper`."""

    name: str
    kind: Kind
    layout: str
    loss: Loss
    settings: Settings
    paper: str
    pool: str = "gem"
    regional: bool = False

    def with_settings(self, given: Mapping[str, Any]) -> Recipe:
        """This recipe with other settings. Raises `UsageError` for unknown names and values of another kind."""
        hints = get_type_hints(Settings)
        for name, value in given.items():
            if name not in hints:
                raise UsageError(f"recipe {self.name} has no setting {name!r}: it has {', '.join(hints)}")
            if not _fits(value, hints[name]):
                default = getattr(self.settings, name)
                raise UsageError(f"{name}={str(value)[:60]!r} cannot be: the default is {default!r}")
        return replace(self, settings=replace(self.settings, **given))


def _fits(value: Any, hint: Any) -> bool:
    kinds = get_args(hint) or (hint,)
    if bool in kinds:
        return isinstance(value, bool)
    number = not isinstance(value, bool) and (not isinstance(value, float) or math.isfinite(value))
    return number and (any(isinstance(value, kind) for kind in kinds) or (float in kinds and isinstance(value, int)))


_GEM = "Radenovic, Tolias, Chum: Fine-tuning CNN image retrieval with no human annotation. TPAMI 2019"
_RMAC = "Gordo, Almazan, Revaud, Larlus: End-to-end learning of deep visual representations. IJCV 2017"
_AP = "Revaud, Almazan, de Rezende, de Souza: Learning with average precision. ICCV 2019"
_SOLAR = "Ng, Balntas, Tian, Mikolajczyk: SOLAR: second-order loss and attention for image retrieval. ECCV 2020"
_DELG = "Cao, Araujo, Sim: Unifying deep local and global features for image search. ECCV 2020"
_HOW = "Tolias, Jenicek, Chum: Learning and aggregating deep local descriptors. ECCV 2020"
_CONTEXT = "Seo, Han: Improving spatial and semantic context of local descriptors for image retrieval. 2024"
_FIRE = "Weinzaepfel, Lucas, Larlus, Kalantidis: Learning super-features for image retrieval. ICLR 2022"

_TUPLES = Settings(epochs=100, rate=5e-7, decay=1e-6, gamma=math.exp(-0.01), side=362, batch=5)
_HOWS = Settings(epochs=20, rate=5e-6, decay=1e-4, gamma=0.99, side=1024, batch=5, margin=0.8, dim=128, every=5)

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("gem", "descriptor", "cirtorch", "contrastive", _TUPLES, _GEM),
        Recipe("gem-whitened", "descriptor", "cirtorch", "contrastive", replace(_TUPLES, dim=0, side=1024), _GEM),
        Recipe(
            "rmac", "descriptor", "cirtorch", "triplet", replace(_TUPLES, margin=0.5), _RMAC, pool="mac", regional=True
        ),
        Recipe(
            "ap-gem",
            "descriptor",
            "dir",
            "average-precision",
            Settings(200, 1e-4, 1e-6, 1.0, 800, batch=4096, queries=4096, dim=0, p_rate=1.0, every=10),
            _AP,
        ),
        Recipe(
            "solar",
            "descriptor",
            "solar",
            "solar",
            Settings(100, 1e-6, 1e-6, math.exp(-0.01), 1024, 8, margin=1.25, p_rate=100.0, dim=0, trunk_rate=1.0),
            _SOLAR,
        ),
        Recipe(
            "delg",
            "descriptor",
            "delg",
            "classes",
            Settings(25, 1e-2, 1e-4, 0.9, 512, batch=32, queries=None, dim=0, optimiser="sgd", margin=0.1, flip=0.5),
            _DELG,
        ),
        Recipe("how", "local", "how", "contrastive", _HOWS, _HOW),
        Recipe(
            "context",
            "local",
            "how",
            "contrastive",
            replace(_HOWS, trunk_rate=0.1, rate=5e-5, warmup=2, reweighting="graph", smoothing="learnable"),
            _CONTEXT,
        ),
        Recipe(
            "fire",
            "local",
            "fire",
            "super-features",
            replace(_HOWS, epochs=200, rate=3e-5, margin=1.1, flip=0.5),
            _FIRE,
        ),
    )
}


def recipe_of(name: str, kind: Kind) -> Recipe:
    """The recipe of that name and kind. Raises `UsageError`, with all names, when there is none."""
    known = [recipe.name for recipe in RECIPES.values() if recipe.kind == kind]
    if name not in known:
        raise UsageError(f"recipe {name!r} cannot be trained as {kind}: choose one of {', '.join(known)}")
    return RECIPES[name]
