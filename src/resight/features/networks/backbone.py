"""Pretrained networks behind one type: images in, feature maps, vectors or tokens out.

An ONNX file (extra `onnx`) and a folder of a Hugging Face vision model (extra `transformers`) open here; torch trunks
with published weights come from `resight.features.checkpoints`. Neither onnxruntime nor torch is imported before a
network of its kind is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from resight.errors import UsageError
from resight.types import Float32

Output: TypeAlias = Literal["maps", "vectors", "tokens"]
Triple: TypeAlias = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
PROBE = 128  # pixels of the square that a network of free input size is asked about itself with


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network that is ready to run.

    `forward`: images (N, 3, H, W) float32, from which `mean` and `std` of RGB in [0, 1] are removed already, to feature
    maps (N, C, H', W'), vectors (N, C) or tokens (N, T, C), as `output` says, float32. `channels`: C. `stride`: pixels
    per cell of the maps or per patch, 0 for vectors. `prefix`: tokens in front of the patches, such as the class token.
    `side`: the one input side (H = W) that the network takes, None where any is. `multiple`: both sides must be one of
    this. `sha256` of the file or files of weights. `licence`: of the weights, as far as the files say.
    """

    name: str
    channels: int
    stride: int
    sha256: str
    forward: Callable[[Float32], Float32]
    output: Output = "maps"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    licence: str = "unknown"
    prefix: int = 0
    side: int | None = None
    multiple: int = 1

    @property
    def least_side(self) -> int:
        """Pixels that the shorter side of an image must have: one cell of the maps."""
        return max(self.stride, 1)


def open_backbone(path: str | os.PathLike[str], mean: Triple = IMAGENET_MEAN, std: Triple = IMAGENET_STD) -> Backbone:
    """Open an ONNX file, or the folder of a Hugging Face model, whose own `mean` and `std` then count.

    Raises `UsageError` when nothing is there, it is of neither kind, or the extra that reads it is not installed.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise UsageError(f"there is no backbone {place}: give an ONNX file, or the folder of a Hugging Face model")
    if place.is_dir():
        from resight.features.networks.transformers import open_transformers

        return open_transformers(place)
    if place.suffix.lower() != ".onnx":
        raise UsageError(f"{place} is no ONNX file: weights of torch are given with --weights, for a recipe they fit")
    return open_onnx(place, mean, std)


def open_onnx(path: str | os.PathLike[str], mean: Triple = IMAGENET_MEAN, std: Triple = IMAGENET_STD) -> Backbone:
    """Open an ONNX network whose first input is images (N, 3, H, W) float32; its first output is used.

    Whether that is maps, vectors or tokens, and the stride, is found by a trial on a blank image. One thread per image
    would leave processors idle, so all of them work on each batch. Raises `UsageError` when onnxruntime is missing, the
    file is damaged, or the network takes or gives something else.
    """
    place = Path(path)
    session = _session(place)
    images, names = session.get_inputs()[0], [output.name for output in session.get_outputs()[:1]]
    if images.type != "tensor(float)" or len(images.shape) != 4 or images.shape[1] not in (3, "3"):
        kind = f"{images.type} of shape {images.shape}"
        raise UsageError(f"{place} takes {kind}, not float32 images (N, 3, H, W): export it with that input")
    fixed = [side for side in images.shape[2:] if isinstance(side, int)]
    if fixed and fixed[0] != fixed[-1]:
        raise UsageError(f"{place} takes images of {fixed} pixels only: export it for square ones, or for any size")
    side = fixed[0] if fixed else None

    def forward(batch: Float32) -> Float32:
        found: Float32 = session.run(names, {images.name: batch})[0]
        return found

    trial = _trial(place, forward, side or PROBE)
    output: Output = {2: "vectors", 3: "tokens", 4: "maps"}[trial.ndim]  # type: ignore[assignment]
    channels = trial.shape[1] if output != "tokens" else trial.shape[2]
    return Backbone(
        name=place.stem,
        channels=int(channels),
        stride=_stride(trial, side or PROBE),
        sha256=file_sha256(place),
        forward=forward,
        output=output,
        mean=mean,
        std=std,
        licence=session.get_modelmeta().custom_metadata_map.get("licence", "unknown"),
        prefix=1 if output == "tokens" else 0,
        side=side,
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(parts: Any) -> str:
    """SHA-256, hexadecimal, of anything that is JSON: equal settings have equal fingerprints."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(f"{path} needs onnxruntime: pip install 'resight[onnx]'") from error
    faults = onnxruntime.capi.onnxruntime_pybind11_state
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors come as exceptions; warnings about the graph are of no use to the caller
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=onnxruntime.get_available_providers())
    except (
        faults.Fail,
        faults.InvalidProtobuf,
        faults.InvalidGraph,
        faults.NoSuchFile,
        faults.NotImplemented,
    ) as error:
        raise UsageError(f"{path} cannot be opened as an ONNX network: {str(error).splitlines()[0]}") from error


def _trial(path: Path, forward: Callable[[Float32], Float32], side: int) -> Float32:
    try:
        found = forward(np.zeros((1, 3, side, side), np.float32))
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        raise UsageError(f"{path} does not run on an image of {side} x {side} pixels: {error}") from error
    shape = getattr(found, "shape", None)
    if shape is None or len(shape) not in (2, 3, 4) or found.dtype != np.float32:
        raise UsageError(f"{path} gives {getattr(found, 'dtype', type(found))} of shape {shape}: no descriptors")
    if not np.isfinite(found).all():
        raise UsageError(f"{path} answers a blank image with NaN or infinity: its weights are damaged")
    return found


def _stride(trial: Float32, side: int) -> int:
    if trial.ndim == 2:
        return 0
    cells = trial.shape[2] if trial.ndim == 4 else round((trial.shape[1] - 1) ** 0.5)
    return round(side / max(int(cells), 1))
