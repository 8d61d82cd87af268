"""One reader per layout of published checkpoints: the program that wrote it, and where it put what."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from resight.errors import UsageError
from resight.features.checkpoints.checkpoint import Checkpoint, Pooling, check_trunk, identify, trunk_shapes
from resight.features.checkpoints.files import read_file, state_of
from resight.features.checkpoints.names import of_pycls, of_sequence, of_solar, renamed, take
from resight.features.checkpoints.trained import DESCRIPTION, GRAPH, graph_trunk, steps_in
from resight.features.checkpoints.values import (
    gem_exponent,
    known_pooling,
    learned_whitenings,
    linear_layer,
    pca_whitenings,
    triple,
)
from resight.features.networks.backbone import IMAGENET_MEAN, IMAGENET_STD

POOLINGS: dict[str, Pooling] = {"gem": "gem", "gemmp": "gem", "mac": "mac", "spoc": "spoc", "rmac": "rmac"}
DIR_POOLINGS: dict[str, Pooling] = {"gem": "gem", "max": "mac", "avg": "spoc"}
ATTENTION = {"soa4.": "attention.layer3", "soa5.": "attention.layer4"}


LAYOUTS = ("cirtorch", "cirtorch-features", "dir", "solar", "how", "fire", "delg", "cvnet", "pycls", "torchvision")


@dataclass(frozen=True, eq=False)
class Source:
    """A file to be read: its path, its content, and the weights in it, which a reader takes out one by one."""

    path: Path
    content: Mapping[str, Any]
    state: dict[str, Tensor]

    @property
    def meta(self) -> Mapping[str, Any]:
        """What cirtorch and its descendants say of a model; empty where the file has none."""
        return _dict(self.content.get("meta"))


Reader = Callable[[Source], Checkpoint]


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a weights file (torch's formats, safetensors), telling its layout by the names in it.

    Nothing that a file names is run. Names that the layout does not have are listed in `Checkpoint.unknown`, weights
    that its architecture needs and it lacks in `Checkpoint.missing`. Raises `UsageError`, naming the file and the
    weight, when it cannot be read, holds NaN or infinity, has an unknown layout or architecture, or a weight of another
    shape than its architecture has.
    """
    place = Path(path).expanduser()
    content = read_file(place)
    source = Source(place, content, state_of(place, content))
    return reader_of(source)(source)


def read_cirtorch(source: Source) -> Checkpoint:
    """Radenovic's cnnimageretrieval: `meta`, and a `state_dict` of features.*, pool.*, whiten.*, lwhiten.*."""
    meta, state = source.meta, source.state
    pooling = known_pooling(source.path, "pooling", meta.get("pooling"), POOLINGS)
    regional = bool(meta.get("regional", False))
    exponent = take(state, "pool.rpool." if regional else "pool.")
    region = take(state, "pool.whiten.") if regional else {}
    parts = {"region_whitening": region, "local_whitening": take(state, "lwhiten.")}
    return _finish(
        source,
        _sequence(take(state, "features.")),
        stated=_text(meta.get("architecture")),
        layout="cirtorch",
        mean=triple(source.path, "mean", meta.get("mean"), IMAGENET_MEAN),
        std=triple(source.path, "std", meta.get("std"), IMAGENET_STD),
        pooling=pooling,
        regional=regional,
        p=gem_exponent(source.path, exponent.get("p")),
        linear=linear_layer(source.path, take(state, "whiten."), normalise=True),
        whitenings=learned_whitenings(source.path, meta.get("Lw")),
        parts={name: part for name, part in parts.items() if part},
    )


def read_cirtorch_features(source: Source) -> Checkpoint:
    """ImageNet features of cnnimageretrieval: a bare sequence 0.weight, 1.weight, ..., converted from Caffe."""
    return _finish(source, _sequence(take(source.state, "")), layout="cirtorch-features")


