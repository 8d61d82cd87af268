"""Small photos of generated objects for the tests: several views of each object, and bad files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resight.demo import textures

Pixels = NDArray[np.uint8]
HEIGHT, WIDTH = 240, 320
SMALL = {"count": 150, "words": 64, "enlarge_below": 0}  # settings that make small collections fast


def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Pixels:
    """One object, (height, width, 3) uint8: a print or a floor that no other seed resembles."""
    rng = np.random.default_rng(seed)
    draw = (textures.poster, textures.terrazzo, textures.paving)[seed % 3]
    return draw(rng, height, width)


def homography(seed: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.float64]:
    """A mild change of viewpoint, (3, 3); seed 0 changes nothing."""
    rng = np.random.default_rng((7, seed))
    corners = np.float32([(0, 0), (width, 0), (width, height), (0, height)])
    moved = corners + (rng.uniform(-0.08, 0.08, (4, 2)) * (width, height) if seed else 0)
    return np.asarray(cv2.getPerspectiveTransform(corners, np.float32(moved)), np.float64)


def view(pixels: Pixels, seed: int) -> Pixels:
    """`pixels` from another viewpoint and in other light; seed 0 is the picture itself."""
    if not seed:
        return pixels
    height, width = pixels.shape[:2]
    seen = cv2.warpPerspective(pixels, homography(seed, height, width), (width, height), borderMode=cv2.BORDER_REFLECT)
    light = np.random.default_rng((8, seed)).uniform(0.75, 1.15)
    return np.asarray(np.clip(seen * light, 0, 255), np.uint8)


def save(path: str | os.PathLike[str], pixels: Pixels, quality: int = 92) -> Path:
    """Write a JPEG, or what the suffix of `path` says."""
    Image.fromarray(pixels).save(path, quality=quality)
    return Path(path)


@dataclass(frozen=True)
class Photos:
    """A folder of photos `<object>-<view>.jpg`, and which of them show the same object."""

    folder: Path
    groups: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for group in self.groups for name in group)


def make_photos(folder: Path, objects: int = 4, views: int = 3, first: int = 0) -> Photos:
    """`views` photos of each of `objects` objects, numbered from `first` on; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = []
    for number in range(first, first + objects):
        pixels = picture(number)
        names = tuple(f"{number:03d}-{k}.jpg" for k in range(views))
        for k, name in enumerate(names):
            save(folder / name, view(pixels, k and 100 * number + k))
        groups.append(names)
    return Photos(folder, tuple(groups))


def spoil(folder: Path) -> tuple[str, ...]:
    """Write four files that cannot be decoded: empty, text, random bytes, half a photo; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = save(folder / "half.jpg", picture(999)).read_bytes()
    contents = {
        "empty.jpg": b"",
        "text.jpg": b"not a photo\n" * 40,
        "noise.png": np.random.default_rng(3).integers(0, 256, 4000, np.uint8).tobytes(),
        "half.jpg": whole[: len(whole) // 2],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return tuple(sorted(contents))
