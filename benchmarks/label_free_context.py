"""Do blocks of context help HOW after training on one's own photos, without a label? The trunk stays as it is.

Photos named by group * 100 + number, such as INRIA Holidays, are cut into two halves by group. The maps of a frozen
trunk are computed once. On one half a collection of recipe classic proves pairs, the blocks are trained on those, and
ASMK is judged on the other half; then the other way round. Blocks are compared with plain HOW, with its smoothing and
without, by the paired tests of `evaluate` over queries, whose average precision is averaged over the seeds. A seed
draws the codebook too, so plain HOW also has a spread.

    python benchmarks/label_free_context.py PHOTOS resnet50v2_c4.onnx --work FOLDER --seeds 3 --out study.json
    python benchmarks/label_free_context.py PHOTOS resnet50v2_c4.onnx --work FOLDER --folds 1 0 --choose 2
        --variants "plain, none;graph;graph, more pairs" --also TRAINING LANDMARKS

`--also` gives folders of other photos, whose proven pairs variants with `more` learn from as well. FOLDER keeps maps
and collections for the next run.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from frozen_maps import FrozenMaps
from torch import Tensor
from torch.nn import functional

from resight.collection import open_or_create
from resight.evaluation.significance import compare
from resight.features.local import how
from resight.features.local.context import Context, ContextSettings
from resight.features.local.encoders import MAP_WORDS
from resight.features.local.reduction import Moments
from resight.fitting.proven import proven_examples
from resight.index.asmk import Asmk
from resight.index.codebook import Codebook
from resight.precision import average_precision
from resight.training.data import Examples

SUFFIXES = {".jpg", ".jpeg", ".png"}
DIM, COUNT = 128, 400  # of some 680 cells at the default sizes: else attention would choose nothing
GRAPH = {"reweighting": "graph", "smoothing": "none"}
LEARNABLE = {"reweighting": "none", "smoothing": "learnable", "start": 1.0}
BOTH = {"reweighting": "graph", "smoothing": "learnable", "start": 1.0}
RESIDUAL = {
    "reweighting": "graph", "smoothing": "learnable", "smoothed": "residual", "confidence_from": "residual",
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """Blocks, and how they are trained.

    `loss`: of a batch of `batch` pairs, whose photos are negatives of one another: "contrastive" with `margin`, as HOW
    is trained, or "softmax" of similarities divided by `temperature`. Adam at `rate`. `side`: of the photos that are
    learned from. `more`: also from pairs of other photos. `identity`: smoothing starts as nearly none, by a huge
    bandwidth, instead of near the average.
    """

    blocks: Mapping[str, Any]
    loss: str = "softmax"
    margin: float = 0.8
    temperature: float = 0.05
    epochs: int = 6
    rate: float = 3e-4
    batch: int = 16
    side: int = 362
    more: bool = False
    identity: bool = False

    @property
    def trains(self) -> bool:
        return self.blocks["reweighting"] != "none" or self.blocks["smoothing"] == "learnable"


VARIANTS: dict[str, Variant] = {
    "plain, average": Variant({"reweighting": "none", "smoothing": "average"}),
    "plain, none": Variant({"reweighting": "none", "smoothing": "none"}),
    "graph": Variant(GRAPH),
    "learnable": Variant(LEARNABLE, identity=True),
    "both": Variant(BOTH, identity=True),
    "both, of the residual": Variant(RESIDUAL),
    "graph, contrastive": Variant(GRAPH, loss="contrastive"),
    "graph, contrastive, margin 1.2": Variant(GRAPH, loss="contrastive", margin=1.2),
    "learnable, contrastive": Variant(LEARNABLE, loss="contrastive", identity=True),
    "learnable, near the average": Variant({**LEARNABLE, "start": 2.0}),
    "learnable, window 5": Variant({**LEARNABLE, "window": 5}, identity=True),
    "graph, more pairs": Variant(GRAPH, more=True),
    "learnable, more pairs": Variant(LEARNABLE, identity=True, more=True),
    "both, more pairs": Variant(BOTH, identity=True, more=True),
    "graph, larger photos": Variant(GRAPH, side=512),
    "graph, k 8": Variant({**GRAPH, "k": 8}),
    "graph, k 48": Variant({**GRAPH, "k": 48}),
    "graph, rate 1e-4": Variant(GRAPH, rate=1e-4),
    "graph, rate 1e-3": Variant(GRAPH, rate=1e-3),
    "learnable, rate 3e-3": Variant(LEARNABLE, identity=True, rate=3e-3),
    "graph, 20 epochs": Variant(GRAPH, epochs=20),
}


@dataclass(frozen=True, eq=False)
class Head:
    """Blocks and a reduction: what makes descriptors of maps."""

    maps: FrozenMaps
    context: Context
    weight: Tensor
    bias: Tensor

    def __call__(self, name: str, side: int) -> tuple[Tensor, Tensor]:
        """Descriptors (1, d, h, w) and attention (1, h, w)."""
        seen = self.maps.look(self.context, name, side)
        reduced = self.context.smooth(seen, lambda found: how.reduce(found, self.weight, self.bias))
        return reduced, how.attention(seen.reweighted)

    def vectors(self, names: Sequence[str], side: int) -> Tensor:
        """One vector for each photo, (n, d): all its descriptors, each as much as attention says."""
        made = [self(name, side) for name in names]
        return torch.cat([how.weighted_sum([reduced], [attention]) for reduced, attention in made])

    @torch.inference_mode()
    def features(self, name: str, sides: Sequence[int]) -> Any:
        seen = [self(name, side) for side in sides]
        weights = how.relative_attention([attention for _, attention in seen])
        scales = [side / sides[0] for side in sides]
        return how.strongest([reduced for reduced, _ in seen], weights, scales, COUNT).descriptors


@dataclass(frozen=True)
class Study:
    sides: tuple[int, ...]
    names: tuple[str, ...]
    numbers: Any
    found: dict[tuple[str, int, int], Any] = field(default_factory=dict)  # by variant, fold and seed

    def run(self, maps: FrozenMaps, name: str, variant: Variant, fold: int, seed: int, examples: Examples) -> None:
        """Train and judge `variant`, called `name`."""
        own, judged = ([self.names[row] for row in np.flatnonzero(self.numbers // 100 % 2 == half)]
                       for half in (fold, 1 - fold))  # fmt: skip
        began = time.thread_time()
        head = start(variant, maps, own, self.sides[0], seed)
        facts = train(head, variant, examples, seed) if variant.trains else {}
        spent = time.thread_time() - began
        ap = judge(head, self.sides, own, judged, seed)
        self.found[name, fold, seed] = ap
        row = {"fold": fold, "variant": name, "seed": seed, "mAP": round(100 * float(ap.mean()), 2), **facts}
        print(json.dumps({**row, "seconds": round(spent)}), flush=True)

    def best(self, count: int) -> list[str]:
        """What does not train, and the `count` variants that do with the best mAP."""
        mean = {name: float(ap.mean()) for (name, _, _), ap in self.found.items()}
        trained = sorted((name for name in mean if VARIANTS[name].trains), key=lambda name: -mean[name])
        return [name for name in mean if not VARIANTS[name].trains] + trained[:count]


def main() -> None:
    args = asked()
    torch.set_num_threads(1)  # of each thread: two trainings run at once
    files = {file.stem: file for file in sorted(args.photos.glob("*.jpg"))}
    numbers = np.array([int(stem) for stem in files])
    others = {f"{folder.name}/{file.relative_to(folder).with_suffix('')}": file for folder in args.also
              for file in sorted(folder.rglob("*")) if file.suffix.lower() in SUFFIXES}  # fmt: skip
    maps = FrozenMaps(args.work / "maps")
    maps.compute(files.items(), args.backbone, args.sides)
    chosen = {name: VARIANTS[name] for name in args.variants.split(";")}
    for side in {one.side for one in chosen.values() if one.more}:
        maps.compute(others.items(), args.backbone, [side])
    study = Study(tuple(args.sides), tuple(files), numbers)
    elsewhere = proven_in(args.work / "others", others) if any(one.more for one in chosen.values()) else None
    halves = {fold: {name: files[name] for name in np.array(list(files))[numbers // 100 % 2 == fold]}
              for fold in args.folds}  # fmt: skip
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # torch leaves Python's lock while it computes
        proofs = {fold: threads.submit(proven_in, args.work / f"half{fold}", half) for fold, half in halves.items()}
        for fold, half in halves.items():
            examples = proofs[fold].result()
            more = examples if elsewhere is None else joined(examples, elsewhere)
            seen, kept = maps.strongest(list(half), args.sides[0], args.channels) if args.channels else (maps, 1.0)
            told = {"fold": fold, "pairs": len(examples.pairs) // 2, "with others": len(more.pairs) // 2, "kept": kept}
            print(json.dumps(told), flush=True)
            chooses = args.choose > 0 and fold == args.folds[0]
            jobs = [(seen, name, one, fold, seed, more if one.more else examples)
                    for seed in range(1 if chooses else args.seeds) for name, one in chosen.items()]  # fmt: skip
            list(threads.map(lambda job: study.run(*job), jobs))
            if chooses:
                report(study.found, None)
                chosen = {name: VARIANTS[name] for name in study.best(args.choose)}
                study.found.clear()
                print(f"chosen: {'; '.join(chosen)}", flush=True)
    report(study.found, args.out)


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("backbone", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--also", type=Path, nargs="*", default=[])
    parser.add_argument("--folds", type=int, nargs="*", default=[0, 1], help="0 learns from even groups, 1 from odd")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--choose", type=int, default=0, help="try all variants with one seed on the first fold, and "
                        "judge so many of the best on the other, with all seeds")  # fmt: skip
    parser.add_argument("--sides", type=int, nargs="*", default=[362, 256, 181], help="sizes of photos that are judged")
    parser.add_argument(
        "--channels", type=int, default=256, help="strongest directions of the maps; 0 for all channels"
    )
    parser.add_argument("--variants", default="plain, average;plain, none;graph;learnable;both;both, of the residual")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def proven_in(folder: Path, files: Mapping[str, Path]) -> Examples:
    """Examples of a collection in `folder`, made unless it is there."""
    photos, path = folder / "photos", folder / "all.resight"
    for name, file in files.items():
        place = photos / f"{name}{file.suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.is_symlink():
            place.symlink_to(file.resolve())
    collection = open_or_create(path, "classic")
    collection.add([photos])
    examples = proven_examples(collection)
    names = [str(Path(name).relative_to(photos.resolve()).with_suffix("")) for name in examples.files]
    return replace(examples, names=tuple(names))


def joined(one: Examples, other: Examples) -> Examples:
    """Photos of two sources, which show nothing in common."""
    return Examples(
        one.names + other.names,
        one.files + other.files,
        np.concatenate((one.clusters, other.clusters + one.clusters.max() + 1)),
        np.concatenate((one.pairs, other.pairs + len(one))),
    )


def start(variant: Variant, maps: FrozenMaps, names: Sequence[str], side: int, seed: int) -> Head:
    """Plain HOW with the blocks as they begin; the whitening is learned from the photos `names`."""
    moments, channels = None, maps(names[0], side).shape[1]
    context = Context(ContextSettings(channels, **variant.blocks), seed)
    if variant.identity and context.smoothing is not None:
        with torch.no_grad():
            context.smoothing.bias[0] = 3.0  # exp(-3.05): a neighbour counts a twentieth of what the centre counts
    for name in names:
        one = maps(name, side)
        smoothed = how.smooth(one) if variant.blocks["smoothing"] == "average" else one
        moments = Moments(channels) if moments is None else moments
        moments.add(smoothed[0].flatten(1).T.numpy())
    reduction = moments.whitening(DIM)
    return Head(maps, context, torch.from_numpy(reduction.weight), torch.from_numpy(reduction.bias))


def train(head: Head, variant: Variant, examples: Examples, seed: int) -> dict[str, Any]:
    """Train the blocks; the loss of the first and the last epoch."""
    slow = [p for name, p in head.context.named_parameters() if name.endswith("smoothing.bias")]
    rest = [p for name, p in head.context.named_parameters() if not name.endswith("smoothing.bias")]
    groups = [{"params": part, "weight_decay": decay} for part, decay in ((rest, 1e-4), (slow, 0.0)) if part]
    optimiser = torch.optim.Adam(groups, lr=variant.rate)
    told, pairs = [], np.unique(np.sort(examples.pairs, axis=1), axis=0)
    for epoch in range(variant.epochs):
        for group in optimiser.param_groups:
            group["lr"] = variant.rate * min(1.0, (epoch + 1) / 3) * 0.95**epoch
        total, order = 0.0, np.random.default_rng((seed, epoch)).permutation(pairs)
        for batch in np.array_split(order, -(-len(pairs) // variant.batch)):
            x = head.vectors([examples.names[row] for row in batch.ravel()], variant.side)
            loss = batch_loss(variant, x, torch.from_numpy(examples.clusters[batch.ravel()]))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.item() * len(batch) / len(pairs)
        told.append(total)
    return {"loss": [round(told[0], 4), round(told[-1], 4)]}


def batch_loss(variant: Variant, x: Tensor, clusters: Tensor) -> Tensor:
    """Mean over unit rows x (2n, d), of which 2k and 2k + 1 are a pair; rows of other `clusters` are negatives.

    All have a gradient: negatives kept from the beginning of an epoch may let all vectors drift one way, away from what
    these were, which lowers the loss and teaches nothing.
    """
    partner = torch.arange(len(x)) ^ 1
    other = clusters[:, None] != clusters
    scores = x @ x.T
    near = scores.gather(1, partner[:, None])
    if variant.loss == "contrastive":
        far = (variant.margin - (2 - 2 * scores).clamp(min=1e-6).sqrt()).clamp(min=0).square()
        return ((1 - near[:, 0]) + (far * other).sum(dim=1) / 2).mean()
    logits = torch.cat((near, scores.masked_fill(~other, -torch.inf)), dim=1) / variant.temperature
    return functional.cross_entropy(logits, torch.zeros(len(x), dtype=torch.long))


def judge(head: Head, sides: Sequence[int], own: Sequence[str], judged: Sequence[str], seed: int) -> Any:
    """Average precision of the queries among the photos judged; the codebook is of the half learned from."""
    known = np.concatenate([head.features(name, sides) for name in own])
    index = Asmk(Codebook.fit(known, round(MAP_WORDS * len(known) ** 0.5), seed=seed, points_per_word=20))
    found = [head.features(name, sides) for name in judged]
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


def report(found: Mapping[tuple[str, int, int], Any], out: Path | None) -> None:
    """mAP of each variant by seed and fold, and the tests against plain HOW, of all folds and of each."""
    names, folds, seeds = (sorted(set(parts)) for parts in zip(*found, strict=True))
    mean = {
        name: {fold: np.mean([found[name, fold, seed] for seed in seeds], axis=0) for fold in folds} for name in names
    }
    whole = {name: np.concatenate(list(one.values())) for name, one in mean.items()}
    result: dict[str, Any] = {"mAP": {name: float(one.mean()) for name, one in whole.items()}}
    result["seeds"] = {
        name: [float(np.concatenate([found[name, fold, seed] for fold in folds]).mean()) for seed in seeds]
        for name in names
    }
    for plain in (name for name in names if not VARIANTS[name].trains):
        for name in (name for name in names if VARIANTS[name].trains):
            tests = {f"fold {fold}": asdict(compare(mean[name][fold], mean[plain][fold], seed=0)) for fold in folds}
            tests["all"] = asdict(compare(whole[name], whole[plain], seed=0))
            result[f"{name} against {plain}"] = tests
    print(json.dumps(result, indent=1))
    if out is not None:
        raw = [
            {"variant": name, "fold": fold, "seed": seed, "ap": ap.tolist()} for (name, fold, seed), ap in found.items()
        ]
        out.write_text(json.dumps({**result, "queries": raw}, indent=1))


if __name__ == "__main__":
    main()