def read_solar(source: Source) -> Checkpoint:
    """SOLAR: as cirtorch, but features.conv1 to features.conv5_x with the attention blocks soa4 and soa5 between."""
    meta, state = source.meta, source.state
    features = take(state, "features.")
    parts = {part: take(features, prefix) for prefix, part in ATTENTION.items()}
    for block in parts.values():
        block.pop("gamma", None)  # the program writes it and never reads it
    return _finish(
        source,
        renamed(features, of_solar),
        stated=_text(meta.get("architecture")),
        layout="solar",
        mean=triple(source.path, "mean", meta.get("mean"), IMAGENET_MEAN),
        std=triple(source.path, "std", meta.get("std"), IMAGENET_STD),
        pooling="gem",
        p=gem_exponent(source.path, take(state, "pool.").get("p")),
        linear=linear_layer(source.path, take(state, "whiten."), normalise=True),
        parts={name: part for name, part in parts.items() if part},
    )


def read_dir(source: Source) -> Checkpoint:
    """Deep image retrieval and AP-GeM: `model_options`, `preprocess`, torchvision's names, adpool.p, fc.*, `pca`."""
    options, state = source.content["model_options"], source.state
    preprocess = _dict(source.content.get("preprocess"))
    architecture = str(options.get("arch", ""))
    if not architecture.endswith("_rmac") or "_fpn" in architecture:
        raise UsageError(f"{source.path} is a {architecture}: of this program, only plain resnet*_rmac can be read")
    if options.get("center_bias"):
        raise UsageError(f"{source.path} weighs the centre of images (center_bias), which resight does not")
    normalise = bool(options.get("norm_features", False))
    exponent = take(state, "adpool.").get("p")
    linear = None if options.get("without_fc") else linear_layer(source.path, take(state, "fc."), normalise)
    return _finish(
        source,
        (take(state, ""), []),
        stated=architecture.removesuffix("_rmac"),
        layout="dir",
        mean=triple(source.path, "mean", preprocess.get("mean"), IMAGENET_MEAN),
        std=triple(source.path, "std", preprocess.get("std"), IMAGENET_STD),
        pooling=known_pooling(source.path, "pooling", options.get("pooling", "gem"), DIR_POOLINGS),
        p=gem_exponent(source.path, exponent),
        linear=linear,
        whitenings=pca_whitenings(source.path, source.content.get("pca")),
    )


def read_how(source: Source) -> Checkpoint:
    """HOW and FIRe: `net_params` (before 2020 `meta`), features.*, lit.*, dim_reduction.* (before 2020 whiten.*)."""
    meta, state = source.meta, source.state
    network = _dict(source.content.get("net_params"))
    mean, std = _dict(network.get("runtime")).get("mean_std") or (meta.get("mean"), meta.get("std"))
    take(state, "fc.")  # the classifier of FIRe's pretraining
    reduction = take(state, "dim_reduction.") or take(state, "whiten.")
    parts = {"dim_reduction": reduction, "lit": take(state, "lit.")}
    return _finish(
        source,
        _sequence(take(state, "features.")),
        stated=_text(network.get("architecture") or meta.get("architecture")),
        layout="fire" if parts["lit"] else "how",
        mean=triple(source.path, "mean", mean, IMAGENET_MEAN),
        std=triple(source.path, "std", std, IMAGENET_STD),
        parts={name: part for name, part in parts.items() if part},
    )


def read_pycls(source: Source) -> Checkpoint:
    """DELG-PyTorch (globalmodel.*, localmodel.*) and CVNet (encoder_q.*): pycls layers, trained on images in BGR order.

    The channels of the first convolution are put in RGB order, so that mean and deviation are the usual ones.
    """
    state = source.state
    prefix = next(name for name in state if name.endswith("stem.conv.weight")).removesuffix("stem.conv.weight")
    layers = take(state, prefix)
    for unused in ("desc_cls.", "att_cls.", "conv2ds.", "cv_learner."):  # classifiers, and CVNet's re-ranking
        take(state, unused)
    local = take(state, "localmodel.")
    trunk, unknown = renamed({name: tensor for name, tensor in layers.items() if not _head(name)}, of_pycls)
    trunk["conv1.weight"] = trunk["conv1.weight"].flip(1)
    return _finish(
        source,
        (trunk, [f"{prefix}{name}" for name in unknown]),
        layout={"globalmodel.": "delg", "encoder_q.": "cvnet"}.get(prefix, "pycls"),
        pooling="gem",
        p=gem_exponent(source.path, layers.get("head.pool.p")),
        linear=linear_layer(source.path, take(layers, "head.fc."), normalise=False),
        parts={"local_attention": local} if local else {},
    )


