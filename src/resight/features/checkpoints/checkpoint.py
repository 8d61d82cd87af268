"""What the published checkpoints have in common, and the trunk that one of them fills."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from resight.errors import UsageError
from resight.features.checkpoints.trained import graph_trunk
from resight.features.fingerprint import file_sha256
from resight.features.global_descriptor import Linear
from resight.features.networks.backbone import IMAGENET_MEAN, IMAGENET_STD, Triple
from resight.features.networks.graph_trunk import GraphTrunk, Step
from resight.features.networks.resnet import BASIC, BLOCKS, STAGES, ResNet, Stage
from resight.features.networks.vgg import Vgg16
from resight.features.whitening import Whitening
from resight.types import Float32

State: TypeAlias = Mapping[str, Tensor]
Pooling: TypeAlias = Literal["gem", "mac", "spoc", "rmac"]

COUNTER = ".num_batches_tracked"  # of batch normalisation: absent from old files, of no effect


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint:
    """A checkpoint file, understood.

    `layout`: whose program wrote it (`resight.features.checkpoints.LAYOUTS`). `trunk`: its convolutional weights under
    torchvision's names, for images in RGB order. `architecture` and `width` (channels of the first layer) are found in
    the weights; `stage` is where they end. `pooling` and its exponent `p`, (1,) or (C,), None where the file has none;
    `regional`: pooled over the regions of R-MAC. `linear`: the fully connected layer behind the pooling. `whitenings`
    by name. `parts`: weights of further blocks, under the names that the block in resight has: "attention.layer3" and
    "attention.layer4" (SOLAR), "local_attention" (DELG), "lit" (FIRe), "dim_reduction" (HOW, FIRe), "local_whitening"
    and "region_whitening" (cirtorch). `unknown`: names in the file that its layout does not have.
    """

    path: Path
    layout: str
    trunk: State
    architecture: str
    stage: Stage
    width: int
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    pooling: Pooling | None = None
    regional: bool = False
    p: Float32 | None = None
    linear: Linear | None = None
    whitenings: Mapping[str, Whitening] = field(default_factory=dict)
    parts: Mapping[str, State] = field(default_factory=dict)
    steps: tuple[Step, ...] | None = None
    unknown: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return file_sha256(self.path)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names that a trunk of this architecture has and the file lacks."""
        if self.steps is not None:
            return ()  # such a trunk says itself what it lacks
        expected = trunk_shapes(self.architecture, self.stage, self.width)
        return tuple(name for name in expected if name not in self.trunk and not name.endswith(COUNTER))


def identify(path: Path, state: State) -> tuple[str, Stage, int]:
    """Architecture, stage and width of weights under torchvision's names. Raises `UsageError` for any other network."""
    if "features.0.weight" in state:
        convolutions = sum(name.startswith("features.") and name.endswith(".weight") for name in state)
        if convolutions != 13:
            raise UsageError(f"{path} holds a VGG of {convolutions} convolutions: only VGG16, which has 13, is known")
        return "vgg16", "C5", len(state["features.0.weight"])
    if "conv1.weight" not in state:
        raise UsageError(f"{path} has no conv1.weight: its first layers are not those of a plain ResNet")
    found = [re.match(r"layer([1-4])\.(\d+)\.", name) for name in state]
    places = {(int(match[1]), int(match[2])) for match in found if match}
    counts = tuple(sum(layer == place for layer, _ in places) for place in range(1, 5))
    counts = tuple(count for count in counts if count)
    bottleneck = "layer1.0.conv3.weight" in state
    for name, blocks in BLOCKS.items():
        for stage, layers in STAGES.items():
            if counts == blocks[:layers] and (name in BASIC) != bottleneck:
                return name, "C4" if stage == "C4" else "C5", len(state["conv1.weight"])
    kind = "bottlenecks" if bottleneck else "basic blocks"
    raise UsageError(f"{path} holds a network of {counts} {kind}: give weights of {', '.join([*BLOCKS, 'vgg16'])}")


