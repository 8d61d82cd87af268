"""Networks of ONNX files (extra `onnx`), without torch; onnxruntime is imported when the first one is opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from resight.arrays import Float32
from resight.errors import UsageError
from resight.extras import needed
from resight.features.fingerprint import file_sha256
from resight.features.networks.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, Output, Triple
from resight.features.networks.device import AUTO, CPU, PROCESSOR, asked_device, onnx_providers
from resight.regular_files import check_regular

PROBE = 128  # pixels of the square that a network of free input size is asked about itself with


def open_onnx(
    path: str | os.PathLike[str], mean: Triple = IMAGENET_MEAN, std: Triple = IMAGENET_STD, *, threads: int = 0
) -> Backbone:
    """Open an ONNX network whose first input is images (N, 3, H, W) float32; its first output is used.

    Whether that is maps, vectors or tokens, and the stride, is found by a trial on a blank image. One thread per image
    would leave processors idle, so `threads` of them work on each batch, 0 for all. Raises `UsageError` when
    onnxruntime is missing, the file is damaged, or the network takes or gives something else.
    """
    place = Path(path)
    session = open_session(place, threads)
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


def open_session(path: Path, threads: int = 0, device: str | None = None) -> Any:
    """The `InferenceSession` of an ONNX file.

    `device`: where it runs, None for the chosen one (`resight.features.networks.device`). `threads`: that work on one
    call, 0 for one per processor. Raises `UsageError` when onnxruntime is missing or lacks the device, the GPU does not
    start, or the file is damaged.
    """
    with needed(os.fspath(path)):
        import onnxruntime
    providers = onnx_providers(onnxruntime.get_available_providers(), device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors come as exceptions; warnings about the graph are of no use to the caller
    try:
        check_regular(path)
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as error:
        if not (isinstance(error, OSError) or of_onnxruntime(error)):
            raise
        raise UsageError(f"{path} cannot be opened as an ONNX network: {str(error).splitlines()[0]}") from error
    asked = asked_device() if device is None else device
    if asked not in (AUTO, CPU) and session.get_providers()[0] == PROCESSOR:
        raise UsageError(
            f"device {asked} was asked for, but {providers[0]} did not start: its driver or libraries are missing; "
            "install them, or leave the device out"
        )
    return session


def of_onnxruntime(error: Exception) -> bool:
    """Whether onnxruntime says what is wrong with a file: its classes have no parent of their own."""
    return type(error).__module__.partition(".")[0] == "onnxruntime"


def _trial(path: Path, forward: Callable[[Float32], Float32], side: int) -> Float32:
    try:
        found = forward(np.zeros((1, 3, side, side), np.float32))
    except Exception as error:
        if not of_onnxruntime(error):
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
