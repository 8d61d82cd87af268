"""Forward passes of a ResNet-50 as a backbone, against the bare network in the same run, as a Markdown table.

Weights are random: time does not depend on them. Rounds alternate, and the best of each is kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from resight.features.networks.resnet import ResNet, trunk_backbone
from resight.features.pooling import gem, normalise


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.manual_seed(0)
    network = lively(ResNet("resnet50"))
    shape = (options.batch, 3, options.height, options.width)
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def bare(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(batch)).numpy()

    runs = {"bare network": bare} | {
        precision: trunk_backbone(network, "resnet50", precision=precision, device="cpu").forward
        for precision in ("float32", "bfloat16")
    }
    seconds = best_of(runs, images, options.rounds)
    whole = normalise(gem(bare(images)).astype(np.float64))
    print(f"ResNet-50, {' x '.join(map(str, shape))}, {torch.get_num_threads()} threads")
    print("\n| | seconds | times faster | lowest cosine of GeM |\n|---|---|---|---|")
    for name, forward in runs.items():
        cosine = (normalise(gem(forward(images)).astype(np.float64)) * whole).sum(axis=1).min()
        print(f"| {name} | {seconds[name]:.3f} | {seconds['bare network'] / seconds[name]:.2f} | {cosine:.6f} |")


def lively(network: ResNet) -> ResNet:
    """The network with statistics in its batch normalisation, so that rounding is what it is in a trained one."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1)
            module.bias.data.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def best_of(runs: dict[str, Callable], images: np.ndarray, rounds: int) -> dict[str, float]:
    """Seconds of the fastest round of each, after one that is not counted."""
    best = dict.fromkeys(runs, float("inf"))
    for counted in range(rounds + 1):
        for name, forward in runs.items():
            start = time.perf_counter()
            forward(images)
            if counted:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main()
