"""Context for local descriptors, on top of HOW: re-weighting by the whole image, then smoothing by what is around.

Seo and Han, "Improving spatial and semantic context of local descriptors for image retrieval", 2024. The maps X of one
image and scale become X' (`resight.features.local.reweighting`), whose norm is the attention, and then Y
(`resight.features.local.smoothing`), which is reduced and matched as in HOW. The authors' two gains did not add up;
`smoothed` and `confidence_from` are two ways towards that.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from resight.errors import ArrayError, CollectionError, UsageError
from resight.features.local.how import smooth
from resight.features.local.reweighting import AttentionReweighting, CellGraph, GraphReweighting
from resight.features.local.smoothing import START, WINDOWS, LearnableSmoothing, gaussian_smooth
from resight.regular_files import check_regular

FORMAT = "resight-context-1"
MOST = 1 << 16  # channels
Reweighting = Literal["none", "graph", "attention"]
Smoothing = Literal["none", "average", "learnable"]
Reduce = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ContextSettings:
    """Which blocks there are, and their sizes.

    `channels`: C of the maps. `reweighting`: by a graph of the `k` most similar cells with similarities to the `power`,
    by self-attention, or none. `smoothing`: learnable, HOW's average, or none, in windows of `window` positions;
    `start`: how near learnable smoothing begins to the average (`LearnableSmoothing`). `smoothed`: "all" of X', or only
    the "residual" X' - X, which leaves the network's own maps sharp: Y = X + smoothing(X' - X), at the start HOW
    without smoothing. `confidence_from`: what the self-confidence is predicted from, the "maps" X' or the "residual",
    what re-weighting says about each position. Raises `UsageError` on values that no block can have.
    """

    channels: int
    reweighting: Reweighting = "graph"
    smoothing: Smoothing = "learnable"
    window: int = 3
    k: int = 16
    power: float = 3.0
    start: float = START
    smoothed: Literal["all", "residual"] = "all"
    confidence_from: Literal["maps", "residual"] = "maps"

    def __post_init__(self) -> None:
        sources = ("all", "residual"), ("maps", "residual")
        chosen = zip(
            ("reweighting", "smoothing", "smoothed", "confidence_from"),
            (get_args(Reweighting), get_args(Smoothing), *sources),
            strict=True,
        )
        for name, known in chosen:
            if getattr(self, name) not in known:
                raise UsageError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(known)}")
        if self.reweighting == "none" and "residual" in (self.smoothed, self.confidence_from):
            raise UsageError("the residual is what re-weighting adds: choose reweighting graph or attention for it")
        if not 1 <= self.channels <= MOST or self.window not in WINDOWS:
            sizes = f"channels={self.channels}, window={self.window}"
            raise UsageError(f"{sizes}: channels are 1 to {MOST}, windows 3, 5 or 7")
        if not 0 < self.start < 80:  # beyond, e^-start is no float32
            raise UsageError(f"start={self.start} must lie between 0 and 80")


@dataclass(frozen=True, eq=False)
class Seen:
    """What `Context.look` found in maps X (N, C, H, W): `maps` X itself; `reweighted` X', the same tensor without
    re-weighting; `bandwidth` and `confidence` (N, H, W), None without learnable smoothing."""

    maps: Tensor
    reweighted: Tensor
    bandwidth: Tensor | None
    confidence: Tensor | None


class Context(nn.Module):
    """The two blocks in their order. Made anew, it is plain HOW; weights are drawn from `seed`.

    `look` says what it sees, `smooth` what it makes of that; calling the module does both. Attention is to be taken of
    `Seen.reweighted`, before smoothing, as HOW does. Warm up the learning rate when both blocks are trained at once.
    Memory as the blocks say; raises as they do.
    """

    def __init__(self, settings: ContextSettings, seed: int = 0) -> None:
        super().__init__()
        self.settings = settings
        self.reweighting = _reweighting(settings, torch.Generator("cpu").manual_seed(seed))
        learnable = settings.smoothing == "learnable"
        self.smoothing = LearnableSmoothing(settings.channels, settings.window, settings.start) if learnable else None

    @staticmethod
    def identity(channels: int) -> Context:
        """No block at all: HOW without smoothing."""
        return Context(ContextSettings(channels, "none", "none"))

    @staticmethod
    def plain(channels: int) -> Context:
        """HOW as published: the average of windows of 3, which nothing can be learnt of."""
        return Context(ContextSettings(channels, "none", "average"))

    def look(self, maps: Tensor, graphs: Sequence[CellGraph] | None = None) -> Seen:
        """Re-weight maps X (N, C, H, W), and predict how to smooth them. Raises `ArrayError` on another shape.

        `graphs`: of these maps, where they are known (`GraphReweighting.graphs`).
        """
        channels = self.settings.channels
        if maps.ndim != 4 or maps.shape[1] != channels or 0 in maps.shape:
            raise ArrayError(f"feature maps have shape {tuple(maps.shape)}, expected (N, {channels}, H, W)")
        residual = self._residual(maps, graphs)
        reweighted = maps if residual is None else maps + residual
        if self.smoothing is None:
            return Seen(maps, reweighted, None, None)
        source = residual if self.settings.confidence_from == "residual" else None
        return Seen(maps, reweighted, *self.smoothing(reweighted, source))

    def smooth(self, seen: Seen, reduce: Reduce | None = None) -> Tensor:
        """Y (N, d, H, W) of what was seen. `reduce`: an affine map of the channels, applied first, which gives what it
        would give afterwards with C / d times less work."""
        reduced = seen.reweighted if reduce is None else reduce(seen.reweighted)
        if self.settings.smoothed == "all":
            return self._smoothed(seen, reduced)
        sharp = seen.maps if reduce is None else reduce(seen.maps)
        return sharp + self._smoothed(seen, reduced - sharp)

    def forward(self, maps: Tensor, reduce: Reduce | None = None) -> Tensor:
        """Y of maps X: `look`, then `smooth`."""
        return self.smooth(self.look(maps), reduce)

    @property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of settings and weights: equal ones give equal maps."""
        digest = hashlib.sha256(json.dumps(asdict(self.settings), sort_keys=True).encode())
        for name, tensor in sorted(_weights(self).items()):
            digest.update(name.encode())
            digest.update(tensor.numpy().data)
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all. Raises `CollectionError` when that cannot be done."""
        target = Path(path)
        partial = target.with_name(f"{target.name}.{os.getpid()}.part")
        metadata = {"format": FORMAT, "settings": json.dumps(asdict(self.settings)), "sha256": self.fingerprint}
        try:
            save_file(_weights(self), partial, metadata)
            os.replace(partial, target)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            raise CollectionError(f"{target} cannot be written: {error}") from error

    @staticmethod
    def load(path: str | Path) -> Context:
        """Read what `save` wrote. Raises `UsageError` when the file is missing, damaged or something else."""
        try:
            check_regular(path)
            with safe_open(Path(path), "pt") as file:
                metadata = file.metadata() or {}
                known = metadata.get("format") == FORMAT
                tensors = {name: file.get_tensor(name) for name in file.keys()} if known else {}  # noqa: SIM118
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error}") from error
        except SafetensorError as error:
            raise UsageError(f"{path} is no safetensors file ({error}): give one of context blocks") from error
        if not known:
            kind = metadata.get("format", "other weights")
            raise UsageError(f"{path} holds {kind}, expected {FORMAT}: give a file of context blocks")
        try:
            return _built(tensors, metadata)
        except (UsageError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path} is damaged ({error}): train the context blocks again") from error

    def _residual(self, maps: Tensor, graphs: Sequence[CellGraph] | None) -> Tensor | None:
        block = self.reweighting
        if block is None:
            return None
        added: Tensor = block(maps, graphs) if isinstance(block, GraphReweighting) else block(maps)
        return added

    def _smoothed(self, seen: Seen, maps: Tensor) -> Tensor:
        if seen.bandwidth is not None and seen.confidence is not None:
            return gaussian_smooth(maps, seen.bandwidth, seen.confidence, self.settings.window)
        if self.settings.smoothing == "none":
            return maps
        averaged: Tensor = smooth(maps, self.settings.window)
        return averaged


def _reweighting(
    settings: ContextSettings, generator: torch.Generator
) -> GraphReweighting | AttentionReweighting | None:
    if settings.reweighting == "graph":
        return GraphReweighting(settings.channels, settings.k, settings.power, generator)
    return AttentionReweighting(settings.channels, generator) if settings.reweighting == "attention" else None


def _weights(context: Context) -> dict[str, Tensor]:
    """Its parameters as float32 on the processor, by name."""
    return {name: value.detach().float().cpu().contiguous() for name, value in context.state_dict().items()}


def _built(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Context:
    """The context of a file. What the metadata asks for is compared with the tensors before memory is given to it."""
    given: dict[str, Any] = json.loads(metadata["settings"])
    if not isinstance(given, dict) or set(given) != {field.name for field in fields(ContextSettings)}:
        raise ValueError(f"its settings are {given}")
    settings = ContextSettings(**given)
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in Context(settings).state_dict().items()}
    if expected != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
        raise ValueError(f"its tensors are not those of {settings}")
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError("it holds NaN or infinity")
    context = Context(settings)
    context.load_state_dict(tensors)
    if metadata["sha256"] != context.fingerprint:
        raise ValueError("its checksum is wrong")
    return context