def check_trunk(path: Path, checkpoint: Checkpoint, stated: str | None) -> None:
    """Raise `UsageError` when `stated` is another architecture than the weights, or one has another shape."""
    name = checkpoint.architecture
    if stated is not None and stated != name:
        raise UsageError(f"{path} says it is a {stated}, and its weights are those of a {name}: it is damaged")
    shapes = trunk_shapes(name, checkpoint.stage, checkpoint.width)
    for key, tensor in checkpoint.trunk.items():
        if key in shapes and tuple(tensor.shape) != shapes[key]:
            raise UsageError(
                f"{path}: {key} has shape {tuple(tensor.shape)}, and in a {name} of width {checkpoint.width} it has "
                f"{shapes[key]}: these weights are of another architecture"
            )


def build_trunk(checkpoint: Checkpoint, *, last_stride: int = 2, dilation: int = 1) -> ResNet | Vgg16 | GraphTrunk:
    """The network with the weights of `checkpoint`, SOLAR's attention included, in evaluation mode, on the CPU.

    Raises `UsageError`, naming the file and the weights, when some are missing or of another shape.
    """
    if checkpoint.steps is not None:
        return graph_trunk(checkpoint.steps, checkpoint.trunk, checkpoint.path).eval()
    if checkpoint.missing:
        raise UsageError(f"{checkpoint.path} lacks {some(checkpoint.missing)} of a {checkpoint.architecture}")
    blocks = {name: state for name, state in checkpoint.parts.items() if name.startswith("attention.")}
    attention = {}
    for name, state in blocks.items():
        if "h.weight" not in state:
            raise UsageError(f"{checkpoint.path} lacks {name}.h.weight")
        attention[name.removeprefix("attention.")] = len(state["h.weight"])
    with torch.device("meta"):  # random weights would take longer to make than those of the file to read
        trunk = _empty_trunk(checkpoint, attention, last_stride, dilation)
    weights = {name: torch.zeros((), dtype=torch.int64) for name in trunk.state_dict() if name.endswith(COUNTER)}
    weights |= {name: tensor.clone() for name, tensor in checkpoint.trunk.items()}
    for block, state in blocks.items():
        weights |= {f"{block}.{name}": tensor.clone() for name, tensor in state.items()}
    load_weights(trunk, weights, checkpoint.path, assign=True)
    return trunk.eval()


def without_last_stage(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint cut after its fourth stage (C4), as trunks of local features are; others stay as they are."""
    if checkpoint.stage != "C5" or checkpoint.steps is not None or checkpoint.architecture in ("resnet18", "vgg16"):
        return checkpoint
    kept = {name: tensor for name, tensor in checkpoint.trunk.items() if not name.startswith("layer4.")}
    parts = {name: part for name, part in checkpoint.parts.items() if name != "attention.layer4"}
    return replace(checkpoint, trunk=kept, stage="C4", parts=parts)


def load_weights(module: nn.Module, weights: State, path: Path, *, assign: bool = False) -> tuple[str, ...]:
    """Fill `module` with `weights` of the file `path`; gives the names that it has no place for.

    They are copied, or with `assign` become the weights of the module themselves.
    Raises `UsageError` when a weight of the module is missing or of another shape; counters of batches may be missing.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in weights and not name.endswith(COUNTER)]
    if missing:
        raise UsageError(f"{path} lacks {some(missing)}")
    for name, tensor in weights.items():
        if name in expected and tensor.shape != expected[name].shape:
            got, wanted = tuple(tensor.shape), tuple(expected[name].shape)
            raise UsageError(f"{path}: {name} has shape {got}, expected {wanted}: it is of another architecture")
    known = {name: tensor for name, tensor in weights.items() if name in expected}
    module.load_state_dict(known, strict=False, assign=assign)
    return tuple(name for name in weights if name not in expected)


def _empty_trunk(
    checkpoint: Checkpoint, attention: Mapping[str, int], last_stride: int, dilation: int
) -> ResNet | Vgg16:
    name, stage, width = checkpoint.architecture, checkpoint.stage, checkpoint.width
    if name == "vgg16":
        return Vgg16(width=width)
    return ResNet(name, stage, last_stride=last_stride, dilation=dilation, attention=attention, width=width)


@cache
def trunk_shapes(architecture: str, stage: Stage, width: int) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of the weights of a trunk; nothing is allocated."""
    with torch.device("meta"):
        trunk = Vgg16(width=width) if architecture == "vgg16" else ResNet(architecture, stage, width=width)
    return {name: tuple(tensor.shape) for name, tensor in trunk.state_dict().items()}


def some(names: tuple[str, ...] | list[str]) -> str:
    """The first of `names`, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
