"""Processor time and matches of kinds of local features, beside RootSIFT's in the same run.

    OMP_NUM_THREADS=1 python benchmarks/local_features.py PHOTOS hessian-affine aliked:weights=aliked-n16.pth

PHOTOS holds a folder for each thing. For every kind: seconds per photo and their ratio to RootSIFT; of all pairs of views of one
thing how many geometry proves, and their inliers; and pairs of views of two things that it proves, which should be none.
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from resight.features.local.encoders import open_encoder
from resight.matching.geometry import verify
from resight.types import LocalFeatures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("kinds", nargs="*", help="name, or name:setting=value,setting=value")
    parser.add_argument("--side", type=int, default=512, help="photos are brought to this longer side")
    parser.add_argument("--views", type=int, default=4, help="photos of each thing")
    arguments = parser.parse_args()
    things = [read(folder, arguments.side, arguments.views) for folder in sorted(arguments.photos.iterdir())]
    base = None
    print(f"{'kind':50} seconds  ratio  proven  inliers  wrong")
    for kind in ["rootsift", *arguments.kinds]:
        name, _, settings = kind.partition(":")
        encoder = open_encoder(name, **dict(value(pair) for pair in settings.split(",") if pair))
        encoder(things[0][0])  # opened and compiled
        start = time.process_time()
        found = [[encoder(view) for view in thing] for thing in things]
        seconds = (time.process_time() - start) / sum(map(len, things))
        base = base or seconds
        proven, pairs, inliers, wrong = matches(found)
        label = ",".join([name, *(pair.split("=")[0] for pair in settings.split(",") if pair)])
        print(
            f"{label:50} {seconds:7.3f} {seconds / base:6.1f}  {proven:3d}/{pairs:<3d} {inliers:7d} {wrong:6d}",
            flush=True,
        )


def value(pair: str) -> tuple[str, Any]:
    name, _, text = pair.partition("=")
    if text in ("true", "false"):
        return name, text == "true"
    return name, int(text) if text.isdecimal() else text


def read(folder: Path, side: int, views: int) -> list[np.ndarray]:
    images = [cv2.imread(str(path)) for path in sorted(folder.glob("*.jpg"))[:views]]
    sizes = [side / max(image.shape[:2]) for image in images]
    return [
        np.ascontiguousarray(cv2.resize(image, None, fx=f, fy=f, interpolation=cv2.INTER_AREA)[..., ::-1])
        for image, f in zip(images, sizes, strict=True)
    ]


def matches(things: list[list[LocalFeatures]]) -> tuple[int, int, int, int]:
    same = [verify(a, b) for thing in things for a, b in combinations(thing, 2)]
    other = [verify(one[0], another[0]) for one, another in combinations(things, 2)]
    proven = [found for found in same if found.verified]
    return len(proven), len(same), sum(found.inliers for found in proven), sum(found.verified for found in other)


if __name__ == "__main__":
    main()