def read_trained(source: Source) -> Checkpoint:
    """Networks trained by resight (`resight.features.checkpoints.trained`): trunk/*, parts/PART/*, linear/*, pool/p."""
    facts, state = source.content[DESCRIPTION], source.state
    trunk, layer = take(state, "trunk/"), take(state, "linear/")
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in take(state, "parts/").items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = tensor
    found: dict[str, Any] = {
        "layout": str(facts["layout"]),
        "mean": triple(source.path, "mean", facts.get("mean"), IMAGENET_MEAN),
        "std": triple(source.path, "std", facts.get("std"), IMAGENET_STD),
        "pooling": known_pooling(source.path, "pooling", facts.get("pooling", "gem"), POOLINGS),
        "regional": bool(facts.get("regional", False)),
        "p": gem_exponent(source.path, take(state, "pool/").get("p")),
        "linear": linear_layer(source.path, layer, bool(facts.get("normalise", True))),
        "parts": parts,
    }
    steps = steps_in(facts, source.path)
    if steps is None:
        return _finish(source, (trunk, []), **found)
    unknown = tuple(sorted(state))
    made = Checkpoint(
        path=source.path, trunk=trunk, architecture=GRAPH, stage="C5", width=0, steps=steps, unknown=unknown, **found
    )
    _ = graph_trunk(steps, trunk, source.path)
    return made


def read_torchvision(source: Source) -> Checkpoint:
    """Classifiers of torchvision, and those of timm, whose plain ResNets have the same names."""
    for classifier in ("fc.", "classifier."):
        take(source.state, classifier)
    return _finish(source, (take(source.state, ""), []), layout="torchvision")


def reader_of(source: Source) -> Reader:
    """The reader of a file, by the names in it. Raises `UsageError` when no layout has them."""
    names, meta = source.state, source.meta
    if isinstance(source.content.get(DESCRIPTION), dict):
        return read_trained
    if isinstance(source.content.get("model_options"), dict):
        return read_dir
    if any(name.startswith("features.conv5_x.") for name in names):
        return read_solar
    if "net_params" in source.content or "feat_pool_k" in meta or any(name.startswith("lit.") for name in names):
        return read_how
    if "pooling" in meta and any(name.startswith("features.") for name in names):
        return read_cirtorch
    if any(name.endswith("stem.conv.weight") for name in names):
        return read_pycls
    if "0.weight" in names:
        return read_cirtorch_features
    if "layer1.0.conv1.weight" in names or "features.0.weight" in names:
        return read_torchvision
    raise UsageError(f"{source.path} has no known layout: its weights are called {', '.join(sorted(names)[:3])}, ...")


def _finish(
    source: Source, trunk: tuple[dict[str, Tensor], list[str]], *, stated: str | None = None, **found: Any
) -> Checkpoint:
    """The checkpoint, checked; whatever no reader took is unknown."""
    state, unknown = trunk
    architecture, stage, width = identify(source.path, state)
    shapes = trunk_shapes(architecture, stage, width)
    strange = [name for name in state if name not in shapes]
    checkpoint = Checkpoint(
        path=source.path,
        trunk={name: tensor for name, tensor in state.items() if name in shapes},
        architecture=architecture,
        stage=stage,
        width=width,
        unknown=tuple(sorted([*unknown, *strange, *source.state])),
        **found,
    )
    check_trunk(source.path, checkpoint, stated)
    return checkpoint


def _sequence(features: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """A cut-off ResNet numbers its children; a VGG is a sequence to begin with."""
    if "0.bias" in features:
        return {f"features.{name}": tensor for name, tensor in features.items()}, []
    return renamed(features, of_sequence)


def _head(name: str) -> bool:
    return name.startswith("head.")


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
