"""Training of global descriptors: GeM, R-MAC, AP-GeM, SOLAR and DELG, each with its authors' loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from resight.errors import UsageError
from resight.features.whitening import fit_zca
from resight.progress import Progress, silent
from resight.training import losses
from resight.training.data import Examples
from resight.training.loop import Epoch, Gradient
from resight.training.networks import DelgNetwork, GlobalNetwork, SolarNetwork, Start
from resight.training.parallel import add_up, processes, rank, size
from resight.training.recipes import Recipe
from resight.training.run import (
    Bench,
    Data,
    Outcome,
    Place,
    device_of,
    mined_batches,
    propagated,
    run,
    tuple_gradient,
    vectors_of,
)
from resight.training.tuples.batches import Batch, Batches, Drawn
from resight.training.tuples.photos import by_size
from resight.training.tuples.three_stage import three_stage
from resight.training.validation import Judged, judged_vectors
from resight.types import Int64

WHITENED = 2000  # photos that the last layer's start is learnt from, without labels


def train_descriptor(
    recipe: Recipe,
    start: Start,
    data: Data,
    place: Place | None = None,
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Train a global descriptor from `start` by `recipe`, and judge it by mAP of the photos held back.

    Its last layer starts as a ZCA whitening of descriptors of the photos, without labels. Several processes, started by
    torchrun, share the batches. Memory: the network three or four times (gradients and Adam's moments), a tuple's
    activations, up to 1 GiB of decoded photos; for AP and SOLAR the batch's descriptors instead of a tuple. Raises
    `UsageError` when the data or the network do not fit the recipe, a photo cannot be decoded, or a checkpoint is of
    another training.
    """
    where = place or Place()
    device_of(where.device)
    with processes(where.device) as device:
        network = network_of(recipe, start, data.learn)
        bench = Bench(network, network, recipe, data, start, where, device, progress)
        if network.linear is not None:
            _whiten(bench, network)
        memory: dict[str, Tensor] = {}
        batches, loss = _work(bench, network, memory)
        return run(bench, batches, loss, lambda: _judged(bench), memory, on_epoch)


def network_of(recipe: Recipe, start: Start, learn: Examples) -> GlobalNetwork:
    """The network of a recipe, over the trunk of `start`; its random weights are drawn from the recipe's seed."""
    torch.manual_seed(recipe.settings.seed)
    asked = recipe.settings.dim
    dim = start.channels if asked == 0 else asked
    if recipe.loss == "solar":
        return SolarNetwork(start.trunk, dim)
    if recipe.loss == "classes":
        return DelgNetwork(start.trunk, len(np.unique(learn.clusters)), dim or start.channels)
    pool = "gem" if recipe.pool == "gem" else "mac"
    p = recipe.settings.p
    return GlobalNetwork(start.trunk, pool, p=p, regional=recipe.regional, dim=dim, normalise=True)  # type: ignore[arg-type]


def _work(
    bench: Bench, network: GlobalNetwork, memory: dict[str, Tensor]
) -> tuple[Callable[[int], Batches], Gradient[Batch]]:
    margin, kind = bench.settings.margin, bench.recipe.loss
    if kind in ("average-precision", "solar") and size() > 1:
        raise UsageError(f"recipe {bench.recipe.name} compares all photos of a batch: train it in one process")
    if kind == "average-precision":
        return _photo_batches(bench, repeated=True), Gradient(partial(_add_precision, bench))
    if kind == "classes":
        assert isinstance(network, DelgNetwork)
        return _photo_batches(bench, repeated=False), Gradient(partial(_add_classes, bench, network))
    mined = mined_batches(bench, memory)
    if kind == "solar":
        return mined, Gradient(partial(_add_solar, bench))
    loss = losses.contrastive if kind == "contrastive" else losses.triplet
    return mined, tuple_gradient(bench, partial(_of_tuple, loss, margin))


def _of_tuple(loss: Callable[..., Tensor], margin: float, x: Tensor, labels: Tensor) -> Tensor:
    return loss(x, labels, margin=margin)


def _judged(bench: Bench) -> Judged:
    judge = bench.data.judge
    return judged_vectors(judge, vectors_of(bench, bench.judge, np.arange(len(judge)), "validating"))


