"""Surfaces and prints drawn from random numbers: no two are alike, so they never make two photos match."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Float = NDArray[np.float32]


def fractal(rng: Generator, height: int, width: int, cells: tuple[int, int] = (4, 4), octaves: int = 6) -> Float:
    """Noise of many scales, (height, width) float32 in 0..1, from a grid of `cells` (rows, columns) on."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        grid = rng.random((min(cells[0] << octave, height), min(cells[1] << octave, width)), np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(0.62**octave)
    low, high = float(total.min()), float(total.max())
    return (total - low) / np.float32(max(high - low, 1e-6))


def plaster(rng: Generator, height: int, width: int) -> Pixels:
    """A rough painted wall, (height, width, 3) uint8."""
    shade = 0.75 + 0.35 * fractal(rng, height, width, (3, 3), 8)
    return _shaded(colour(rng, saturation=0.18), shade + _grain(rng, height, width, 0.05))


def wood(rng: Generator, height: int, width: int) -> Pixels:
    """Planks with grain, (height, width, 3) uint8."""
    plank = int(rng.integers(110, 220))
    shade = 0.55 + 0.5 * fractal(rng, height, width, (48, 2), 4)
    rows = np.arange(height)
    shade *= rng.uniform(0.75, 1.15, height // plank + 1).astype(np.float32)[rows // plank, None]
    shade[rows % plank < 3] *= 0.4
    hue = rng.uniform(12, 24)
    return _shaded(_hsv(hue, rng.uniform(0.3, 0.6), rng.uniform(0.5, 0.9)), shade + _grain(rng, height, width, 0.04))


def paving(rng: Generator, height: int, width: int) -> Pixels:
    """Irregular stones with dark joints (a Voronoi diagram), (height, width, 3) uint8."""
    count = int(rng.integers(80, 400))
    seeds = np.full((height, width), 255, np.uint8)
    seeds[rng.integers(0, height, count), rng.integers(0, width, count)] = 0
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    shade = rng.uniform(0.6, 1.1, int(labels.max()) + 1).astype(np.float32)[labels]
    joints = cv2.morphologyEx(labels.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    shade[joints] = 0.35
    shade = cv2.GaussianBlur(shade, (0, 0), 1.2) * (0.7 + 0.4 * fractal(rng, height, width, (8, 8), 6))
    return _shaded(colour(rng, saturation=0.2), shade + _grain(rng, height, width, 0.04))


def terrazzo(rng: Generator, height: int, width: int) -> Pixels:
    """Chips of a few colours in cement, (height, width, 3) uint8."""
    image = plaster(rng, height, width)
    chips = [colour(rng, saturation=0.4) for _ in range(4)]
    for _ in range(height * width // 2500):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        corners = rng.uniform(0.4, 1.0, 6) * rng.uniform(4, 18)
        turn = np.linspace(0, 2 * np.pi, 7)[:6] + rng.uniform(0, 1)
        polygon = np.stack([centre[0] + corners * np.cos(turn), centre[1] + corners * np.sin(turn)], axis=1)
        cv2.fillPoly(image, [polygon.round().astype(np.int32)], chips[int(rng.integers(4))], cv2.LINE_AA)
    return image


def poster(rng: Generator, height: int, width: int) -> Pixels:
    """An abstract print: shapes, strokes and invented words over a tint, (height, width, 3) uint8."""
    image = _shaded(colour(rng, saturation=0.7), 0.7 + 0.4 * fractal(rng, height, width, (2, 2), 3))
    for _ in range(int(rng.integers(12, 30))):
        _draw_shape(rng, image)
    for _ in range(int(rng.integers(1, 5))):
        word = "".join(chr(letter) for letter in rng.integers(97, 123, int(rng.integers(3, 9))))
        place = (int(rng.integers(0, max(1, width // 2))), int(rng.integers(height // 8, height)))
        size, thick = float(rng.uniform(0.8, 2.4)), int(rng.integers(1, 5))
        cv2.putText(image, word, place, int(rng.integers(0, 8)), size, colour(rng), thick, cv2.LINE_AA)
    return _shaded((255.0, 255.0, 255.0), image / 255.0 * (0.9 + _grain(rng, height, width, 0.04))[..., None])


SURFACES = (plaster, wood, paving, terrazzo)


def colour(rng: Generator, saturation: float = 1.0) -> tuple[float, float, float]:
    """A random RGB colour in 0..255, at most that saturated."""
    return _hsv(rng.uniform(0, 180), rng.uniform(0, saturation), rng.uniform(0.35, 1.0))


def _hsv(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    pixel = np.array([[[hue, saturation * 255, value * 255]]], np.uint8)
    red, green, blue = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return float(red), float(green), float(blue)


def _grain(rng: Generator, height: int, width: int, strength: float) -> Float:
    return rng.standard_normal((height, width), np.float32) * np.float32(strength)


def _shaded(tint: tuple[float, float, float], shade: NDArray[np.floating]) -> Pixels:
    shade = shade if shade.ndim == 3 else shade[..., None]
    return np.asarray(np.clip(shade * np.asarray(tint, np.float32), 0, 255), np.uint8)


def _draw_shape(rng: Generator, image: Pixels) -> None:
    height, width = image.shape[:2]
    ink = colour(rng)
    x, y = int(rng.integers(width)), int(rng.integers(height))
    radius = int(rng.uniform(0.03, 0.25) * min(height, width))
    kind = rng.integers(4)
    if kind == 0:
        axes = (radius, max(2, int(radius * rng.uniform(0.3, 1))))
        cv2.ellipse(image, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, ink, -1, cv2.LINE_AA)
    elif kind == 1:
        polygon = rng.normal((x, y), radius, (int(rng.integers(3, 6)), 2)).round().astype(np.int32)
        cv2.fillPoly(image, [polygon], ink, cv2.LINE_AA)
    elif kind == 2:
        cv2.circle(image, (x, y), radius, ink, int(rng.integers(2, 12)), cv2.LINE_AA)
    else:
        end = rng.integers(0, (width, height))
        cv2.line(image, (x, y), (int(end[0]), int(end[1])), ink, int(rng.integers(2, 10)), cv2.LINE_AA)
