"""A pretrained network from its file: ONNX (extra `onnx`), or a Hugging Face vision model (extra `transformers`).

Torch trunks with published weights come from `resight.features.checkpoints`. Neither onnxruntime nor torch is imported
before a network of its kind is opened.
"""

from __future__ import annotations

import os
from pathlib import Path

from resight.errors import UsageError
from resight.features.networks.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, Triple
from resight.features.networks.onnx import open_onnx
from resight.features.networks.transformers import open_transformers


def open_backbone(
    path: str | os.PathLike[str], mean: Triple = IMAGENET_MEAN, std: Triple = IMAGENET_STD, *, threads: int = 0
) -> Backbone:
    """Open an ONNX file, or the folder of a Hugging Face model, whose own `mean` and `std` then count.

    `threads`: of onnxruntime, 0 for one per processor.

    Raises `UsageError` when nothing is there, it is of neither kind, or the extra that reads it is not installed.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise UsageError(f"there is no backbone {place}: give an ONNX file, or the folder of a Hugging Face model")
    if place.is_dir():
        return open_transformers(place)
    if place.suffix.lower() != ".onnx":
        raise UsageError(f"{place} is no ONNX file: weights of torch are given with --weights, for a recipe they fit")
    return open_onnx(place, mean, std, threads=threads)
