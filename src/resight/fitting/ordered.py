"""Train what a published table asks for, and learn the visual words of what the network then sees."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from resight.collection.codebooks import codebook_of
from resight.collection.open import create_collection
from resight.fitting.training import Asked, train_network
from resight.progress import Progress, silent
from resight.training.orders import Order
from resight.training.recipes import recipe_of
from resight.training.run import Place
from resight.training.sources.open import open_examples

MINUTES = 10.0  # between two checkpoints


def train_ordered(order: Order, data: Path, progress: Progress = silent) -> None:
    """Write the files of `order` into the folder `data`, those that are not there yet.

    A checkpoint beside the network lets a training that was stopped go on, and is deleted at the end. It runs on a GPU
    where there is one. Raises as `resight.fitting.training.train_network` does.
    """
    out = data / order.out
    beside = None if order.context is None else data / order.context
    out.parent.mkdir(parents=True, exist_ok=True)
    if not out.exists() or (beside is not None and not beside.exists()):
        _train(order, data, out, progress)
    if order.codebook is not None and not (data / order.codebook).exists():
        _learn_words(order, data, progress)


def _train(order: Order, data: Path, out: Path, progress: Progress) -> None:
    import torch

    state = out.with_name(f"{out.name}.state")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    asked = Asked(
        order.kind,
        order.recipe,
        out,
        data=data / order.data,
        photos=None if order.photos is None else data / order.photos,
        weights=data / order.start,
        settings=order.settings,
    )
    train_network(asked, Place(device=device, checkpoint=state, minutes=MINUTES), progress=progress)
    state.unlink(missing_ok=True)


def _learn_words(order: Order, data: Path, progress: Progress) -> None:
    """Index some of the training photos with the trained network, and keep the codebook of that."""
    assert order.codebook is not None
    settings = {**order.search, "weights": str(data / order.out), "words": order.words}
    if order.context is not None:
        settings["context"] = str(data / order.context)
    learned, _ = open_examples(data / order.data, None if order.photos is None else data / order.photos)
    rows = np.sort(np.random.default_rng(0).permutation(len(learned))[: order.sampled])
    target = data / order.codebook
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        layout = recipe_of(order.recipe, order.kind).layout  # of local features, the name of what they are searched by
        collection = create_collection(Path(folder) / "words.resight", layout, settings)
        collection.add([learned.files[row] for row in rows.tolist()], progress=progress)
        codebook_of(collection.snapshot).save(target)
