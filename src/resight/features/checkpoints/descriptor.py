"""Checkpoints as descriptors: the recipe of each paper over `GlobalDescriptor`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from resight.errors import UsageError
from resight.features import pooling
from resight.features.checkpoints.catalogue import licence_of
from resight.features.checkpoints.checkpoint import Checkpoint, build_trunk
from resight.features.checkpoints.readers import read_checkpoint
from resight.features.global_descriptor import GlobalDescriptor, Linear, Pool
from resight.features.local.how import reduce
from resight.features.networks.resnet import Precision, trunk_backbone
from resight.features.whitening import Whitening

DOWN = (1.0, 2**-0.5, 0.5)  # scales of the models whose whitening was learnt after them
AROUND = (1.0, 2**0.5, 2**-0.5)  # of those trained with theirs, and of DELG
GEM_P = 3.0  # where a file brings no exponent
LEARNT_ON = ("retrieval-SfM-120k", "retrieval-SfM-30k", "Landmarks_clean")  # whitening of the papers, best first


@dataclass(frozen=True)
class Recipe:
    """The layouts that a recipe takes, and the image scales of its paper with and without a fully connected layer."""

    layouts: tuple[str, ...]
    trained: tuple[float, ...] = (1.0,)
    plain: tuple[float, ...] = (1.0,)


_CONVOLUTIONS = ("cirtorch", "cirtorch-features", "torchvision")
RECIPES = {
    "mac": Recipe(_CONVOLUTIONS),
    "spoc": Recipe(_CONVOLUTIONS),
    "rmac": Recipe(_CONVOLUTIONS),
    "gem": Recipe(_CONVOLUTIONS, trained=AROUND, plain=DOWN),
    "ap-gem": Recipe(("dir",)),
    "solar": Recipe(("solar",), trained=AROUND),
    "delg": Recipe(("delg", "cvnet", "pycls"), trained=AROUND),
}


def load_descriptor(
    path: str | os.PathLike[str],
    recipe: str | None = None,
    *,
    scales: Sequence[float] | None = None,
    max_side: int = 1024,
    whitening: Whitening | str | None = None,
    precision: Precision = "float32",
    device: str | None = None,
) -> GlobalDescriptor:
    """The descriptor of a checkpoint file, with the defaults of its paper.

    `recipe`: one of `RECIPES`, None for the one that the file was made for. `scales`: of the image. `whitening`: one
    fitted elsewhere, the name of one in the file, "none", or None for that of the paper: the learned one of cirtorch's
    networks without a fully connected layer ("ms" for several scales, "ss" for one), the PCA of DIR's. `precision` and
    `device`: as in `trunk_backbone`. Raises `UsageError` when the file cannot be read (see `read_checkpoint`), holds a
    model of local features, is of another recipe, or has no such whitening.
    """
    found = read_checkpoint(path)
    name = recipe or _recipe_of(found)
    if name not in RECIPES:
        raise UsageError(f"recipe {name!r} is not known: give one of {', '.join(RECIPES)}")
    chosen = RECIPES[name]
    if found.layout not in chosen.layouts:
        raise UsageError(f"{found.path} is of layout {found.layout}, recipe {name} takes {', '.join(chosen.layouts)}")
    usual = chosen.plain if found.linear is None else chosen.trained
    sizes = usual if scales is None else tuple(scales)
    trunk = build_trunk(found)
    backbone = trunk_backbone(
        trunk,
        f"{found.layout}-{found.architecture}",
        mean=found.mean,
        std=found.std,
        sha256=found.sha256,
        licence=licence_of(found.path.name),
        precision=precision,
        device=device,
    )
    pool, pool_name = _pooling(found, name, trunk.channels)
    try:
        return GlobalDescriptor(
            backbone=backbone,
            pool=pool,
            pool_name=pool_name,
            linear=found.linear,
            scales=sizes,
            power=_power(found, pool_name, sizes),
            whitening=_whitening(found, whitening, sizes),
            max_side=max_side,
            extra={} if precision == "float32" else {"precision": precision},
        )
    except UsageError as error:
        raise UsageError(f"{found.path}: {error}") from error


def _recipe_of(found: Checkpoint) -> str:
    if found.layout in ("how", "fire"):
        raise UsageError(f"{found.path} is a {found.layout} model, of local features: it gives no global descriptor")
    if found.layout in _CONVOLUTIONS:
        return found.pooling or "gem"
    return next(name for name, recipe in RECIPES.items() if found.layout in recipe.layouts)


def _pooling(found: Checkpoint, recipe: str, channels: int) -> tuple[Pool, str]:
    """The pooling function, and its name with its arguments."""
    kind = recipe if recipe in ("mac", "spoc", "rmac") else (found.pooling or "gem")
    if kind == "gem":
        p, text = _exponent(found, channels)
        pool: Pool = partial(pooling.gem, p=p)
        name = f"gem(p={text})"
    else:
        pool, name = {"mac": pooling.mac, "spoc": pooling.spoc, "rmac": pooling.rmac}[kind], kind
    if found.regional:
        whiten = None if "region_whitening" not in found.parts else _square(found, "region_whitening", channels)
        pool, name = partial(_regional, pool=pool, whiten=whiten), f"regional {name}"
    if "local_whitening" in found.parts:
        pool, name = (
            partial(_whitened, pool=pool, layer=_square(found, "local_whitening", channels)),
            f"whitened {name}",
        )
    return pool, name


def _exponent(found: Checkpoint, channels: int) -> tuple[Any, str]:
    p = found.p
    if p is None:
        return GEM_P, f"{GEM_P:g}"
    if p.size == 1:
        return float(p[0]), f"{float(p[0]):.9g}"
    if p.size != channels:
        raise UsageError(f"{found.path} has {p.size} exponents of GeM for {channels} channels: it is damaged")
    return p, hashlib.sha256(p.tobytes()).hexdigest()


def _square(found: Checkpoint, part: str, channels: int) -> Linear:
    """A fully connected layer of the file that keeps the number of channels."""
    layer = {name: tensor.numpy() for name, tensor in found.parts[part].items()}
    shapes = {name: array.shape for name, array in layer.items()}
    if shapes != {"weight": (channels, channels), "bias": (channels,)}:
        raise UsageError(f"{found.path} is damaged: {part} has {shapes}, for {channels} channels")
    return Linear(layer["weight"], layer["bias"], normalise=False)


def _regional(maps: Any, pool: Pool, whiten: Linear | None) -> Any:
    """Pool the regions of R-MAC, whiten each where the file can, sum, and normalise."""
    regions = pooling.roi_pool(maps, pool=pool)
    turn = None if whiten is None else lambda rows: whiten(rows.reshape(-1, rows.shape[2])).reshape(rows.shape)
    return pooling.normalise(pooling.sum_regions(regions, turn))


def _whitened(maps: Any, pool: Pool, layer: Linear) -> Any:
    """Pool maps of which every position went through a fully connected layer."""
    return pool(reduce(maps, layer.weight, layer.bias))


def _power(found: Checkpoint, pool_name: str, scales: tuple[float, ...]) -> float:
    """Scales of plain GeM are averaged with its own exponent, those of whitened vectors with 1 (TPAMI 2019)."""
    plain = pool_name.startswith("gem(") and found.linear is None and found.layout in _CONVOLUTIONS
    if plain and len(scales) > 1 and (found.p is None or found.p.size == 1):
        return GEM_P if found.p is None else float(found.p[0])
    return 1.0


def _whitening(found: Checkpoint, asked: Whitening | str | None, scales: tuple[float, ...]) -> Whitening | None:
    if isinstance(asked, Whitening) or asked == "none":
        return asked if isinstance(asked, Whitening) else None
    if asked is not None:
        if asked not in found.whitenings:
            raise UsageError(f"there is no whitening {asked!r}: it has {', '.join(found.whitenings) or 'none'}")
        return found.whitenings[asked]
    if found.layout != "dir" and found.linear is not None:
        return None
    suffix = "" if found.layout == "dir" else "/ms" if len(scales) > 1 else "/ss"
    fitting = [name for name in found.whitenings if name.endswith(suffix)]
    known = [name + suffix for name in LEARNT_ON if name + suffix in fitting]
    if len(fitting) > 1 and not known:
        raise UsageError(f"which whitening? It has {', '.join(fitting)}: name one")
    chosen = (known or fitting)[:1]
    return found.whitenings[chosen[0]] if chosen else None
