"""Train what a published table asks for, and learn the visual words of what the network then sees."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from resight.arrays import unit_rows
from resight.collection.codebooks import codebook_of
from resight.collection.open import create_collection
from resight.errors import UsageError
from resight.fitting.training import Asked, train_network
from resight.matching.oasis import Oasis
from resight.matching.similarity import DeepSimilarity, new_similarity
from resight.progress import Progress, silent
from resight.regular_files import open_regular, read_regular
from resight.training.orders import STAGES, Order, Ordered, SimilarityOrder
from resight.training.recipes import recipe_of
from resight.training.run import Place
from resight.training.similarity.fit import learn_deep_similarity
from resight.training.similarity.oasis import learn_oasis
from resight.training.similarity.pairs import pairs_from_groups
from resight.training.similarity.stage import Options
from resight.training.sources.open import open_examples
from resight.types import Float32, as_array

MINUTES = 10.0  # between two checkpoints


def train_ordered(order: Ordered, data: Path, progress: Progress = silent) -> None:
    """Write the files of `order` into the folder `data`, those that are not there yet. Raises as the trainings do."""
    if isinstance(order, SimilarityOrder):
        _learn_similarities(order, data, progress)
    elif isinstance(order, Order):
        _train_network(order, data, progress)
    else:
        raise UsageError(f"{order.out} is of no kind that can be trained")


def _train_network(order: Order, data: Path, progress: Progress) -> None:
    """The network, its blocks of context, its codebook.

    A checkpoint beside the network lets a training that was stopped go on, and is deleted at the end. It runs on a GPU
    where there is one.
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


def _learn_similarities(order: SimilarityOrder, data: Path, progress: Progress) -> None:
    """The stages one after another; checkpoints of theirs stay in a folder beside the last one until all are done."""
    X = _descriptors(data / order.features)
    labels = np.array(read_regular(data / order.labels).decode("utf-8").splitlines())
    if len(labels) != len(X):
        raise UsageError(f"{order.labels} has {len(labels)} lines, and {order.features} {len(X)} descriptors")
    pairs = pairs_from_groups(np.unique(labels, return_inverse=True)[1].astype(np.int64))
    steps = {"batch": 100, "rate": order.rate, "optimiser": "sgd", "decay": False}
    cosine, options = Options(order.cosine_epochs, **steps), Options(order.epochs, **steps)  # type: ignore[arg-type]
    states = (data / order.out).with_suffix(".states")
    states.mkdir(parents=True, exist_ok=True)
    start = new_similarity(X.shape[1], order.hidden, paired=False)
    found = learn_deep_similarity(
        start, X, pairs, cosine_pairs=order.random_pairs, cosine=cosine, options=options, checkpoints=states,
        progress=progress,
    )  # fmt: skip
    oasis = learn_oasis(Oasis.identity(X.shape[1]), X, pairs, progress=progress)
    models: tuple[Oasis | DeepSimilarity, ...] = (
        oasis.model,
        found.cosine.model,
        found.pairs.model,
        found.hard.model,
    )
    for stage, model in zip(STAGES, models, strict=True):
        target = data / order.stages[stage]
        target.parent.mkdir(parents=True, exist_ok=True)
        model.save(target)
    shutil.rmtree(states)


def _descriptors(path: Path) -> Float32:
    try:
        with open_regular(path) as file:
            found = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} holds no array of descriptors: {error}") from error
    return unit_rows(as_array(str(path), found, np.float32, (None, None)))
