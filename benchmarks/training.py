"""Time of training tuples against a plain loop of PyTorch, and memory of AP batches against plain back-propagation.

The plain loop does what published programs do: each photo of a tuple is decoded when its turn comes, and goes through
the network alone, a convolution, its frozen batch normalisation and its activation one after the other. Ours decodes
ahead in threads (`decoded`) or has the photos of the epoch before (`kept`), puts channels last, lets photos of one size
go through together as long as they fit the caches, and in bfloat16 where a processor has it. Processor time is that of
the process, the least of `--repeat` runs, so that other work on the machine counts little. Gradients are compared with
that of the plain loop on the same pixels.

    python benchmarks/training.py PHOTOS BACKBONE.onnx --tuples 3 --side 362
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from resight.features.networks.graph_trunk import GraphTrunk, Step
from resight.training import losses
from resight.training.networks import GlobalNetwork, open_start, set_precision
from resight.training.tuples.augmentation import Augmentation
from resight.training.tuples.batches import Batches, Drawn
from resight.training.tuples.photos import KEPT_BYTES, Photos, forward
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
    asked.add_argument("--repeat", type=int, default=3)
    asked.add_argument("--batch", type=int, default=0, help="photos of an AP batch, whose memory is measured instead")
    asked.add_argument("--plain", action="store_true", help="propagate the AP batch at once")
    args = asked.parse_args()
    torch.set_num_threads(1)
    files = sorted(str(file) for file in args.photos.rglob("*.jpg"))
    if args.batch:
        network = GlobalNetwork(open_start(args.backbone, None).trunk).train()
        _memory(network, Photos([files[n % len(files)] for n in range(args.batch)], args.side), args.plain)
        return
    rows = np.random.default_rng(0).integers(0, len(files), (args.tuples, 7))
    trunk = open_start(args.backbone, None).trunk
    published = GlobalNetwork(_with_norms(trunk)).train()
    base = _timed("plain loop, batch normalisation", published, lambda: _plain(published, files, rows, args.side), args)
    folded = GlobalNetwork(trunk).train()
    _faster(base, _timed("plain loop, folded", folded, lambda: _plain(folded, files, rows, args.side), args))
    reference = _gradient(published, lambda: _one_by_one(published, Photos(files, args.side), rows))
    for precision in ("float32", "bfloat16"):
        ours = GlobalNetwork(open_start(args.backbone, None).trunk).train()
        set_precision(ours, precision, CPU)
        for name, kept in (("decoded", 0), ("kept", KEPT_BYTES)):
            work = partial(_ours, ours, Photos(files, args.side, kept=kept), rows)
            _faster(base, _timed(f"ours, {precision}, {name}", ours, work, args))
        _compare(reference, _gradient(ours, work))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


def _timed(
    name: str, network: GlobalNetwork, work: Callable[[], None], args: argparse.Namespace
) -> tuple[float, float]:
    work()  # the first call makes what later ones find
    taken = []
    for _ in range(args.repeat):
        network.zero_grad()
        processor, wall = time.process_time(), time.perf_counter()
        work()
        taken.append((time.process_time() - processor, time.perf_counter() - wall))
    seconds = min(one for one, _ in taken), min(one for _, one in taken)
    print(f"{name}: {seconds[0]:.2f} s of processor time, {seconds[1]:.2f} s", flush=True)
    return seconds


def _faster(base: tuple[float, float], ours: tuple[float, float]) -> None:
    print(f"    processor time: {base[0] / ours[0]:.2f} times, wall time: {base[1] / ours[1]:.2f} times as fast")


def _gradient(network: GlobalNetwork, work: Callable[[], None]) -> torch.Tensor:
    """Of the weights that all have, which batch normalisation adds to."""
    network.zero_grad()
    work()
    found = [weight.grad.flatten() for name, weight in network.named_parameters() if "one" not in name]
    return torch.cat(found).double()


def _compare(reference: torch.Tensor, ours: torch.Tensor) -> None:
    cosine = float(torch.nn.functional.cosine_similarity(reference, ours, dim=0))
    print(f"    gradient {float((reference - ours).norm() / reference.norm()):.2g} off, cosine {cosine:.5f}")


def _with_norms(trunk: GraphTrunk) -> GraphTrunk:
    """The same network as it was published: a batch normalisation, frozen, behind every convolution."""
    state, steps, norms = trunk.state_dict(), [], {}
    for place, step in enumerate(trunk.steps):
        if step.op != "Conv" or len(step.inputs) < 3:
            steps.append(step)
            continue
        shift = state[step.inputs[2]]
        names = [f"{kind}{place}" for kind in ("one", "zero", "unit")]
        norms |= dict(
            zip(names, (torch.ones_like(shift), torch.zeros_like(shift), torch.ones_like(shift)), strict=True)
        )
        raw = f"{step.output}/raw"
        steps.append(replace(step, inputs=step.inputs[:2], output=raw))
        inputs = (raw, names[0], step.inputs[2], *names[1:])
        steps.append(Step("BatchNormalization", inputs, step.output, {"epsilon": 0.0}))
    trained = {name: parameter.detach().clone() for name, parameter in trunk.named_parameters()}
    fixed = {name: tensor.clone() for name, tensor in state.items() if name not in trained}
    scales = {name: tensor for name, tensor in norms.items() if name.startswith("one")}
    rest = {name: tensor for name, tensor in norms.items() if name not in scales}
    return GraphTrunk(tuple(steps), trained | scales, fixed | rest)


def _plain(network: GlobalNetwork, files: list[str], rows: np.ndarray, side: int) -> None:
    for one in rows:
        vectors = []
        for row in one:
            image = Image.open(files[row]).convert("RGB")
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
            pixels = (np.asarray(image, np.float32) / 255 - MEAN) / STD
            vectors.append(network(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]))
        losses.contrastive(torch.cat(vectors), LABELS).backward()


def _one_by_one(network: GlobalNetwork, photos: Photos, rows: np.ndarray) -> None:
    for one in rows:
        vectors = [network(photos.tensor([photos.pixels(row)])) for row in one.tolist()]
        losses.contrastive(torch.cat(vectors), LABELS).backward()


def _ours(network: GlobalNetwork, photos: Photos, rows: np.ndarray) -> None:
    for batch in Batches(Drawn(rows, rows), 5, photos, Augmentation()):
        for images in batch.images:
            losses.contrastive(forward(network, photos, images, CPU, network.pass_pixels), LABELS).backward()


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
