"""Residual networks without their classifier, under torchvision's parameter names, and torch trunks as `Backbone`.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016; the stride of a bottleneck lies in
its 3 x 3 convolution, as in torchvision, so that every public checkpoint of a plain ResNet loads.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resight.errors import ArrayError, UsageError
from resight.features.networks.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, Triple
from resight.features.networks.device import torch_device
from resight.features.networks.second_order import SecondOrderAttention
from resight.types import Float32

Stage: TypeAlias = Literal["C4", "C5"]
Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]

BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
BASIC = ("resnet18",)  # two 3 x 3 convolutions a block; the others have bottlenecks
STAGES: dict[str, int] = {"C4": 3, "C5": 4}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class _Block(nn.Module):
    """What both kinds of block share: the shortcut, and how the layers conv1, bn1, conv2, ... follow each other."""

    depth = 0
    expansion = 0
    conv1: nn.Conv2d

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None

    def shortcut(self, inputs: int, outputs: int, stride: int) -> None:
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        identity = maps if self.downsample is None else self.downsample(maps)
        for place in range(1, self.depth + 1):
            maps = getattr(self, f"bn{place}")(getattr(self, f"conv{place}")(maps))
            if place < self.depth:
                maps = self.relu(maps)
        summed: Tensor = self.relu(maps + identity)
        return summed


class _Basic(_Block):
    depth, expansion = 2, 1

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut(inputs, width, stride)


class _Bottleneck(_Block):
    depth, expansion = 3, 4

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut(inputs, 4 * width, stride)


class ResNet(nn.Module):
    """Images (N, 3, H, W) to feature maps (N, `channels`, H / `stride`, W / `stride`), rounded up, never negative.

    `architecture`: resnet18, resnet50, resnet101 or resnet152. `stage`: "C4" ends after layer3 (stride 16), "C5" after
    layer4 (stride 32). `last_stride=1` keeps the resolution of C4 in C5, and `dilation=2` then widens its 3 x 3
    convolutions, all but the first, so that they see what they were trained to see. `attention`: hidden channels of a
    `SecondOrderAttention` behind each layer named, {"layer3": 256, "layer4": 1024} for SOLAR. `frozen_norm`: batch
    normalisation keeps its statistics and parameters in training, as retrieval models are fine-tuned. `width`: channels
    of the first layer, 64 in every published network. Weights are random until some are loaded.

    Raises `UsageError` on an unknown architecture, stage or layer, and on options of C5 for a C4 network.
    """

    def __init__(
        self,
        architecture: str = "resnet50",
        stage: Stage = "C5",
        *,
        last_stride: int = 2,
        dilation: int = 1,
        attention: Mapping[str, int] | None = None,
        frozen_norm: bool = False,
        width: int = 64,
    ) -> None:
        super().__init__()
        _check_options(architecture, stage, last_stride, dilation, width)
        block = _Basic if architecture in BASIC else _Bottleneck
        self.frozen_norm = frozen_norm
        self.layers = tuple(f"layer{place}" for place in range(1, STAGES[stage] + 1))
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        strides, inputs = (1, 2, 2, last_stride), width
        for place, name in enumerate(self.layers):
            inner = width * 2**place
            further = dilation if place == 3 else 1
            rows = [block(inputs, inner, strides[place], 1)]
            inputs = inner * block.expansion
            rows += [block(inputs, inner, 1, further) for _ in range(1, BLOCKS[architecture][place])]
            setattr(self, name, nn.Sequential(*rows))
        self.channels = inputs
        self.stride = 16 if stage == "C4" else 16 * last_stride
        self.attention = self._attention(attention or {}, width * block.expansion)
        _initialise(self)
        if frozen_norm:
            _freeze_norms(self)

    def forward(self, images: Tensor) -> Tensor:
        """Raises `ArrayError` when images are not (N, 3, H, W)."""
        check_images(images, 1)
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for name in self.layers:
            maps = getattr(self, name)(maps)
            if name in self.attention:
                maps = self.attention[name](maps)
        found: Tensor = maps
        return found

    def train(self, mode: bool = True) -> ResNet:
        """As in torch, but frozen batch normalisation stays as it is."""
        super().train(mode)
        if self.frozen_norm:
            _freeze_norms(self)
        return self

    def _attention(self, hidden: Mapping[str, int], first: int) -> nn.ModuleDict:
        unknown = sorted(set(hidden) - set(self.layers))
        if unknown:
            raise UsageError(f"attention behind {unknown[0]}: this network has {', '.join(self.layers)}")
        channels = {name: first * 2**place for place, name in enumerate(self.layers)}
        return nn.ModuleDict({name: SecondOrderAttention(channels[name], size) for name, size in hidden.items()})


def trunk_backbone(
    module: nn.Module,
    name: str,
    *,
    mean: Triple = IMAGENET_MEAN,
    std: Triple = IMAGENET_STD,
    sha256: str = "",
    licence: str = "unknown",
    precision: Precision = "float32",
    device: str | None = None,
) -> Backbone:
    """A trunk (`ResNet`, `resight.features.networks.vgg.Vgg16`) as a `Backbone`: numpy in, numpy out, no gradients.

    It is copied, put into evaluation mode, its batch normalisation folded into the convolutions, its memory laid out
    channels last. `device`: of torch; None for the chosen one (`resight.features.networks.device`). `precision`
    "bfloat16" and "float16" halve memory and are faster on a GPU, and on a CPU only where that has instructions for
    them. Of a ResNet-50 with random weights, GeM descriptors in bfloat16 have a cosine of at least 0.999 with those in
    float32; folding changes them by less than 1e-5. Raises `UsageError` on another precision.
    """
    if precision not in DTYPES:
        raise UsageError(f"precision={precision!r}: give one of {', '.join(DTYPES)}")
    place = torch.device(device or torch_device(None, torch.cuda.is_available))
    ready = fold_norms(copy.deepcopy(module).eval())
    ready = ready.requires_grad_(False).to(place, DTYPES[precision]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def forward(batch: Float32) -> Float32:
        images = torch.from_numpy(np.ascontiguousarray(batch, np.float32)).to(place, DTYPES[precision])
        maps: Float32 = ready(images.contiguous(memory_format=torch.channels_last)).float().contiguous().cpu().numpy()
        return maps

    return Backbone(
        name=name,
        channels=int(module.channels),  # type: ignore[arg-type]
        stride=int(module.stride),  # type: ignore[arg-type]
        sha256=sha256,
        forward=forward,
        mean=mean,
        std=std,
        licence=licence,
    )


def fold_norms(module: nn.Module) -> nn.Module:
    """Fold the batch normalisation of a trunk in evaluation mode into the convolutions before it, in place."""
    for inner in list(module.modules()):
        for number in ("", "1", "2", "3"):
            _fold(inner, f"conv{number}", f"bn{number}")
        if isinstance(inner, nn.Sequential):
            _fold(inner, "0", "1")
    return module


def check_images(images: Tensor, least: int) -> None:
    """Raise `ArrayError` unless `images` are (N, 3, H, W) with sides of at least `least` pixels."""
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < least:
        raise ArrayError(f"images have shape {tuple(images.shape)}, expected (N, 3, H, W) of at least {least} pixels")


def _fold(owner: nn.Module, convolution: str, norm: str) -> None:
    first, second = getattr(owner, convolution, None), getattr(owner, norm, None)
    if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
        setattr(owner, convolution, fuse_conv_bn_eval(first, second))
        setattr(owner, norm, nn.Identity())


def _check_options(architecture: str, stage: str, last_stride: int, dilation: int, width: int) -> None:
    if architecture not in BLOCKS:
        raise UsageError(f"architecture {architecture!r} is not known: give one of {', '.join(BLOCKS)}")
    if stage not in STAGES:
        raise UsageError(f"stage={stage!r}: give C4 or C5")
    if last_stride not in (1, 2) or dilation < 1 or width < 1:
        raise UsageError(f"last_stride={last_stride} must be 1 or 2, dilation={dilation} and width={width} at least 1")
    if stage == "C4" and (last_stride, dilation) != (2, 1):
        raise UsageError("last_stride and dilation belong to C5, and this network ends at C4")


def _initialise(module: nn.Module) -> None:
    for name, inner in module.named_modules():
        # on the device "meta" there is nothing to fill, and torch would import a second's worth of modules for it
        if isinstance(inner, nn.Conv2d) and not inner.weight.is_meta and not name.startswith("attention."):
            nn.init.kaiming_normal_(inner.weight, mode="fan_out", nonlinearity="relu")


def _freeze_norms(module: nn.Module) -> None:
    for inner in module.modules():
        if isinstance(inner, nn.BatchNorm2d):
            inner.eval().requires_grad_(False)
