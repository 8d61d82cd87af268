"""Extraction of global descriptors against the bare network at the same sizes.

python benchmarks/extraction.py BACKBONE.onnx PHOTOS [--count 60] [--repeats 3]

Baseline, measured in turn with it in the same run: the network alone on the same images, decoded, resized and batched
before the clock starts. The rest of extraction (reading, decoding, resizing, pooling) is hidden where the ratio is near
1. The last line is the growth of memory from the first quarter of the photos to all of them.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from resight.features.extraction import AHEAD, extract
from resight.features.global_descriptor import GlobalDescriptor
from resight.features.networks.open import open_backbone
from resight.features.pooling import gem
from resight.images.decode import decode


def inputs(descriptor: GlobalDescriptor, paths: list[str]) -> list[np.ndarray]:
    """What extraction gives the network, batch by batch."""
    seen: list[np.ndarray] = []
    network = descriptor.backbone

    def remember(batch: np.ndarray) -> np.ndarray:
        seen.append(batch.copy())
        return np.ones((len(batch), network.channels, 1, 1), np.float32)

    spy = replace(descriptor, backbone=replace(network, forward=remember))
    for start in range(0, len(paths), AHEAD):
        spy.describe([decode(path, max_side=descriptor.max_side).pixels for path in paths[start : start + AHEAD]])
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    paths = sorted(str(path) for path in options.photos.iterdir() if path.is_file())[: options.count]
    descriptor = GlobalDescriptor(open_backbone(options.backbone), gem, "gem")
    batches = inputs(descriptor, paths)
    bare, whole = [], []
    for _ in range(options.repeats):
        started = time.perf_counter()
        for batch in batches:
            descriptor.backbone.forward(batch)
        bare.append(time.perf_counter() - started)
        started = time.perf_counter()
        extract(descriptor, paths)
        whole.append(time.perf_counter() - started)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    extract(descriptor, paths * 4)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print("| photos | network alone, s | extraction, s | ratio (aim 1.10) |")
    print("|---|---|---|---|")
    print(f"| {len(paths)} | {median(bare):.2f} | {median(whole):.2f} | {median(whole) / median(bare):.2f} |")
    print(f"\nFour times as many photos take {grown / 1024:.0f} MB more at the peak.")


if __name__ == "__main__":
    main()
