"""What the context blocks of local descriptors cost, as shares of the network whose maps they take.

    python benchmarks/context.py NETWORK.onnx

One photo of random pixels at each size, one thread of torch and one of onnxruntime, processor time, best of three.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from resight.features.local.context import Context, ContextSettings
from resight.features.networks.open import open_backbone

SIZES = (362, 512, 1024)
BLOCKS = {
    "average smoothing (plain HOW)": {"reweighting": "none", "smoothing": "average"},
    "learnable smoothing, window 3": {"reweighting": "none"},
    "learnable smoothing, window 7": {"reweighting": "none", "window": 7},
    "graph re-weighting": {"smoothing": "none"},
    "self-attention": {"reweighting": "attention", "smoothing": "none"},
    "graph, then learnable smoothing": {},
}


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds, best of three."""
    times = []
    for _ in range(3):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    network = open_backbone(parser.parse_args().network, threads=1)
    torch.set_num_threads(1)
    print(f"| | {' | '.join(f'{size} x {size * 3 // 4}' for size in SIZES)} |\n|---{'|--:' * len(SIZES)}|")
    maps, bare = {}, {}
    for size in SIZES:
        pixels = np.random.default_rng(0).normal(size=(1, 3, size * 3 // 4, size)).astype(np.float32)
        maps[size] = torch.from_numpy(network.forward(pixels))
        bare[size] = seconds(lambda pixels=pixels: network.forward(pixels))  # type: ignore[misc]
    for name, settings in BLOCKS.items():
        context = Context(ContextSettings(network.channels, **settings))  # type: ignore[arg-type]
        shares = []
        for size in SIZES:
            with torch.inference_mode():
                cost = seconds(lambda context=context, size=size: context(maps[size]))  # type: ignore[misc]
            shares.append(f"{100 * cost / bare[size]:.0f} %")
        print(f"| {name} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
