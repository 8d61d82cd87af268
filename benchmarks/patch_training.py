"""Train the network of `sift-hardnet` on pairs of patches (`patch_pairs.py`), hardest-in-batch.

    python benchmarks/patch_training.py PAIRS OUT --network hardtfeat --pairs 500000 --seed 0
    resight index PHOTOS --to NAME.resight --set features=sift-hardnet --set weights=OUT/weights.pth

The loss is that of HardNet (Mishchuk et al., NeurIPS 2017): a pair must be nearer than the nearest of all others of its
batch, by a margin. Writes `weights.pth`, weights at every eighth of the way as `PAIRS_SEEN.pth`, one line of JSON
for each of these into `losses.jsonl`, and `state.pth`, from which a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resight.errors import UsageError
from resight.features.local.loading import kornia_features
from resight.features.local.patch_networks import HardTFeat

ALIKE = 0.008  # descriptors this near are of one place that was found twice, no negatives of one another
POINTS = 8  # of the learning curve
NETWORKS = {"hardtfeat": HardTFeat, "hardnet": lambda: kornia_features().HardNet(pretrained=False)}


@dataclass(frozen=True)
class Settings:
    """`pairs` to see in all, `batch` at a time, each turned and mirrored at random, both its patches alike. Adam at
    `rate`, which falls to 0 in a line. `half`: convolutions in bfloat16."""

    network: str = "hardtfeat"
    pairs: int = 500_000
    batch: int = 512
    rate: float = 2e-3
    margin: float = 1.0
    seed: int = 0
    half: bool = False

    @property
    def steps(self) -> int:
        return max(1, self.pairs // self.batch)


@dataclass(frozen=True, eq=False)
class Run:
    """A training that can be left and gone on with: network and optimiser after `step` steps, in the folder `out`, and
    what was `told` of each point of the learning curve."""

    settings: Settings
    network: nn.Module
    optimiser: torch.optim.Optimizer
    out: Path
    step: int = 0
    told: tuple[dict[str, Any], ...] = ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patches", type=Path, metavar="PAIRS")
    parser.add_argument("out", type=Path)
    for name, value in asdict(Settings()).items():
        if isinstance(value, bool):
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(f"--{name}", type=type(value), default=value)
    args = vars(parser.parse_args())
    folder, out = args.pop("patches"), args.pop("out")
    patches, points = np.load(folder / "patches.npy", mmap_mode="r"), np.load(folder / "points.npy")
    train(Settings(**args), patches, points, out)


def train(settings: Settings, patches: Any, points: Any, out: Path, stop: int | None = None) -> nn.Module:
    """Train on `patches` (n, 2, 32, 32) uint8 of key points (n,), up to step `stop` where one is given.

    Raises `UsageError` when there are fewer key points than a batch needs, or `out` holds a run with other settings.
    """
    if len(np.unique(points)) < settings.batch:
        raise UsageError(f"{len(np.unique(points))} key points are fewer than a batch of {settings.batch}: make more")
    out.mkdir(parents=True, exist_ok=True)
    run, total, began = opened(settings, out), 0.0, time.process_time()
    every, last = max(1, settings.steps // POINTS), settings.steps if stop is None else stop
    for step in range(run.step, last):
        total += one_step(run, step, drawn(patches, points, settings, step))
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            spent = round(time.process_time() - began)
            told = {
                "pairs": (step + 1) * settings.batch,
                "loss": round(total / (step + 1 - run.step), 4),
                "seconds": spent,
            }
            run, total = replace(run, step=step + 1, told=(*run.told, told)), 0.0
            save(run)
            print(json.dumps(told), flush=True)
    return run.network


def one_step(run: Run, step: int, pairs: Tensor) -> float:
    """Learn from `pairs` (2 * batch, 1, 32, 32), first halves first; their loss."""
    torch.manual_seed((run.settings.seed << 32) + step)  # of dropout
    run.optimiser.param_groups[0]["lr"] = run.settings.rate * (1 - step / run.settings.steps)
    with torch.autocast("cpu", torch.bfloat16, enabled=run.settings.half):
        rows = run.network(pairs.contiguous(memory_format=torch.channels_last))
    loss = hardest_in_batch(*rows.float().chunk(2), margin=run.settings.margin)
    if not loss.isfinite():
        raise UsageError(
            f"the loss of step {step} is {loss.item()}: give a lower --rate, and begin from {run.out} again"
        )
    run.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimiser.step()
    return loss.item()


def hardest_in_batch(a: Tensor, b: Tensor, margin: float = 1.0) -> Tensor:
    """Mean over pairs of unit rows (n, D) of max(0, margin + |a_i - b_i| - the least of |a_i - b_j| and |a_j - b_i|),
    j other than i; distances below `ALIKE` are of one place and do not count as negatives."""
    distance = (2 - 2 * a @ b.T).clamp(min=1e-6).sqrt()
    own = distance.diagonal()
    far = 10 * (torch.eye(len(a), device=a.device) + (distance.detach() < ALIKE))
    nearest = torch.minimum((distance + far).amin(dim=0), (distance + far).amin(dim=1))
    return (margin + own - nearest).clamp(min=0).mean()


def drawn(patches: Any, points: Any, settings: Settings, step: int) -> Tensor:
    """The pairs of one step, (2 * batch, 1, 32, 32) float32, no key point twice."""
    rng = np.random.default_rng((settings.seed, step))
    rows = rng.integers(len(points), size=2 * settings.batch)
    _, first = np.unique(points[rows], return_index=True)
    while len(first) < settings.batch:
        rows = np.concatenate((rows, rng.integers(len(points), size=settings.batch)))
        _, first = np.unique(points[rows], return_index=True)
    chosen = rows[np.sort(first)[: settings.batch]]
    pairs = patches[np.sort(chosen)]
    turns, mirrored = rng.integers(4, size=len(pairs)), rng.random(len(pairs)) < 0.5
    for turn in range(1, 4):
        pairs[turns == turn] = np.rot90(pairs[turns == turn], turn, axes=(2, 3))
    pairs[mirrored] = pairs[mirrored, :, :, ::-1]
    return torch.from_numpy(np.concatenate((pairs[:, 0], pairs[:, 1]))[:, None].astype(np.float32))


def opened(settings: Settings, out: Path) -> Run:
    """A new run, or the one that `out` holds. Raises `UsageError` when that has other settings."""
    torch.manual_seed(settings.seed)
    network = NETWORKS[settings.network]()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain=0.6)
    network = network.train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.rate)
    state = out / "state.pth"
    if not state.exists():
        return Run(settings, network, optimiser, out)
    held = torch.load(state, weights_only=True)
    if held["settings"] != asdict(settings):
        raise UsageError(f"{state} is of a run with settings {held['settings']}: name another folder, or delete it")
    network.load_state_dict(held["network"])
    optimiser.load_state_dict(held["optimiser"])
    return Run(settings, network, optimiser, out, held["step"], tuple(held["told"]))


def save(run: Run) -> None:
    """Weights as `sift-hardnet` reads them, the state to go on from, and the learning curve."""
    weights = {"state_dict": {name: tensor.contiguous() for name, tensor in run.network.state_dict().items()}}
    state = {"settings": asdict(run.settings), "step": run.step, "told": list(run.told)}
    for path in (run.out / f"{run.step * run.settings.batch}.pth", run.out / "weights.pth"):
        written(weights, path)
    (run.out / "losses.jsonl").write_text("".join(json.dumps(one) + "\n" for one in run.told))
    written(
        {**state, "network": run.network.state_dict(), "optimiser": run.optimiser.state_dict()}, run.out / "state.pth"
    )


def written(content: Any, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(content, part)
    os.replace(part, path)


if __name__ == "__main__":
    main()
