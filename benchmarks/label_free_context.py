"""Do blocks of context help HOW after training on one's own photos, without a label? The trunk stays as it is.

Photos named by group * 100 + number, such as INRIA Holidays, are cut into two halves by group. The maps of a frozen
trunk are computed once. On one half a collection of recipe classic proves pairs, the blocks are trained on those, and
ASMK is judged on the other half; then the other way round. Blocks are compared with plain HOW, with its smoothing and
without, by the paired tests of `evaluate` over queries, whose average precision is averaged over the seeds.

    python benchmarks/label_free_context.py PHOTOS resnet50v2_c4.onnx --seeds 3 --epochs 5 --cache maps.npz --out a.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from resight.collection import create_collection
from resight.evaluation.significance import compare
from resight.features.local import how
from resight.features.local.context import Context, ContextSettings
from resight.features.local.encoders import MAP_WORDS
from resight.features.local.reduction import Moments
from resight.features.networks.backbone import IMAGENET_MEAN, IMAGENET_STD
from resight.features.networks.open import open_backbone
from resight.fitting.proven import proven_examples
from resight.images.decode import decode
from resight.index.asmk import Asmk
from resight.index.codebook import Codebook
from resight.precision import average_precision
from resight.training import losses
from resight.training.data import Examples
from resight.training.mining import proven_negatives

SCALES = (1.0, 0.7071, 0.5)
DIM, COUNT, BATCH, NEGATIVES, MARGIN = 128, 1000, 5, 5, 0.8
Maps = Mapping[str, Tensor]  # "file/scale" -> (1, C, h, w)

VARIANTS: dict[str, dict[str, Any]] = {
    "plain, average": {"reweighting": "none", "smoothing": "average"},
    "plain, none": {"reweighting": "none", "smoothing": "none"},
    "graph": {"reweighting": "graph", "smoothing": "none"},
    "learnable": {"reweighting": "none", "smoothing": "learnable", "start": 1.0},
    "both": {"reweighting": "graph", "smoothing": "learnable", "start": 1.0},
    "both, of the residual": {
        "reweighting": "graph", "smoothing": "learnable", "smoothed": "residual", "confidence_from": "residual",
    },
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Head:
    """Blocks and a reduction: what makes descriptors of maps."""

    context: Context
    weight: Tensor
    bias: Tensor

    def __call__(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.context.look(maps)
        reduced = self.context.smooth(seen, lambda found: how.reduce(found, self.weight, self.bias))
        return reduced, how.attention(seen.reweighted)

    def vector(self, maps: Tensor) -> Tensor:
        reduced, attention = self(maps)
        found: Tensor = how.weighted_sum([reduced], [attention])
        return found[0]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("photos", type=Path)
    asked.add_argument("backbone", type=Path)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--epochs", type=int, default=5)
    asked.add_argument("--rate", type=float, default=1e-4)
    asked.add_argument("--side", type=int, default=512)
    asked.add_argument("--variants", default=",".join(VARIANTS).replace(", ", ";"))
    asked.add_argument("--cache", type=Path, default=Path("maps.npz"))
    asked.add_argument("--out", type=Path)
    args = asked.parse_args()
    files = sorted(args.photos.glob("*.jpg"))
    numbers = np.array([int(file.stem) for file in files])
    maps = cached_maps(args.cache, files, args.backbone, args.side)
    found: dict[str, list[Any]] = {}
    for fold in (0, 1):
        own, judged = np.flatnonzero(numbers // 100 % 2 == fold), np.flatnonzero(numbers // 100 % 2 != fold)
        with tempfile.TemporaryDirectory() as folder:
            examples = proven_in(folder, [files[row] for row in own])
            print(f"fold {fold}: {len(examples.pairs) // 2} proven pairs", flush=True)
            for name in (word.replace(";", ", ") for word in args.variants.split(",")):
                trains = VARIANTS[name]["reweighting"] != "none" or VARIANTS[name]["smoothing"] == "learnable"
                for seed in range(args.seeds if trains else 1):
                    head = start(VARIANTS[name], maps, [files[row].stem for row in own], seed)
                    if trains:
                        train(head, maps, examples, args.epochs, args.rate, seed)
                    ap = judge(head, maps, [files[row].stem for row in own], [files[row].stem for row in judged])
                    found.setdefault(f"{name}/{seed}", []).append(ap)
                    print(
                        json.dumps({"fold": fold, "variant": name, "seed": seed, "mAP": float(ap.mean())}), flush=True
                    )
    report(found, args.out)


def cached_maps(cache: Path, files: Sequence[Path], backbone: Path, side: int) -> Maps:
    """Maps of every photo at every scale, float16 on disk."""
    if not cache.exists():
        network, made = open_backbone(backbone), {}
        mean, std = 255 * np.float32(IMAGENET_MEAN), 255 * np.float32(IMAGENET_STD)
        for file in files:
            pixels = decode(file).pixels
            for scale in SCALES:
                factor = scale * side / max(pixels.shape[:2])
                size = round(pixels.shape[1] * factor), round(pixels.shape[0] * factor)
                image = (cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) - mean) / std
                made[f"{file.stem}/{scale}"] = network.forward(image.transpose(2, 0, 1)[None].astype(np.float32))
        np.savez(cache, **{name: array.astype(np.float16) for name, array in made.items()})
    with np.load(cache) as stored:
        return {name: torch.from_numpy(stored[name]).float() for name in stored.files}


def proven_in(folder: str, files: Sequence[Path]) -> Examples:
    """Examples of a collection made in `folder`, which must stay as long as they are used."""
    for file in files:
        (Path(folder) / file.name).symlink_to(file.resolve())
    collection = create_collection(Path(folder) / "half.resight", "classic")
    collection.add([folder])
    return proven_examples(collection)


def start(blocks: Mapping[str, Any], maps: Maps, names: Sequence[str], seed: int) -> Head:
    channels = next(iter(maps.values())).shape[1]
    context = Context(ContextSettings(channels, **blocks), seed)
    moments = Moments(channels)
    for name in names:
        one = maps[f"{name}/1.0"]
        smoothed = one if blocks["smoothing"] == "none" or "smoothed" in blocks else how.smooth(one)
        moments.add(smoothed[0].flatten(1).T.numpy())
    reduction = moments.whitening(DIM)
    return Head(context, torch.from_numpy(reduction.weight), torch.from_numpy(reduction.bias))


def train(head: Head, maps: Maps, examples: Examples, epochs: int, rate: float, seed: int) -> None:
    names = [Path(name).stem for name in examples.names]
    slow = [p for name, p in head.context.named_parameters() if name.endswith("smoothing.bias")]
    rest = [p for name, p in head.context.named_parameters() if not name.endswith("smoothing.bias")]
    groups = [{"params": part, "weight_decay": decay} for part, decay in ((rest, 1e-4), (slow, 0.0)) if part]
    optimiser = torch.optim.Adam(groups, lr=rate)
    labels, clusters = torch.tensor([-1, 1] + [0] * NEGATIVES), examples.clusters
    for epoch in range(epochs):
        rng = np.random.default_rng((seed, epoch))
        pairs = examples.pairs[rng.permutation(len(examples.pairs))]
        with torch.no_grad():
            vectors = torch.stack([head.vector(maps[f"{name}/1.0"]) for name in names]).numpy()
        rows, every = pairs[:, 0], np.arange(len(names))
        negatives, clusters = proven_negatives(
            vectors[rows], rows, vectors, every, clusters, NEGATIVES, examples.proven
        )
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (epoch + 1) / 3) * 0.99**epoch
        for first in range(0, len(pairs), BATCH):
            optimiser.zero_grad()
            for one in np.hstack((pairs, negatives))[first : first + BATCH]:
                x = torch.stack([head.vector(maps[f"{names[row]}/1.0"]) for row in one])
                losses.contrastive(x, labels, margin=MARGIN).backward()
            optimiser.step()


@torch.inference_mode()
def features(head: Head, maps: Maps, name: str) -> Any:
    seen = [head(maps[f"{name}/{scale}"]) for scale in SCALES]
    weights = how.relative_attention([attention for _, attention in seen])
    return how.strongest([reduced for reduced, _ in seen], weights, SCALES, COUNT).descriptors


def judge(head: Head, maps: Maps, own: Sequence[str], judged: Sequence[str]) -> Any:
    """Average precision of the queries among the photos judged; the codebook is of the half learned from."""
    known = np.concatenate([features(head, maps, name) for name in own])
    index = Asmk(Codebook.fit(known, round(MAP_WORDS * len(known) ** 0.5), seed=0))
    found = [features(head, maps, name) for name in judged]
    index.add(np.repeat(np.arange(len(judged)), [len(one) for one in found]), np.concatenate(found))
    numbers = np.array([int(name) for name in judged])
    group = numbers // 100
    queries = np.flatnonzero((numbers % 100 == 0) & (np.bincount(group)[group] > 1))
    rows = np.repeat(np.arange(len(queries)), [len(found[row]) for row in queries])
    ids = index.search(rows, np.concatenate([found[row] for row in queries]), len(judged), queries=len(queries)).ids
    there, ids = ids >= 0, np.maximum(ids, 0)
    other = there & (ids != queries[:, None])
    relevant = (group[ids] == group[queries][:, None]) & other
    return average_precision(relevant, np.bincount(group)[group[queries]] - 1, other)


def report(found: Mapping[str, Sequence[Any]], out: Path | None) -> None:
    ap: dict[str, list[Any]] = {}
    for name, folds in found.items():
        ap.setdefault(name.rpartition("/")[0], []).append(np.concatenate(folds))
    mean = {name: np.mean(seeds, axis=0) for name, seeds in ap.items()}
    result: dict[str, Any] = {"mAP": {name: float(one.mean()) for name, one in mean.items()}}
    result["seeds"] = {name: [float(one.mean()) for one in seeds] for name, seeds in ap.items()}
    plain = max((name for name in mean if name.startswith("plain")), key=lambda name: float(mean[name].mean()))
    result[f"against {plain}"] = {
        name: asdict(compare(one, mean[plain], seed=0)) for name, one in mean.items() if not name.startswith("plain")
    }
    print(json.dumps(result, indent=1))
    if out is not None:
        out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
