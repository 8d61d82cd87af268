"""Training of local descriptors: HOW, its blocks of context, and FIRe."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from resight.errors import ImageError, UsageError
from resight.features.local import how
from resight.features.local.context import Context, ContextSettings
from resight.features.local.encoders import MAP_WORDS
from resight.features.local.fire import FeatureIntegration
from resight.features.local.fire_encoder import Fire
from resight.features.local.how_encoder import How
from resight.features.local.reduction import Moments, Reduction
from resight.features.local.trunk import Trunk
from resight.features.networks.resnet import trunk_backbone
from resight.index.asmk import Asmk
from resight.index.codebook import Codebook
from resight.progress import Progress, silent
from resight.training import losses
from resight.training.loop import Epoch, Gradient
from resight.training.networks import FireNetwork, HowNetwork, Start, Summed
from resight.training.parallel import add_up, processes
from resight.training.recipes import Recipe, Settings
from resight.training.run import Bench, Data, Outcome, Place, device_of, mined_batches, propagated, run, tuple_gradient
from resight.training.tuples.batches import Batch
from resight.training.tuples.photos import Photos, by_size
from resight.training.validation import Judged, judged_local
from resight.types import LocalFeatures

REDUCED_ON = 5000  # photos that the reduction is learnt from, without labels
CELLS = 1000  # of each of them, at most
CODEBOOK_PHOTOS = 200  # that the codebook of a validation is learnt from
SCALES = (1.0, 0.7071, 0.5)  # at which photos are seen in a validation
DIM = 128


def train_local(
    recipe: Recipe,
    start: Start,
    data: Data,
    place: Place | None = None,
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Train local descriptors from `start` by `recipe`, and judge them by mAP of the photos held back, through ASMK.

    The reduction is a PCA whitening of local descriptors of the photos, and stays. Several processes, started by
    torchrun, share the batches. Memory and errors as for `resight.training.descriptor.train_descriptor`.
    """
    where = place or Place()
    device_of(where.device)
    with processes(where.device) as device:
        torch.manual_seed(recipe.settings.seed)
        photos = Photos(data.learn.files, recipe.settings.side, start.mean, start.std)
        make = _fire_network if recipe.loss == "super-features" else _how_network
        network = make(recipe.settings, start, photos, device, progress)
        describer = Summed(network) if isinstance(network, FireNetwork) else network
        bench = Bench(network, describer, recipe, data, start, where, device, progress)
        memory: dict[str, Tensor] = {}
        batches = mined_batches(bench, memory)
        if isinstance(network, FireNetwork):
            loss = Gradient(partial(_add_super_features, bench, network))
        else:
            loss = tuple_gradient(bench, partial(_contrastive, recipe.settings.margin))
        return run(bench, batches, loss, lambda: _judged(bench), memory, on_epoch)


def _contrastive(margin: float, x: Tensor, labels: Tensor) -> Tensor:
    return losses.contrastive(x, labels, margin=margin)


def context_settings(settings: Settings, channels: int) -> ContextSettings:
    """The blocks that a training asks for."""
    return ContextSettings(
        channels,
        settings.reweighting,  # type: ignore[arg-type]
        settings.smoothing,  # type: ignore[arg-type]
        settings.window,
        smoothed=settings.smoothed,  # type: ignore[arg-type]
        confidence_from=settings.confidence_from,  # type: ignore[arg-type]
    )


def _how_network(
    settings: Settings, start: Start, photos: Photos, device: torch.device, progress: Progress
) -> HowNetwork:
    context = Context(context_settings(settings, start.channels), settings.seed)
    start.trunk.to(device).eval()
    average = settings.smoothing != "none" and settings.smoothed == "all"
    moments = Moments(start.channels)

    def take(maps: Tensor) -> None:
        smoothed = how.smooth(maps, settings.window) if average else maps
        _take_strongest(moments, smoothed, how.attention(maps))

    _over_photos(start, photos, settings, device, take, progress)
    reduction = moments.whitening(settings.dim or DIM)
    return HowNetwork(start.trunk, context, torch.from_numpy(reduction.weight), torch.from_numpy(reduction.bias))


def _fire_network(
    settings: Settings, start: Start, photos: Photos, device: torch.device, progress: Progress
) -> FireNetwork:
    """FIRe's transformer starts at random: its authors train it with the classes of ImageNet first."""
    del photos, device, progress
    return FireNetwork(start.trunk, FeatureIntegration(start.channels, settings.templates, start.channels))


