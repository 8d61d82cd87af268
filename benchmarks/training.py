"""Time of training tuples against a plain loop of PyTorch, and memory of AP batches against plain back-propagation.

The plain loop does what published programs do: each photo of a tuple is decoded when its turn comes, and goes through
the network alone. Ours decodes ahead in threads and lets photos of one size go through together. Processor time is that
of the process, so that other work on the machine does not count; wall time is printed beside it.

    python benchmarks/training.py PHOTOS BACKBONE.onnx --tuples 10 --side 362
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from resight.training import losses
from resight.training.networks import GlobalNetwork, open_start
from resight.training.tuples.augmentation import Augmentation
from resight.training.tuples.batches import Batches, Drawn
from resight.training.tuples.photos import Photos, forward
from resight.training.tuples.three_stage import three_stage

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
CPU = torch.device("cpu")
LABELS = torch.tensor([-1, 1, 0, 0, 0, 0, 0])


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("photos", type=Path)
    asked.add_argument("backbone", type=Path)
    asked.add_argument("--tuples", type=int, default=10)
    asked.add_argument("--side", type=int, default=362)
    asked.add_argument("--batch", type=int, default=0, help="photos of an AP batch, whose memory is measured instead")
    asked.add_argument("--plain", action="store_true", help="propagate the AP batch at once")
    args = asked.parse_args()
    files = sorted(str(file) for file in args.photos.rglob("*.jpg"))
    network = GlobalNetwork(open_start(args.backbone, None).trunk).train()
    if args.batch:
        _memory(network, Photos([files[n % len(files)] for n in range(args.batch)], args.side), args.plain)
        return
    rows = np.random.default_rng(0).integers(0, len(files), (args.tuples, 7))
    plain = _timed("plain loop", lambda: _plain(network, files, rows, args.side))
    ours = _timed("batches", lambda: _ours(network, files, rows, args.side))
    print(f"processor time: {plain[0] / ours[0]:.2f} times, wall time: {plain[1] / ours[1]:.2f} times as fast")


def _timed(name: str, work: Callable[[], None]) -> tuple[float, float]:
    work()  # the first call makes what later ones find
    processor, wall = time.process_time(), time.perf_counter()
    work()
    taken = time.process_time() - processor, time.perf_counter() - wall
    print(f"{name}: {taken[0]:.1f} s of processor time, {taken[1]:.1f} s")
    return taken


def _plain(network: GlobalNetwork, files: list[str], rows: np.ndarray, side: int) -> None:
    for one in rows:
        vectors = []
        for row in one:
            image = Image.open(files[row]).convert("RGB")
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
            pixels = (np.asarray(image, np.float32) / 255 - MEAN) / STD
            vectors.append(network(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]))
        losses.contrastive(torch.cat(vectors), LABELS).backward()
    network.zero_grad()


def _ours(network: GlobalNetwork, files: list[str], rows: np.ndarray, side: int) -> None:
    photos = Photos(files, side, kept=0)
    for batch in Batches(Drawn(rows, rows), 5, photos, Augmentation()):
        for images in batch.images:
            losses.contrastive(forward(network, photos, images, CPU), LABELS).backward()
    network.zero_grad()


def _memory(network: GlobalNetwork, photos: Photos, plain: bool) -> None:
    count = len(photos.files)
    groups = torch.arange(count) // 2
    labels = (groups[:, None] == groups).float() - torch.eye(count)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return losses.average_precision(x @ x.T, labels, bins=20)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if plain:
        loss(forward(network, photos, [photos.pixels(row) for row in range(count)], CPU)).backward()
    else:
        three_stage(network, photos, photos.pixels, count, loss, CPU)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{count} photos: {before / 1e6:.2f} GB before, at most {after / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
