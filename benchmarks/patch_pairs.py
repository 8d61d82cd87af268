"""Pairs of patches to learn a local descriptor from: photos whose licence allows it, and changed versions of them.

    python benchmarks/patch_pairs.py TRAINING PAIRS --warps 2

Each photo below TRAINING is seen again through random homographies (rotation, zoom, perspective) with other brightness,
contrast, sharpness and noise. Key points are those of `sift-hardnet`, found in both versions anew, so that a pair is as
far off in place, size and direction as pairs of two photos are. Only folders whose name states a licence are read:
`..._cc0`, `..._mit`, and `boofcv_...`, which is CC BY 4.0.

Writes into the folder PAIRS: `patches.npy` (n, 2, 32, 32) uint8, `points.npy` (n,) int64, the number of the key point
that both show, and `photos.json`, which photos there are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial import cKDTree

from resight.errors import UsageError
from resight.features.local.hardnet import SIGMAS, SIZE, SiftHardNet
from resight.features.local.hessian_affine import brightness
from resight.features.local.patch_sift import orientations
from resight.features.local.patches import angles, circles, extract, pyramid, turned
from resight.images.decode import decode

SUFFIXES = {".jpg", ".jpeg", ".png"}
# How far the two key points of a pair may lie apart: pixels in units of sigma, octaves, radians
APART, OCTAVES, TURNED = 0.5, 0.4, 0.4


@dataclass(frozen=True, eq=False)
class Frames:
    """Oriented key points: `xy` (n, 2) pixels, `shapes` (n, 2, 2) of their patches, `patches` (n, 32, 32) uint8."""

    xy: Any
    shapes: Any
    patches: Any

    @property
    def radius(self) -> Any:
        return np.sqrt(np.abs(np.linalg.det(self.shapes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--warps", type=int, default=2, help="changed versions of each photo")
    parser.add_argument("--most", type=int, help="photos, drawn at random; all without it")
    parser.add_argument("--count", type=int, default=1000, help="key points of a photo")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    files = licensed(args.photos)
    if args.most is not None and args.most < len(files):
        kept = np.random.default_rng(args.seed).choice(len(files), args.most, replace=False)
        files = [files[row] for row in np.sort(kept)]
    made, points = [], []
    for number, file in enumerate(files):
        rng = np.random.default_rng((args.seed, number))
        patches, own = pairs_of(decode(file).pixels, args.warps, args.count, rng)
        made.append(patches)
        points.append(own + number * args.count)
        if number % 50 == 0:
            print(f"{number} of {len(files)} photos, {sum(map(len, made))} pairs", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    np.save(args.out / "patches.npy", np.concatenate(made))
    np.save(args.out / "points.npy", np.concatenate(points))
    names = [str(file.relative_to(args.photos)) for file in files]
    (args.out / "photos.json").write_text(json.dumps({"seed": args.seed, "warps": args.warps, "photos": names}))
    print(f"{sum(map(len, made))} pairs of {len(np.unique(np.concatenate(points)))} key points, {len(files)} photos")


def licence(folder: str) -> str | None:
    """Under which licence the photos of a folder called `folder` may be learned from, or None."""
    if folder.startswith("boofcv_"):
        return "CC BY 4.0"
    what, _, name = folder.rpartition("_")
    return {"cc0": "CC0", "mit": "MIT"}.get(name) if what else None


def licensed(root: Path) -> list[Path]:
    """The photos below those folders of `root` whose licence allows it, in order. Raises `UsageError` without any."""
    folders = [one for one in sorted(root.iterdir()) if one.is_dir() and licence(one.name)]
    files = [file for one in folders for file in sorted(one.rglob("*")) if file.suffix.lower() in SUFFIXES]
    if not files:
        raise UsageError(f"{root} has no folder of photos whose name states a licence: *_cc0, *_mit or boofcv_*")
    return files


def pairs_of(pixels: Any, warps: int, count: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Patches (n, 2, 32, 32) uint8 of a photo (H, W, 3) uint8, and which of its key points each pair shows (n,)."""
    gray, _ = brightness(pixels, 1024, 512)
    here = frames(gray, count)
    patches, points = [np.empty((0, 2, SIZE, SIZE), np.uint8)], [np.empty(0, np.int64)]
    for _ in range(warps):
        matrix = homography(gray.shape, rng)
        size = gray.shape[1], gray.shape[0]
        there = frames(changed(cv2.warpPerspective(gray, matrix, size, flags=cv2.INTER_LINEAR), rng), count)
        ours, theirs = same(here, there, matrix, gray.shape)
        patches.append(np.stack((here.patches[ours], there.patches[theirs]), axis=1))
        points.append(ours)
    return np.concatenate(patches), np.concatenate(points)


