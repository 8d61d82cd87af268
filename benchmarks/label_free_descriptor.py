"""Is a global descriptor better after some minutes of training on one's own photos, without a label?

Groups of INRIA Holidays, or any photos named by group * 100 + number, are cut into two halves. On one half a collection
of recipe classic is made, pairs that geometry proves are learned from, and the descriptor is judged on the other half;
then the other way round. Before and after alike, descriptors are whitened by a ZCA that is learned without labels on
the half that was learned from, at the size at which photos are judged. Every seed draws other tuples and changes of
photos. Average precision of each query is averaged over the seeds, and compared with that of the untrained network by
the paired tests of `evaluate`.

    python benchmarks/label_free_descriptor.py PHOTOS BACKBONE.onnx --seeds 3 --set epochs=5 --out study.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from resight.cli.options import settings
from resight.collection import create_collection
from resight.evaluation.significance import compare
from resight.features.checkpoints import load_descriptor
from resight.features.global_descriptor import GlobalDescriptor
from resight.features.networks.open import open_backbone
from resight.features.pooling import gem
from resight.features.whitening import Whitening, fit_zca
from resight.fitting.proven import proven_examples
from resight.images.decode import decode
from resight.index.exact import ExactIndex
from resight.precision import average_precision
from resight.training.data import hold_out
from resight.training.descriptor import train_descriptor
from resight.training.networks import open_start
from resight.training.output import write_network
from resight.training.recipes import RECIPES
from resight.training.run import Data, Place

DEFAULTS = {
    "epochs": 5, "side": 256, "queries": 60, "negatives": 3, "rate": 1e-5, "margin": 0.85, "share": 0.2,
    "brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "crop": 0.3, "zoom": 0.3, "rotation": 5.0,
}  # fmt: skip


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("photos", type=Path)
    asked.add_argument("backbone", type=Path)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--recipe", default="gem")
    asked.add_argument("--set", action="append", dest="given")
    asked.add_argument("--side", type=int, default=1024, help="longest side of the photos that are judged")
    asked.add_argument("--out", type=Path)
    args = asked.parse_args()
    files = sorted(args.photos.glob("*.jpg"))
    numbers = np.array([int(file.stem) for file in files])
    halves = [np.flatnonzero(numbers // 100 % 2 == half) for half in (0, 1)]
    found: dict[str, list[Any]] = {"plain": [], "whitened": [], **{f"seed {seed}": [] for seed in range(args.seeds)}}
    facts = []
    for fold, judged in enumerate(reversed(halves)):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            collection = create_collection(place / "half.resight", "classic")
            for row in halves[fold]:
                (place / files[row].name).symlink_to(files[row])
            collection.add([place])
            examples = proven_examples(collection)
            names = np.array([int(Path(name).stem) // 100 for name in examples.names])
            right = names[examples.pairs[:, 0]] == names[examples.pairs[:, 1]]
            print(f"fold {fold}: {len(examples.pairs) // 2} proven pairs, {int(right.sum()) // 2} right", flush=True)
            pixels = [decode(files[row], max_side=args.side).pixels for row in judged]
            start = GlobalDescriptor(open_backbone(args.backbone), gem, "gem", max_side=args.side)
            own = [decode(files[row], max_side=args.side).pixels for row in halves[fold]]
            zca = fit_zca(np.stack(start.describe(own)))
            vectors = np.stack(start.describe(pixels))
            found["plain"].append(precisions(vectors, numbers[judged]))
            found["whitened"].append(precisions(whitened(vectors, zca), numbers[judged]))
            print(f"plain {found['plain'][-1].mean():.4f}, whitened {found['whitened'][-1].mean():.4f}", flush=True)
            for seed in range(args.seeds):
                began = time.process_time()
                recipe = RECIPES[args.recipe].with_settings({**DEFAULTS, **settings(args.given), "seed": seed})
                learn, held = hold_out(examples, recipe.settings.share, seed)
                begin = open_start(args.backbone, None)
                outcome = train_descriptor(recipe, begin, Data(learn, held), Place())
                write_network(place / "trained.safetensors", outcome.network, recipe, begin, {})
                trained = load_descriptor(place / "trained.safetensors", scales=(1.0,), max_side=args.side)
                after = fit_zca(np.stack(trained.describe(own)))
                ap = precisions(whitened(np.stack(trained.describe(pixels)), after), numbers[judged])
                found[f"seed {seed}"].append(ap)
                row = {
                    "fold": fold, "seed": seed, "mAP": ap.mean(), "best": outcome.trained.best,
                    "held before": outcome.before.map, "held after": outcome.after.map,
                    "losses": [epoch.loss for epoch in outcome.trained.epochs], "pairs": len(learn.pairs),
                    "seconds": time.process_time() - began, "p": float(outcome.network.p.detach()),
                }  # fmt: skip
                facts.append(row)
                print(json.dumps(row), flush=True)
    ap = {name: np.concatenate(parts) for name, parts in found.items()}
    mean = np.mean([ap[f"seed {seed}"] for seed in range(args.seeds)], axis=0)
    result = {
        "mAP": {name: float(one.mean()) for name, one in ap.items()},
        "trained against whitened": asdict(compare(mean, ap["whitened"], seed=0)),
        "trained against plain": asdict(compare(mean, ap["plain"], seed=0)),
        "runs": facts,
    }
    print(json.dumps({name: value for name, value in result.items() if name != "runs"}, indent=1))
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1))


def whitened(vectors: Any, zca: Whitening) -> Any:
    """Whitened and L2-normalised."""
    return zca.apply(vectors)


def precisions(vectors: Any, numbers: Any) -> Any:
    """Average precision of the queries, photos whose number in their group is 0, among all other photos."""
    group = numbers // 100
    queries = np.flatnonzero((numbers % 100 == 0) & (np.bincount(group)[group] > 1))
    ids = ExactIndex.over(vectors).search(vectors[queries], len(vectors)).ids
    other = ids != queries[:, None]
    relevant = (group[ids] == group[queries][:, None]) & other
    return average_precision(relevant, np.bincount(group)[group[queries]] - 1, other)


if __name__ == "__main__":
    main()
