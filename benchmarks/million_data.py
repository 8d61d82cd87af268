"""Vectors by the million with the statistics of real ones: descriptors of random regions of real photos.

    python benchmarks/million_data.py maps PHOTOS... --backbone A.onnx --backbone B.onnx --out maps.npz
    python benchmarks/million_data.py vectors maps.npz OUT.npy --count 1000000 [--dim 512]

`maps` keeps the feature maps of all photos, at most 400 pixels a side, as float16. `vectors` pools random boxes of
them (GeM, p = 3, of each network, joined), every second one together with a box of another photo, takes the mean away,
or with `--dim` whitens by PCA of power 0.5, and writes L2-normalised float16 rows in random order. The last 1000 rows
are meant as queries: no photo of a collection stands for them. Regions of some hundred photos lie closer together than
a million different photos would: recall is an upper bound, bytes and times are real.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from resight.features.networks.open import open_backbone
from resight.features.whitening import fit_pca, from_components
from resight.images.loader import load
from resight.images.scan import scan

SIDE, STRIDE, PARTNERS, TRAINED, QUERIES = 400, 32, 8, 20_000, 1000


def write_maps(options: argparse.Namespace) -> None:
    backbones = [open_backbone(path, threads=1) for path in options.backbone]
    maps = {}
    for loaded in load([photo.path for photo in scan(options.photos).photos]):
        if loaded.decoded is None:
            continue
        pixels = loaded.decoded.pixels
        scale = min(1.0, SIDE / max(pixels.shape[:2]))
        if scale < 1:
            pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        height, width = (side // STRIDE * STRIDE for side in pixels.shape[:2])
        pixels = pixels[:height, :width]  # networks round the size of their maps differently
        image = (pixels.astype(np.float32) / 255 - backbones[0].mean) / backbones[0].std
        batch = np.ascontiguousarray(image.astype(np.float32).transpose(2, 0, 1)[None])
        parts = [one.forward(batch)[0] for one in backbones]
        maps[f"{len(maps):05d}"] = np.concatenate(parts).transpose(1, 2, 0).astype(np.float16)
    np.savez(options.out, **maps)
    print(f"{len(maps)} photos")


def integrals(path: Path) -> list[np.ndarray]:
    """Sums of cubes over all boxes that start at a corner, (H + 1, W + 1, C) float32 per photo."""
    with np.load(path) as maps:
        return [
            np.pad(np.cumsum(np.cumsum(maps[name].astype(np.float32) ** 3, 0), 1), ((1, 0), (1, 0), (0, 0)))
            for name in maps.files
        ]


def boxes(table: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Means of cubes over `count` random boxes of at least 3 x 3 cells, (count, C)."""
    height, width = table.shape[0] - 1, table.shape[1] - 1
    h = rng.integers(min(3, height), height + 1, count)
    w = rng.integers(min(3, width), width + 1, count)
    top, left = (rng.random(count) * (height - h + 1)).astype(int), (rng.random(count) * (width - w + 1)).astype(int)
    total = table[top + h, left + w] - table[top, left + w] - table[top + h, left] + table[top, left]
    return np.maximum(total, 0) / (h * w)[:, None].astype(np.float32)


def pooled(cubes: np.ndarray) -> np.ndarray:
    """GeM of each half of the channels, each of length 1, joined."""
    halves = np.cbrt(cubes).reshape(len(cubes), 2, -1)
    halves /= np.maximum(np.linalg.norm(halves, axis=2, keepdims=True), 1e-12)
    return halves.reshape(len(cubes), -1) / np.float32(2**0.5)


def regions(tables: list[np.ndarray], count: int, rng: np.random.Generator):
    """Blocks of descriptors, `count` in all, photo by photo."""
    for table, share in zip(tables, np.diff(np.linspace(0, count, len(tables) + 1).astype(int)), strict=True):
        cubes = boxes(table, share, rng)
        partners = rng.choice(len(tables), PARTNERS)
        for partner, rows in zip(partners, np.array_split(np.arange(0, share, 2), PARTNERS), strict=True):
            cubes[rows] += boxes(tables[partner], len(rows), rng)
        yield pooled(cubes)


def write_vectors(options: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    tables = integrals(options.maps)
    sample = np.concatenate(list(regions(tables, TRAINED, np.random.default_rng(1))))
    if options.dim:
        whitening = fit_pca(sample, options.dim)
    else:
        whitening = from_components(sample.mean(axis=0), np.eye(sample.shape[1]), np.ones(sample.shape[1]))
    projection, mean = whitening.projection.T.astype(np.float32), whitening.mean.astype(np.float32)
    total = options.count + QUERIES
    out = np.lib.format.open_memmap(options.out, "w+", np.float16, (total, projection.shape[1]))
    order, start = rng.permutation(total), 0
    for block in regions(tables, total, rng):
        moved = (block - mean) @ projection if options.dim else block - mean
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        out[order[start : start + len(block)]] = moved
        start += len(block)
    out.flush()
    print(f"{total} x {out.shape[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    maps = commands.add_parser("maps")
    maps.add_argument("photos", nargs="+")
    maps.add_argument("--backbone", action="append", required=True)
    maps.add_argument("--out", required=True)
    maps.set_defaults(run=write_maps)
    vectors = commands.add_parser("vectors")
    vectors.add_argument("maps", type=Path)
    vectors.add_argument("out")
    vectors.add_argument("--count", type=int, default=1_000_000)
    vectors.add_argument("--dim", type=int, default=0)
    vectors.set_defaults(run=write_vectors)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