def frames(gray: Any, count: int) -> Frames:
    """The key points of `sift-hardnet` in `gray` (H, W) float32, 0 to 255, with the patches that its network sees."""
    detect, _ = SiftHardNet().detector()
    regions = detect(gray, count)
    levels = pyramid(gray)
    upright = circles(SIGMAS * regions.sigma)
    shapes = turned(upright, orientations(extract(levels, regions.xy, upright, SIZE)))
    patches = extract(levels, regions.xy, shapes, SIZE)
    return Frames(regions.xy, shapes, np.clip(np.rint(patches), 0, 255).astype(np.uint8))


def homography(shape: Sequence[int], rng: np.random.Generator) -> Any:
    """A random view (3, 3): up to 30 degrees, 1.6 times larger or smaller, corners moved by up to a tenth of a side."""
    height, width = shape
    middle, corners = np.array([width, height]) / 2, np.array([[0, 0], [width, 0], [width, height], [0, height]])
    angle, zoom = rng.uniform(-np.pi / 6, np.pi / 6), 1.6 ** rng.uniform(-1, 1)
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (corners - middle) @ turn.T + middle + rng.uniform(-0.1, 0.1, (4, 2)) * (width, height)
    return cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32))


def changed(gray: Any, rng: np.random.Generator) -> Any:
    """`gray` (H, W) float32 in another light, by another camera: gamma, contrast, brightness, blur, noise, JPEG."""
    light = 255 * (np.clip(gray, 0, 255) / 255) ** (1.6 ** rng.uniform(-1, 1))
    light = (light - 128) * rng.uniform(0.6, 1.3) + 128 + rng.uniform(-30, 30)
    blurred = cv2.GaussianBlur(light.astype(np.float32), (0, 0), rng.uniform(0.3, 1.2))
    noisy = blurred + rng.normal(0, rng.uniform(0, 5), gray.shape)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 96))]
    _, coded = cv2.imencode(".jpg", np.clip(np.rint(noisy), 0, 255).astype(np.uint8), quality)
    return cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE).astype(np.float32)


def same(here: Frames, there: Frames, matrix: Any, shape: Sequence[int]) -> tuple[Any, Any]:
    """Rows (n,) of key points `here` and `there` that lie on one another, each the other's nearest, their patches
    wholly inside both images (H, W)."""
    if not len(here.xy) or not len(there.xy):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    xy, shapes = seen_through(here, matrix)
    radius, turn = np.sqrt(np.abs(np.linalg.det(shapes))), angles(shapes)
    distance, nearest = cKDTree(there.xy).query(xy, k=min(4, len(there.xy)))
    nearest, distance = nearest.reshape(len(xy), -1), distance.reshape(len(xy), -1)
    octaves = np.abs(np.log2(there.radius[nearest] / radius[:, None]))
    off = np.abs((angles(there.shapes)[nearest] - turn[:, None] + np.pi) % (2 * np.pi) - np.pi)
    fits = (distance < APART * radius[:, None] / SIGMAS) & (octaves < OCTAVES) & (off < TURNED)
    fits &= (inside(xy, radius, shape) & inside(here.xy, here.radius, shape))[:, None]
    ours = np.flatnonzero(fits.any(axis=1))
    theirs = nearest[ours, fits[ours].argmax(axis=1)]
    _, first = np.unique(theirs, return_index=True)  # one pair for each
    return ours[first], theirs[first]


def seen_through(frames: Frames, matrix: Any) -> tuple[Any, Any]:
    """Where a homography (3, 3) carries key points, and their shapes, by its derivative there."""
    ones = np.concatenate((frames.xy - 0.5, np.ones((len(frames.xy), 1))), axis=1) @ matrix.T
    places = ones[:, :2] / ones[:, 2:]
    derivative = (matrix[:2, :2] - places[:, :, None] * matrix[2, :2]) / ones[:, 2, None, None]
    return places + 0.5, (derivative @ frames.shapes).astype(np.float32)


def inside(xy: Any, radius: Any, shape: Sequence[int]) -> Any:
    low, high = xy - radius[:, None], xy + radius[:, None]
    return (low >= 0).all(axis=1) & (high <= np.array([shape[1], shape[0]])).all(axis=1)


if __name__ == "__main__":
    main()
