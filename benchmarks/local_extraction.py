"""Extraction of HOW against the bare network at the same sizes.

python benchmarks/local_extraction.py BACKBONE.onnx PHOTOS [--count 24] [--repeats 3]

Baseline, measured in turn with it in the same run: the network alone on the same images of all scales, decoded, resized
and batched before the clock starts. Processor time, since machines are shared. The rest of extraction (reading,
decoding, resizing, attention, reduction, the strongest cells) costs little where the ratio is near 1. The last line is
the growth of memory from these photos to four times as many.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from resight.features.local.encoders import open_encoder
from resight.features.local.reduction import Reduction
from resight.features.local.trunk import Trunk, open_trunk
from resight.images.decode import decode

AHEAD = 16


def inputs(trunk: Trunk, paths: list[str]) -> list[np.ndarray]:
    """What extraction gives the network, batch by batch."""
    seen: list[np.ndarray] = []
    network = trunk.backbone

    def remember(batch: np.ndarray) -> np.ndarray:
        seen.append(batch.copy())
        height, width = (max(1, side // network.stride) for side in batch.shape[2:])
        return np.ones((len(batch), network.channels, height, width), np.float32)

    spy = replace(trunk, backbone=replace(network, forward=remember))
    for start in range(0, len(paths), AHEAD):
        images = [decode(path, max_side=trunk.max_side).pixels for path in paths[start : start + AHEAD]]
        for _ in spy.batches(images):
            pass
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    paths = sorted(str(path) for path in options.photos.iterdir() if path.is_file())[: options.count]
    channels = open_trunk(options.backbone).channels
    random = np.random.default_rng(0)
    folder = Path("reduction-of-benchmark.safetensors")
    weight = random.standard_normal((128, channels)).astype(np.float32)
    Reduction(weight, np.zeros(128, np.float32)).save(folder)
    how = open_encoder("how", backbone=str(options.backbone), reduction=str(folder))
    folder.unlink()
    batches = inputs(how.trunk, paths)

    def extract(paths: list[str]) -> None:
        for start in range(0, len(paths), AHEAD):
            how.describe([decode(path, max_side=how.trunk.max_side).pixels for path in paths[start : start + AHEAD]])

    bare, whole = [], []
    for _ in range(options.repeats):
        started = time.process_time()
        for batch in batches:
            how.trunk.backbone.forward(batch)
        bare.append(time.process_time() - started)
        started = time.process_time()
        extract(paths)
        whole.append(time.process_time() - started)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    extract(paths * 4)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print("| photos | network alone, s | extraction, s | ratio (aim 1.10) |")
    print("|---|---|---|---|")
    print(f"| {len(paths)} | {median(bare):.2f} | {median(whole):.2f} | {median(whole) / median(bare):.2f} |")
    print(f"\nFour times as many photos take {grown / 1024:.0f} MB more at the peak.")


if __name__ == "__main__":
    main()
