"""A wall with a print of the object among other prints, and things that stand before it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from resight.demo import textures
from resight.demo.camera import Homography, corners, develop, photograph, project, random_view, translation

Pixels = NDArray[np.uint8]

WALL = 1500  # pixels a side, in the scale of the print
_TEXTURE = 750  # surfaces are drawn at half that and enlarged: a wall needs no finer detail than the print


def shoot(
    rng: Generator,
    picture: Pixels | None,
    occluders: Sequence[Pixels],
    photo_size: tuple[int, int],
    level: float,
) -> tuple[Pixels, Homography]:
    """Hang `picture` (H, W, 3) in a random scene and photograph it; None gives a scene without it.

    Returns the photo (h, w, 3) uint8, `photo_size` being (w, h), and the homography (3, 3) from picture to photo
    pixels. `level` 0..1 is the difficulty; pieces of `occluders` cover parts of the picture from level 0.25 on.
    """
    height, width = (400, 540) if picture is None else picture.shape[:2]
    bare = _wall(rng)
    wall = bare.copy()
    left, top = (WALL - width) // 2, (WALL - height) // 2
    _hang_neighbours(rng, wall, (left, top, left + width, top + height))
    if picture is not None:
        _hang(rng, wall, picture, left, top)
    view = random_view(rng, (width, height), photo_size, level)
    scene = photograph(wall, bare, view @ translation(-left, -top), photo_size)
    if picture is not None and level > 0.25:
        outline = project(view, corners(width, height))
        for _ in range(int(rng.integers(0, 3))):
            _occlude(rng, scene, outline, occluders)
    return develop(rng, scene, level), view


def _wall(rng: Generator) -> Pixels:
    surface = textures.SURFACES[int(rng.integers(len(textures.SURFACES)))](rng, _TEXTURE, _TEXTURE)
    return np.asarray(cv2.resize(surface, (WALL, WALL), interpolation=cv2.INTER_LINEAR), np.uint8)


def _hang_neighbours(rng: Generator, wall: Pixels, kept: tuple[int, int, int, int]) -> None:
    """Hang a few unique posters on `wall`, in place, clear of the box `kept` (left, top, right, bottom)."""
    for _ in range(int(rng.integers(2, 7))):
        width, height = (int(side) for side in rng.integers(140, 380, 2))
        left, top = int(rng.integers(20, WALL - width - 20)), int(rng.integers(20, WALL - height - 20))
        gap = 45
        apart = (
            left + width + gap < kept[0] or left - gap > kept[2] or top + height + gap < kept[1] or top - gap > kept[3]
        )
        if apart:
            _hang(rng, wall, textures.poster(rng, height, width), left, top)


def _hang(rng: Generator, wall: Pixels, picture: Pixels, left: int, top: int) -> None:
    """Put a print with a margin and a soft shadow on `wall`, in place, its picture at (left, top)."""
    height, width = picture.shape[:2]
    margin, fall = int(rng.integers(0, 24)), int(rng.integers(4, 14))
    y0, y1, x0, x1 = top - margin, top + height + margin, left - margin, left + width + margin
    reach = 3 * fall
    shade = np.zeros((y1 - y0 + 2 * reach, x1 - x0 + 2 * reach), np.float32)
    shade[reach + fall // 2 : reach + fall // 2 + y1 - y0, reach + fall // 2 : reach + fall // 2 + x1 - x0] = 0.6
    shade = cv2.GaussianBlur(shade, (0, 0), fall / 2)
    rows = slice(max(0, y0 - reach), min(WALL, y1 + reach))
    columns = slice(max(0, x0 - reach), min(WALL, x1 + reach))
    part = shade[
        rows.start - y0 + reach : rows.stop - y0 + reach, columns.start - x0 + reach : columns.stop - x0 + reach
    ]
    wall[rows, columns] = (wall[rows, columns] * (1 - part)[..., None]).astype(np.uint8)
    wall[max(0, y0) : y1, max(0, x0) : x1] = rng.integers(200, 250)
    wall[top : top + height, left : left + width] = picture


def _occlude(rng: Generator, scene: Pixels, outline: NDArray[np.float64], occluders: Sequence[Pixels]) -> None:
    """Put a piece of another picture, a card or a round thing, before the outline (4, 2), in place."""
    size = int(rng.uniform(0.2, 0.45) * np.sqrt(cv2.contourArea(outline.astype(np.float32))))
    size = int(np.clip(size, 24, min(scene.shape[:2])))
    weights = rng.dirichlet(np.ones(4))
    centre = (weights @ outline).round()
    piece = _piece(rng, occluders, size)
    mask = np.zeros((size, size), np.float32)
    if rng.random() < 0.5:
        cv2.circle(mask, (size // 2, size // 2), size // 2 - 2, 1.0, -1, cv2.LINE_AA)
    else:
        box = cv2.boxPoints(((size / 2, size / 2), (size * 0.8, size * rng.uniform(0.3, 0.6)), rng.uniform(0, 180)))
        cv2.fillPoly(mask, [box.round().astype(np.int32)], 1.0, cv2.LINE_AA)
    mask = cv2.GaussianBlur(mask, (0, 0), 1.0)
    x = int(np.clip(centre[0] - size // 2, 0, scene.shape[1] - size))
    y = int(np.clip(centre[1] - size // 2, 0, scene.shape[0] - size))
    before = scene[y : y + size, x : x + size].astype(np.float32)
    scene[y : y + size, x : x + size] = (before + (piece - before) * mask[..., None]).astype(np.uint8)


def _piece(rng: Generator, occluders: Sequence[Pixels], size: int) -> NDArray[np.float32]:
    """A square cut from a random place of a random picture, turned, mirrored and tinted: (size, size, 3) float32."""
    picture = occluders[int(rng.integers(len(occluders)))]
    height, width = picture.shape[:2]
    side = int(rng.uniform(0.4, 0.9) * min(height, width))
    x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
    piece = np.rot90(picture[y : y + side, x : x + side], int(rng.integers(4)))
    piece = cv2.resize(np.ascontiguousarray(piece), (size, size), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    tint = np.asarray(textures.colour(rng, saturation=0.4), np.float32) / 255
    return np.asarray(piece * (0.3 + 0.7 * tint), np.float32)
