"""The learning curve of a local descriptor: mAP of ASMK on INRIA Holidays against pairs seen, RootSIFT beside it.

    python benchmarks/patch_curve.py PHOTOS OUT/62464.pth OUT/124928.pth ... --number 150

All descriptors are taken of the same key points, those of `sift-hardnet`, turned and sized alike; RootSIFT sees its own
radius of 3 * sqrt(3) sigmas. Photos are named by group * 100 + number. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from patch_pairs import SIGMAS, frames

from resight.evaluation.significance import compare
from resight.features.local.encoders import SIFT_WORDS
from resight.features.local.hessian_affine import RADIUS, brightness
from resight.features.local.hessian_affine import SIZE as SIFT_SIZE
from resight.features.local.patch_networks import descriptor
from resight.features.local.patch_sift import sift
from resight.features.local.patches import extract, pyramid
from resight.features.local.rootsift import root
from resight.images.decode import decode
from resight.index.asmk import Asmk
from resight.index.codebook import Codebook
from resight.precision import average_precision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("weights", type=Path, nargs="*")
    parser.add_argument("--number", type=int, default=150, help="of photos, the first by name")
    parser.add_argument("--count", type=int, default=1000, help="key points of a photo")
    args = parser.parse_args()
    files = sorted(args.photos.glob("*.jpg"))[: args.number]
    numbers = np.array([int(file.stem) for file in files])
    made = [patches_of(file, args.count) for file in files]
    print("| descriptor | mAP | against RootSIFT | p | ms for 1000 patches |\n|---|--:|--:|--:|--:|")
    plain, spent = judged(lambda one: root(sift(one[1].astype(np.float32))), made, numbers)
    print(f"| RootSIFT | {100 * plain.mean():.1f} | | | {spent:.0f} |", flush=True)
    for path in args.weights:
        network = descriptor(str(path))
        ap, spent = judged(lambda one, run=network: run(one[0].astype(np.float32)), made, numbers)
        told = compare(ap, plain, seed=0)
        row = (
            path.stem,
            f"{100 * ap.mean():.1f}",
            f"{100 * told.difference:+.1f}",
            f"{told.p_value:.3f}",
            f"{spent:.0f}",
        )
        print(f"| {' | '.join(row)} |", flush=True)


def patches_of(file: Path, count: int) -> tuple[Any, Any]:
    """What networks (n, 32, 32) uint8 and what RootSIFT (n, 41, 41) float16 see of the key points of a photo."""
    gray, _ = brightness(decode(file).pixels, 1024, 512)
    found = frames(gray, count)
    wide = extract(pyramid(gray), found.xy, found.shapes * np.float32(RADIUS / SIGMAS), SIFT_SIZE)
    return found.patches, wide.astype(np.float16)


def judged(describe: Callable[..., Any], made: Sequence[Any], numbers: Any) -> tuple[Any, float]:
    """Average precision (Q,) of the queries, photos whose number is 0, and processor milliseconds of 1000 patches."""
    began = time.process_time()
    rows = [describe(one).astype(np.float32) for one in made]
    spent = 1e6 * (time.process_time() - began) / sum(map(len, rows))
    index = Asmk(Codebook.fit(np.concatenate(rows), round(SIFT_WORDS * sum(map(len, rows)) ** 0.5 / 2), seed=0))
    index.add(np.repeat(np.arange(len(rows)), [len(one) for one in rows]), np.concatenate(rows))
    group = numbers // 100
    queries = np.flatnonzero((numbers % 100 == 0) & (np.bincount(group)[group] > 1))
    own = np.repeat(np.arange(len(queries)), [len(rows[row]) for row in queries])
    ids = index.search(own, np.concatenate([rows[row] for row in queries]), len(rows), queries=len(queries)).ids
    there, ids = ids >= 0, np.maximum(ids, 0)
    other = there & (ids != queries[:, None])
    relevant = (group[ids] == group[queries][:, None]) & other
    return average_precision(relevant, np.bincount(group)[group[queries]] - 1, other), spent


if __name__ == "__main__":
    main()