def _take_strongest(moments: Moments, maps: Tensor, attention: Tensor) -> None:
    rows = maps.flatten(2).transpose(1, 2)
    order = attention.flatten(1).argsort(dim=1, descending=True, stable=True)[:, :CELLS]
    for row, chosen in zip(rows, order, strict=True):
        moments.add(row[chosen].cpu().numpy())


def _over_photos(
    start: Start,
    photos: Photos,
    settings: Settings,
    device: torch.device,
    take: Callable[[Tensor], None],
    progress: Progress,
) -> None:
    """Give the maps of random photos to `take`, those of each photo alone: their order must not depend on sizes."""
    rows = np.sort(np.random.default_rng(settings.seed).permutation(len(photos.files))[:REDUCED_ON])
    with torch.inference_mode():
        for done, row in enumerate(rows.tolist(), 1):
            take(start.trunk(photos.tensor([photos.pixels(row)]).to(device)).float())
            progress("learning the reduction", done, len(rows))


def _add_super_features(bench: Bench, network: FireNetwork, batch: Batch) -> float:
    """Of each tuple in turn: matched super-features of query and positive, and attention maps that must differ."""
    total = 0.0
    for images in batch.images:
        if not images:
            continue
        groups = by_size(images, network.pass_pixels)
        order = np.argsort([place for group in groups for place in group])
        features, apart = [], torch.zeros((), device=bench.device)
        for group in groups:
            found, attention = network(bench.learn.tensor([images[place] for place in group]).to(bench.device))
            features.append(found)
            apart = apart + losses.decorrelation(attention)
        rows = torch.cat(features)[torch.from_numpy(order).to(bench.device)]
        settings = bench.settings
        matched = losses.superfeature(rows, margin=settings.margin, faithful=settings.faithful)
        total += propagated(matched + apart)
    return add_up(network, total) / len(batch)


def _judged(bench: Bench) -> Judged:
    """How the photos held back are found by their local features, in an index that is made for them."""
    encoder = encoder_of(bench)
    judge, learn = bench.judge, bench.learn
    training = np.sort(np.random.default_rng(0).permutation(len(learn.files))[:CODEBOOK_PHOTOS])
    known = np.concatenate([one.descriptors for one in _features(bench, encoder, learn, training.tolist())])
    words = max(16, min(round(MAP_WORDS * len(known) ** 0.5), len(known) // 2))
    index = Asmk(Codebook.fit(known, words, seed=0))
    return judged_local(bench.data.judge, index, _features(bench, encoder, judge, list(range(len(judge.files)))))


def encoder_of(bench: Bench) -> How | Fire:
    """What the network is in a search, as it now is; FIRe's reduction is learnt from photos."""
    network, settings = bench.network, bench.settings
    backbone = trunk_backbone(network.trunk, "trained", device=str(bench.device))
    trunk = Trunk(backbone, max_side=settings.side, scales=SCALES)
    if isinstance(network, HowNetwork):
        reduction = Reduction(network.weight.cpu().numpy(), network.bias.cpu().numpy())
        context = Context(network.context.settings)
        context.load_state_dict(network.context.state_dict())
        return How(trunk, reduction, "none", context.eval(), settings.count, reduction.dim)
    if not isinstance(network, FireNetwork):
        raise UsageError(f"recipe {bench.recipe.name} trains no local features")
    transformer = copy.deepcopy(network.transformer).cpu().eval()
    found = Fire(trunk, transformer, None, settings.count, settings.dim or DIM)
    moments = Moments(found.channels)
    rows = np.sort(np.random.default_rng(0).permutation(len(bench.learn.files))[:CODEBOOK_PHOTOS])
    for row in rows.tolist():
        moments.add(found.sample([bench.learn.pixels(row)]))
    return found.reduced(moments.whitening(found.size))


def _features(bench: Bench, encoder: How | Fire, photos: Photos, rows: list[int]) -> list[LocalFeatures]:
    """Local features of photos, eight at a time."""
    found: list[LocalFeatures] = []
    for start in range(0, len(rows), 8):
        for one in encoder.describe([photos.pixels(row) for row in rows[start : start + 8]]):
            if isinstance(one, ImageError):
                raise UsageError(f"a photo cannot be described: {one}")
            found.append(one)
        bench.progress("validating", min(start + 8, len(rows)), len(rows))
    return found
