"""Networks that are trained: a trunk, and what makes one descriptor of its maps, or local ones that a sum stands for.

`forward` gives L2-normalised descriptors (N, D) in single precision, which losses compare; FIRe's gives super-features.
Batch normalisation of the trunk is frozen, as retrieval models are fine-tuned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from resight.errors import UsageError
from resight.features import pooling
from resight.features.checkpoints.checkpoint import build_trunk, without_last_stage
from resight.features.checkpoints.readers import read_checkpoint
from resight.features.local import how
from resight.features.local.context import Context
from resight.features.local.delg import LocalAttention
from resight.features.local.fire import FeatureIntegration
from resight.features.networks.backbone import IMAGENET_MEAN, IMAGENET_STD, Triple
from resight.features.networks.onnx_trunk import open_onnx_trunk
from resight.features.networks.resnet import ResNet
from resight.features.networks.second_order import SecondOrderAttention

Pool = Literal["gem", "mac", "spoc", "rmac"]
GEM_P = 3.0
PASS_PIXELS = {"float32": 2**17, "bfloat16": 2**19}  # of one pass with gradients on a CPU: more leave its caches


@dataclass(frozen=True, eq=False)
class Start:
    """A trunk to begin from: its module, with `channels` and `stride`, the name of its `architecture` ("graph" for an
    ONNX network), the `mean` and `std` of RGB that its images lack, and the SHA-256 of its file."""

    trunk: nn.Module
    architecture: str
    mean: Triple
    std: Triple
    sha256: str

    @property
    def channels(self) -> int:
        """C of its maps."""
        return int(self.trunk.channels)  # type: ignore[arg-type]


def open_start(backbone: Path | None, weights: Path | None, *, local: bool = False) -> Start:
    """The trunk of an ONNX file, or of a checkpoint of torch; for `local` descriptors, bottleneck ResNets end after C4.

    Raises `UsageError` unless one of the two is given, and when it cannot be read or trained.
    """
    from resight.features.fingerprint import file_sha256

    if (backbone is None) == (weights is None):
        raise UsageError("a training starts from one network: give --backbone FILE.onnx, or --weights of a checkpoint")
    if backbone is not None:
        trunk = open_onnx_trunk(backbone)
        return Start(trunk, "graph", IMAGENET_MEAN, IMAGENET_STD, file_sha256(backbone))
    assert weights is not None
    found = read_checkpoint(weights)
    if local:
        found = without_last_stage(found)
    built = build_trunk(found)
    if isinstance(built, ResNet):
        built.frozen_norm = True
        for inner in built.modules():
            if isinstance(inner, nn.BatchNorm2d):
                inner.requires_grad_(False)
    return Start(built, found.architecture, found.mean, found.std, found.sha256)


class Precise(nn.Module):
    """What runs a trunk, in bfloat16 where that is asked for; all behind it computes in single precision.

    `pass_pixels`: of the images that go through it together in a pass with gradients, None for any number.
    """

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.run: Callable[[Tensor], Tensor] = trunk  # replaced when it is compiled
        self.pass_pixels: int | None = PASS_PIXELS["float32"]

    def maps(self, images: Tensor) -> Tensor:
        """Feature maps (N, C, H, W) float32."""
        with self.autocast():
            found = self.run(images)
        return found.float()


class GlobalNetwork(Precise):
    """One descriptor for an image: pooled maps, L2-normalised, then a layer that whitens, L2-normalised again.

    `pool`: "gem" has a learned exponent `p`. `regional`: maps are pooled in the regions of R-MAC, each whitened by a
    layer, and summed. `dim`: of the last layer, None for none; it starts as the identity, cut to `dim`. `normalise`:
    whether vectors are normalised before it.
    """

    def __init__(
        self,
        trunk: nn.Module,
        pool: Pool = "gem",
        *,
        p: float = GEM_P,
        regional: bool = False,
        dim: int | None = None,
        normalise: bool = True,
    ) -> None:
        super().__init__(trunk)
        channels = int(trunk.channels)  # type: ignore[arg-type]
        self.pool, self.regional, self.normalise = pool, regional, normalise
        self.p = nn.Parameter(torch.tensor([float(p)])) if pool == "gem" else None
        self.regions = _identity(channels, channels) if regional else None
        self.linear = None if dim is None else _identity(channels, dim)

    def forward(self, images: Tensor) -> Tensor:
        """Descriptors (N, D) of images (N, 3, H, W)."""
        return self.of_maps(self.maps(images))

    def of_maps(self, maps: Tensor) -> Tensor:
        """Descriptors (N, D) of maps (N, C, H, W)."""
        pooled: Tensor = self._regional(maps) if self.regions is not None else self._pooled(maps)
        if self.linear is None:
            normalised: Tensor = pooling.normalise(pooled)
            return normalised
        whitened: Tensor = self.linear(pooling.normalise(pooled) if self.normalise else pooled)
        result: Tensor = pooling.normalise(whitened)
        return result

    def _pooled(self, maps: Tensor) -> Tensor:
        if self.p is not None:
            found: Tensor = pooling.gem(maps, self.p)
        else:
            found = {"mac": pooling.mac, "spoc": pooling.spoc, "rmac": pooling.rmac}[self.pool](maps)
        return found

    def _regional(self, maps: Tensor) -> Tensor:
        regions = pooling.roi_pool(maps, pool=self._pooled)
        summed: Tensor = pooling.normalise(pooling.sum_regions(regions, self.regions))
        return summed


class SolarNetwork(GlobalNetwork):
    """SOLAR: second-order attention behind a ResNet's layer3 and layer4, which starts as the identity; of the trunk
    nothing else is trained."""

    def __init__(self, trunk: nn.Module, dim: int | None = None) -> None:
        if not isinstance(trunk, ResNet) or trunk.layers[-1] != "layer4":
            raise UsageError("SOLAR attends behind the last two layers of a ResNet: give --weights of one with layer4")
        hidden = {"layer3": 4, "layer4": 2}
        for name, share in hidden.items():
            if name not in trunk.attention:
                channels = trunk.channels // (2 if name == "layer3" else 1)
                trunk.attention[name] = SecondOrderAttention(channels, channels // share)
        super().__init__(trunk, dim=dim)
        for name, parameter in trunk.named_parameters():
            parameter.requires_grad_(name.startswith("attention."))


class DelgNetwork(GlobalNetwork):
    """DELG: GeM of the last maps with p = 3 fixed and a layer; beside it, attention and an autoencoder over layer3's
    maps, which give no gradient to the trunk. `classes` are told apart by both."""

    def __init__(self, trunk: nn.Module, classes: int, dim: int = 2048, reduced: int = 128) -> None:
        if not isinstance(trunk, ResNet) or trunk.layers[-1] != "layer4":
            raise UsageError("DELG looks at the last two layers of a ResNet: give --weights of one with layer4")
        super().__init__(trunk, dim=dim, normalise=False)
        assert self.p is not None
        self.p.requires_grad_(False)
        self.inner: Tensor | None = None
        channels = trunk.channels // 2
        self.attention = LocalAttention(channels)
        self.encode, self.decode = nn.Conv2d(channels, reduced, 1), nn.Conv2d(reduced, channels, 1)
        self.local_classes = nn.Linear(channels, classes)
        self.class_weights = nn.Parameter(torch.empty(classes, dim))
        nn.init.xavier_uniform_(self.class_weights)
        trunk.get_submodule("layer3").register_forward_hook(self._remember)

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors (N, D), and the maps of layer3 (N, C, H, W) without a gradient."""
        vectors = self(images)
        assert self.inner is not None
        inner, self.inner = self.inner.detach().float(), None
        return vectors, inner

    def local_losses(self, maps: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared error of reconstruction, and cross entropy of the classes that attended features tell."""
        rebuilt = functional.relu(self.decode(self.encode(maps)))
        scores, _ = self.attention(maps)
        attended = (functional.normalize(maps, dim=1) * scores[:, None]).mean((2, 3))
        return functional.mse_loss(rebuilt, maps), functional.cross_entropy(self.local_classes(attended), classes)

    def _remember(self, _module: nn.Module, _inputs: Any, maps: Tensor) -> None:
        self.inner = maps


class HowNetwork(Precise):
    """HOW, perhaps with blocks of context: the descriptor of training is the sum of the reduced local descriptors, each
    times its attention. The reduction `weight` (d, C) and `bias` (d,) never changes."""

    def __init__(self, trunk: nn.Module, context: Context, weight: Tensor, bias: Tensor) -> None:
        super().__init__(trunk)
        self.context = context
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.weight: Tensor
        self.bias: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Descriptors (N, d) of images (N, 3, H, W)."""
        return self.of_maps(self.maps(images))

    def of_maps(self, maps: Tensor) -> Tensor:
        """Descriptors (N, d) of maps (N, C, H, W)."""
        seen = self.context.look(maps)
        reduced = self.context.smooth(seen, lambda found: how.reduce(found, self.weight, self.bias))
        vectors: Tensor = how.weighted_sum([reduced], [how.attention(seen.reweighted)])
        return vectors


class FireNetwork(Precise):
    """FIRe: super-features (N, templates, D) of images, and their attention maps (N, templates, H, W)."""

    def __init__(self, trunk: nn.Module, transformer: FeatureIntegration) -> None:
        super().__init__(trunk)
        self.transformer = transformer

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Super-features and attention maps of images (N, 3, H, W)."""
        features, attention = self.transformer(self.maps(images))
        return features, attention


class Summed(nn.Module):
    """Descriptors (N, D) that stand for the super-features of a `FireNetwork` in mining and validation: their sum."""

    def __init__(self, network: FireNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """L2-normalised sums of the super-features of images (N, 3, H, W)."""
        vectors: Tensor = pooling.normalise(self.network(images)[0].sum(1))
        return vectors


def set_precision(network: Precise, precision: str, device: torch.device, *, compiled: bool = False) -> None:
    """Let the trunk run in "bfloat16" or "float32"; "auto": bfloat16 on a GPU that has it. `compiled`: by
    `torch.compile`, whose first steps take minutes. Raises `UsageError` for another precision."""
    if precision not in ("auto", "float32", "bfloat16"):
        raise UsageError(f"precision={precision!r}: give auto, float32 or bfloat16")
    has = device.type == "cuda" and torch.cuda.is_bf16_supported()
    halved = precision == "bfloat16" or (precision == "auto" and has)
    if halved:
        network.autocast = lambda: torch.autocast(device.type, torch.bfloat16)
    network.pass_pixels = PASS_PIXELS["bfloat16" if halved else "float32"] if device.type == "cpu" else None
    network.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiled:
        network.run = torch.compile(network.trunk, dynamic=True)


def weights_of(network: Precise) -> dict[str, Tensor]:
    """The tensors of the file that a trained network becomes (`resight.features.checkpoints.trained`)."""
    parts: dict[str, Mapping[str, Tensor]] = {"trunk": network.trunk.state_dict()}
    if isinstance(network, GlobalNetwork):
        parts |= {"pool": {}} if network.p is None else {"pool": {"p": network.p}}
        if network.linear is not None:
            parts["linear"] = network.linear.state_dict()
        if network.regions is not None:
            parts["parts/region_whitening"] = network.regions.state_dict()
    if isinstance(network, DelgNetwork):
        parts["parts/local_attention"] = network.attention.state_dict()
        parts["parts/autoencoder"] = network.encode.state_dict()
    if isinstance(network, HowNetwork):
        parts["parts/dim_reduction"] = {"weight": network.weight, "bias": network.bias}
    if isinstance(network, FireNetwork):
        parts["parts/lit"] = network.transformer.state_dict()
    found = {f"{part}/{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
    attention = {name: tensor for name, tensor in found.items() if name.startswith("trunk/attention.")}
    for name in attention:  # the layout of published files keeps these apart from the trunk
        layer, _, rest = name.removeprefix("trunk/attention.").partition(".")
        found[f"parts/attention.{layer}/{rest}"] = found.pop(name)
    return {name: tensor.detach() for name, tensor in found.items()}


def _identity(channels: int, dim: int) -> nn.Linear:
    if not 1 <= dim <= channels:
        raise UsageError(f"dim={dim}: a trunk of {channels} channels gives 1 to {channels} dimensions")
    layer = nn.Linear(channels, dim)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(dim, channels))
        layer.bias.zero_()
    return layer