def _whiten(bench: Bench, network: GlobalNetwork) -> None:
    """Start the last layer as a whitening of what comes before it."""
    assert network.linear is not None
    learn, layer = bench.data.learn, network.linear
    network.to(bench.device)
    network.linear = None
    rows = np.sort(np.random.default_rng(bench.settings.seed).permutation(len(learn))[:WHITENED])
    vectors = vectors_of(bench, bench.learn, rows, "whitening")
    fitted = fit_zca(vectors)
    with torch.no_grad():
        weight = torch.from_numpy(fitted.projection[: len(layer.weight)]).float()
        scale = 1 / float(np.linalg.norm(fitted.project(vectors), axis=1).mean())  # the layer's gradient keeps its size
        layer.weight.copy_(scale * weight)
        layer.bias.copy_(-scale * weight @ torch.from_numpy(fitted.mean).float())
    network.linear = layer.to(bench.device)


def _photo_batches(bench: Bench, *, repeated: bool) -> Callable[[int], Batches]:
    """Single photos of each epoch; `repeated`: several of each cluster follow each other, since a photo alone in a
    batch has nothing to find."""
    learn, settings = bench.data.learn, bench.settings
    photos = bench.learn
    paired = np.unique(learn.pairs)

    def batches(epoch: int) -> Batches:
        rng = np.random.default_rng((settings.seed, epoch))
        order = rng.permutation(paired)
        if repeated:
            chosen = rng.permutation(np.unique(learn.clusters[paired]))
            rank_of = np.argsort(chosen)[np.searchsorted(np.sort(chosen), learn.clusters[order])]
            order = order[np.argsort(rank_of, kind="stable")]
        rows = order if settings.queries is None else order[: settings.queries]
        drawn = Drawn(rows, rng.integers(2**62, size=rows.shape))
        ahead = not repeated
        return Batches(drawn, settings.batch, photos, settings.augmentation, ahead, share=(rank(), size()))

    return batches


def _add_precision(bench: Bench, batch: Batch) -> float:
    """AP of every photo of the batch among the others, those of its cluster being relevant."""
    groups = torch.from_numpy(bench.data.learn.clusters[batch.drawn.rows]).to(bench.device)

    def loss(x: Tensor) -> Tensor:
        others = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
        scores = (x @ x.T)[others].view(len(x), -1)
        labels = (groups[:, None] == groups)[others].view(len(x), -1).float()
        return losses.average_precision(scores, labels, bins=bench.settings.bins)

    if len(torch.unique(groups)) == len(groups):  # the last photos of an epoch may all be of different things
        return 0.0
    return _in_three_stages(bench, batch, loss)


def _add_solar(bench: Bench, batch: Batch) -> float:
    """Triplet loss plus second-order similarity, whose root is of the sum over all tuples of the batch."""
    labels = torch.from_numpy(batch.drawn.labels).to(bench.device)
    settings = bench.settings

    def loss(x: Tensor) -> Tensor:
        first = losses.triplet(x, labels, margin=settings.margin) / len(batch)
        return first + settings.weight * losses.second_order(x, labels)

    return _in_three_stages(bench, batch, loss)


def _in_three_stages(bench: Bench, batch: Batch, loss: Callable[[Tensor], Tensor]) -> float:
    photos, change = bench.learn, bench.settings.augmentation
    count = batch.drawn.rows.size
    if count < 2:
        return 0.0
    return three_stage(
        bench.network, photos, lambda place: batch.drawn.image(place, photos, change), count, loss, bench.device
    )


def _add_classes(bench: Bench, network: DelgNetwork, batch: Batch) -> float:
    """ArcFace of the global descriptor, ten times the error of reconstruction, and the classes of local features."""
    numbers = np.unique(bench.data.learn.clusters)
    photos = bench.learn
    mine = [place for place, images in enumerate(batch.images) if images]
    images = [batch.images[place][0] for place in mine]
    total = 0.0
    for group in by_size(images, network.pass_pixels):
        rows: Int64 = batch.drawn.rows[[mine[place] for place in group]]
        classes = torch.from_numpy(np.searchsorted(numbers, bench.data.learn.clusters[rows])).to(bench.device)
        vectors, maps = network.both(photos.tensor([images[place] for place in group]).to(bench.device))
        scale = float(vectors.shape[1]) ** 0.5
        told = losses.arcface(vectors, network.class_weights, classes, bench.settings.margin, scale)
        rebuilt, attended = network.local_losses(maps, classes)
        share = len(group) / len(batch)
        total += propagated(share * (told + bench.settings.weight * rebuilt + attended))
    return add_up(network, total)
