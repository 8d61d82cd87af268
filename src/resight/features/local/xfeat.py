"""XFeat: key points and 64-dimensional descriptors of a network small enough for a processor.

Potje, Cadar, Araujo, Martins and Nascimento, "XFeat: accelerated features for lightweight image matching", CVPR 2024.
The network is an ONNX file (extra `onnx`) in one of the two forms in which it is passed on: `keypoints, descriptors,
scores` of photos of one fixed size (sparse), or `keypoints, descriptors, scales` of photos of any size (dense, XFeat*).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from resight.errors import UsageError
from resight.features.fingerprint import file_sha256
from resight.features.local.keypoints import Found, KeypointEncoder, KeypointSettings, finite
from resight.types import Float32

NAME = "XFeat"
DIM = 64
LEAST = 64  # pixels of the shorter side of a photo; smaller ones have no features
WHOLE = 224  # pixels of the shorter side that files of any size see at least: their scales 0.6 and 1.3 give 200 and 800
OUTPUTS = ({"keypoints", "descriptors", "scores"}, {"keypoints", "descriptors", "scales"})


@dataclass(frozen=True)
class XFeatSettings(KeypointSettings):
    """XFeat from an ONNX file, sparse or dense. Settings: see `KeypointSettings`.

    A file of a fixed size sees photos reduced or enlarged into it, grey beside them where their shape is another; one
    of any size sees small photos enlarged. The dense form gives no scores: its points keep the order of the network,
    their strengths are evenly spaced from 1 to 0.
    """

    def open(self) -> KeypointEncoder:
        """The encoder. Raises `UsageError` when onnxruntime is not installed, or the file is missing, damaged or of
        another network."""
        from resight.features.networks.onnx import open_session

        if not self.weights:
            raise UsageError(f"{NAME} is a trained network: give its ONNX file as weights")
        path = Path(self.weights).expanduser()
        session = open_session(path)
        side = _checked(path, session)

        def forward(images: Float32) -> list[Found | None]:
            return [_inside(session, image, side) if side else _whole(session, image) for image in images]

        return KeypointEncoder(NAME, forward, file_sha256(path), self, LEAST, DIM)


def _checked(path: Path, session: Any) -> tuple[int, int] | None:
    """Height and width that the network takes, None for any. Raises `UsageError` unless it is XFeat."""
    names = {output.name for output in session.get_outputs()}
    images = session.get_inputs()[0]
    dims = next((one.shape[-1] for one in session.get_outputs() if one.name == "descriptors"), 0)
    if names not in OUTPUTS or len(images.shape) != 4 or dims != DIM:
        raise UsageError(
            f"{os.fspath(path)} is no {NAME}: it gives {', '.join(sorted(names))}, expected keypoints, descriptors "
            f"(n, {DIM}) and scores or scales of one image"
        )
    height, width = images.shape[2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _points(session: Any, image: Float32) -> Found | None:
    """Key points of an image (3, H, W), strongest first."""
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, {session.get_inputs()[0].name: image[None]}), strict=True))
    xy = found["keypoints"]
    strength = found.get("scores", np.linspace(1, 0, len(xy), endpoint=False, dtype=np.float32))
    return finite(xy, strength, found["descriptors"])


def _whole(session: Any, image: Float32) -> Found | None:
    """Key points of an image that is enlarged where it is small."""
    factor = max(WHOLE / min(image.shape[1:]), 1.0)
    size = round(image.shape[2] * factor), round(image.shape[1] * factor)
    found = _points(session, image if factor == 1 else _resized(image, size))
    return found and (_carried(found[0], size, image), *found[1:])


def _resized(image: Float32, size: tuple[int, int]) -> Float32:
    """An image (3, H, W) at `size`, width and height."""
    way = cv2.INTER_AREA if size[0] < image.shape[2] else cv2.INTER_CUBIC
    rows = cv2.resize(np.ascontiguousarray(image.transpose(1, 2, 0)), size, interpolation=way)
    return np.ascontiguousarray(rows.transpose(2, 0, 1), np.float32)


def _carried(xy: Float32, size: tuple[int, int], image: Float32) -> Float32:
    """Positions in an image of `size` as positions in `image`; both count from the centre of the first pixel."""
    step = np.array([image.shape[2] / size[0], image.shape[1] / size[1]], np.float32)
    return np.asarray((xy + np.float32(0.5)) * step - np.float32(0.5), np.float32)


def _inside(session: Any, image: Float32, side: tuple[int, int]) -> Found | None:
    """Key points of an image that is brought into one of `side` (height, width)."""
    (height, width), (_, rows, columns) = side, image.shape
    factor = min(height / rows, width / columns)
    size = min(width, max(1, round(columns * factor))), min(height, max(1, round(rows * factor)))
    small = _resized(image, size)
    framed = np.empty((3, height, width), np.float32)
    framed[:] = small.mean(axis=(1, 2))[:, None, None]
    framed[:, : size[1], : size[0]] = small
    found = _points(session, framed)
    if found is None:
        return None
    xy, strength, descriptors = found
    kept = (xy < np.array(size) - 1).all(axis=1)  # the others lie in the grey, or on its edge
    return _carried(xy[kept], size, image), strength[kept], descriptors[kept]
