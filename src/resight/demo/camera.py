"""A pinhole camera before a flat wall, and what light, lens, sensor and file do to the picture.

Points follow the half-pixel rule: the centre of the top-left pixel is (0.5, 0.5), its outer corner (0, 0).
`level` runs from 0 (an easy photo) to 1 (a hard one).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Float = NDArray[np.float32]
Homography = NDArray[np.float64]

_FOCAL = 1.25  # in longer photo sides: with the largest tilt and shift the horizon stays out of the frame
_SUPERSAMPLING = 2  # a wall seen from afar would alias otherwise


def translation(x: float, y: float) -> Homography:
    """The homography (3, 3) that moves points by (x, y) pixels."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def project(homography: Homography, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map points (n, 2) by a homography (3, 3) to (n, 2)."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ homography.T
    return mapped[:, :2] / mapped[:, 2:]


def corners(width: float, height: float) -> NDArray[np.float64]:
    """The outer corners (4, 2) of a picture, clockwise from the top left."""
    return np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])


def random_view(rng: Generator, size: tuple[int, int], photo_size: tuple[int, int], level: float) -> Homography:
    """A random viewpoint on a flat object: the homography (3, 3) from object to photo pixels.

    `size` and `photo_size` are (width, height). The tilt away from the frontal view reaches 10 degrees at level 0 and
    52 at level 1, the roll some 5 and 20; the object spans 0.6 to 0.9 of the photo at level 0, 0.35 to 1.4 at level 1.
    """
    tilt = np.radians(rng.uniform(0.3, 1.0) * (10 + 42 * level))
    axis = rng.uniform(0, 2 * np.pi)
    roll = np.radians(rng.normal(0, 5 + 15 * level))
    span = np.exp(rng.uniform(np.log(0.6 - 0.25 * level), np.log(0.9 + 0.5 * level)))
    shift = rng.uniform(-1, 1, 2) * (0.03 + 0.17 * level) * np.asarray(photo_size)
    rotation = cv2.Rodrigues(np.array([0, 0, roll]))[0]
    rotation = cv2.Rodrigues(tilt * np.array([np.cos(axis), np.sin(axis), 0]))[0] @ rotation
    focal = _FOCAL * max(photo_size)
    distance = focal / span * max(size[0] / photo_size[0], size[1] / photo_size[1])
    centre = np.asarray(photo_size) / 2 + shift
    intrinsic = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    pose = np.column_stack([rotation[:, :2], [0, 0, distance]])
    homography = intrinsic @ pose @ translation(-size[0] / 2, -size[1] / 2)
    return np.asarray(homography / homography[2, 2], np.float64)


def photograph(wall: Pixels, bare: Pixels, homography: Homography, photo_size: tuple[int, int]) -> Pixels:
    """Look at `wall` (H, W, 3) through `homography` (wall to photo pixels): (h, w, 3) uint8.

    Past the rim of the wall its `bare` surface (H, W, 3) goes on, mirrored: it carries no second copy of a print.
    """
    fine = np.diag([_SUPERSAMPLING, _SUPERSAMPLING, 1.0]) @ homography
    indices = translation(-0.5, -0.5) @ fine @ translation(0.5, 0.5)  # OpenCV counts from pixel centres
    size = (photo_size[0] * _SUPERSAMPLING, photo_size[1] * _SUPERSAMPLING)
    seen = cv2.warpPerspective(bare, indices, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    cv2.warpPerspective(wall, indices, size, dst=seen, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)
    return np.asarray(cv2.resize(seen, photo_size, interpolation=cv2.INTER_AREA), np.uint8)


def develop(rng: Generator, scene: Pixels, level: float) -> Pixels:
    """Light, lens and sensor: uneven light, exposure, gamma, colour cast, glare, blur, vignette, noise; same shape."""
    light = _uneven_light(rng, scene.shape[0], scene.shape[1], level)
    cast = np.exp(rng.normal(0, 0.02 + 0.05 * level, 3)).astype(np.float32)
    gain = np.float32(np.exp(np.clip(rng.normal(0, 0.08 + 0.3 * level), -0.8, 0.3)))
    gamma = np.float32(np.exp(np.clip(rng.normal(0, 0.06 + 0.22 * level), -0.5, 0.5)))
    seen = np.power(scene.astype(np.float32) / 255, gamma) * (light[..., None] * (gain * cast))
    seen = _blurred(rng, seen, level)
    noise = rng.standard_normal(seen.shape, np.float32) * np.float32((1 + rng.uniform(0, 9) * level) / 255)
    seen = np.clip(seen + noise * np.sqrt(0.2 + np.clip(seen, 0, 1)), 0, 1)
    return np.asarray((seen * 255).round(), np.uint8)


def jpeg_quality(rng: Generator, level: float) -> int:
    """A JPEG quality: some 92 at level 0, 35 to 90 at level 1."""
    return int(92 - rng.uniform(0, 57) * level)


def _uneven_light(rng: Generator, height: int, width: int, level: float) -> Float:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.1 + 0.3 * level)
    light = 1 + slope * (np.cos(angle) * x + np.sin(angle) * y) - rng.uniform(0.05, 0.2) * (x * x + y * y)
    if rng.random() < 0.35 * level:
        spot, spread = rng.uniform(-0.7, 0.7, 2), rng.uniform(0.1, 0.3)
        light += rng.uniform(0.4, 1.0) * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / (2 * spread**2))
    return np.asarray(light, np.float32)


def _blurred(rng: Generator, seen: Float, level: float) -> Float:
    if rng.random() < 0.3 * level:
        length, angle = int(rng.integers(3, 8)), rng.uniform(0, np.pi)
        kernel = np.zeros((15, 15), np.float32)
        reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        start, end = (7 - reach).round().astype(int), (7 + reach).round().astype(int)
        cv2.line(kernel, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), 1.0)
        return np.asarray(cv2.filter2D(seen, -1, kernel / kernel.sum()), np.float32)
    return np.asarray(cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.3, 0.6 + 1.2 * level)), np.float32)
