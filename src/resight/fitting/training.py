"""Train a network on a data set, or on one's own collection without labels, and write it to a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resight.collection.open import open_collection
from resight.errors import ResightError, UsageError
from resight.fitting.proven import proven_examples
from resight.progress import Progress, silent
from resight.store.folder import faults
from resight.training.data import hold_out
from resight.training.descriptor import train_descriptor
from resight.training.local import train_local
from resight.training.loop import Epoch
from resight.training.networks import open_start
from resight.training.output import write_network
from resight.training.parallel import outermost
from resight.training.recipes import Kind, Recipe, recipe_of
from resight.training.run import Data, Outcome, Place
from resight.training.sources.open import open_examples


@dataclass(frozen=True)
class Asked:
    """What is to be trained: `kind` and `recipe`, with other `settings`; on `data`, a file or folder whose photos may
    lie in `photos`, or on the collection `source`, of which `proofs` photos are searched for (None: all); from a
    `backbone` or `weights`; written to `out`."""

    kind: Kind
    recipe: str
    out: Path
    data: Path | None = None
    source: Path | None = None
    photos: Path | None = None
    proofs: int | None = None
    backbone: Path | None = None
    weights: Path | None = None
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Training:
    """What was trained by `recipe` on `data`, its `outcome`, and the `files` that were written."""

    recipe: Recipe
    data: Data
    outcome: Outcome
    files: tuple[Path, ...]

    @property
    def gain(self) -> tuple[float, float]:
        """mAP of the photos held back, before and after."""
        return self.outcome.before.map, self.outcome.after.map


def train_network(
    asked: Asked,
    place: Place,
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
    progress: Progress = silent,
) -> Training:
    """Train, and write what came out: the state of the epoch that was best on the photos held back.

    Where the loss diverges, the best state so far is written all the same, unless that is the start. Raises
    `UsageError` for data, networks and settings that cannot be, `CollectionError` when the disk refuses.
    """
    recipe = recipe_of(asked.recipe, asked.kind).with_settings(asked.settings or {})
    _check_out(asked.out)
    start = open_start(asked.backbone, asked.weights, local=asked.kind == "local")
    data = data_of(asked, recipe, progress)
    train = train_descriptor if asked.kind == "descriptor" else train_local
    outcome = train(recipe, start, data, place, on_epoch=on_epoch, progress=progress)
    trained = outcome.trained
    if trained.stopped == "diverged" and trained.best == 0:
        raise ResightError(f"training diverged before it gained anything: {trained.fault}; give a smaller rate")
    facts = {
        "epoch": trained.best,
        "photos": len(data.learn),
        "pairs": len(data.learn.pairs),
        "seed": recipe.settings.seed,
        "before": outcome.before.map,
        "after": outcome.after.map,
        "start": start.sha256,
    }
    files = write_network(asked.out, outcome.network, recipe, start, facts) if outermost() else []
    return Training(recipe, data, outcome, tuple(files))


def data_of(asked: Asked, recipe: Recipe, progress: Progress = silent) -> Data:
    """The photos to learn from and to judge by. Raises `UsageError` unless one source is named, and it has pairs."""
    seed, share = recipe.settings.seed, recipe.settings.share
    if (asked.data is None) == (asked.source is None):
        raise UsageError("a training learns from one thing: give DATA, or --from NAME.resight")
    judged = None
    if asked.source is not None:
        learned = proven_examples(open_collection(asked.source), photos=asked.proofs, seed=seed, progress=progress)
    else:
        assert asked.data is not None
        learned, judged = open_examples(asked.data, asked.photos, seed=seed)
    learn, judge = hold_out(learned, share, seed) if judged is None else (learned, judged)
    for examples in (learn, judge):
        examples.check_files()
    return Data(learn, judge)


def _check_out(out: Path) -> None:
    """Raise before hours of training what would be raised after: the file cannot be written."""
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError(f"{out} cannot be written: name a file in a folder that exists")
    with faults("write", out):
        partial = out.with_name(f"{out.name}.part")
        partial.touch()
        partial.unlink()
