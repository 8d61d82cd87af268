"""Losses of descriptor training: on tuples, on ranked lists, on classes, and on the super-features of FIRe.

Tensors in, a scalar tensor out, on the device of the input. *Tuples* are rows (n, D) with labels (n,): -1 starts a
tuple and marks its query, 1 is a positive of that query, 0 a negative.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from resight.errors import ArrayError, UsageError
from resight.training.separation.loss import similarity_separation as similarity_separation

EPSILON = 1e-6


def contrastive(x: Tensor, labels: Tensor, margin: float = 0.7) -> Tensor:
    """Contrastive loss of tuples (n, D), summed: d²/2 of each positive, max(0, margin - d)²/2 of each negative.

    d = ||q - x + 1e-6||, whose gradient exists at equal vectors too (Radenovic et al., TPAMI 2019).
    """
    queries, tuples = _tuples(x, labels)
    distance: Tensor = torch.linalg.vector_norm(x[queries][tuples] - x + EPSILON, dim=1)
    pull = distance[labels == 1].square().sum()
    push = (margin - distance[labels == 0]).clamp(min=0).square().sum()
    return (pull + push) / 2


def triplet(x: Tensor, labels: Tensor, margin: float = 0.1) -> Tensor:
    """Triplet loss of tuples (n, D) with one positive each, summed: max(0, ||q - p||² - ||q - n||² + margin).

    SOLAR divides the sum by the number of tuples and has a margin of 1.25 (Ng et al., ECCV 2020).
    """
    query, positive, negative = _triplets(x, labels)
    return (_squared(query, positive) - _squared(query, negative) + margin).clamp(min=0).sum()


def second_order(x: Tensor, labels: Tensor) -> Tensor:
    """Second-order similarity of tuples (n, D) with one positive each (Tian et al., CVPR 2019; SOLAR).

    Root of the sum over all negatives of (||q - n||² - ||p - n||²)², divided by the number of tuples.
    """
    query, positive, negative = _triplets(x, labels)
    difference = _squared(query, negative) - _squared(positive, negative)
    length: Tensor = torch.linalg.vector_norm(difference)
    return length / (labels == -1).sum()


def average_precision(
    scores: Tensor,
    labels: Tensor,
    bins: int = 25,
    lowest: float = 0.0,
    highest: float = 1.0,
    form: Literal["plain", "tie-aware", "simplified"] = "plain",
) -> Tensor:
    """1 - mean average precision, with soft ranks: scores (Q, N) in `bins` triangular bins from `highest` to `lowest`.

    `labels` (Q, N): 1 relevant, 0 not; queries without a relevant row have no AP and are left out. `form`: "plain" is
    AP-GeM (Revaud et al., ICCV 2019); "tie-aware" averages the precision over all orders of a bin's members, and
    "simplified" takes it at the middle of the bin (He et al., CVPR 2018). Peak memory: some six arrays Q x bins x N.
    Raises `UsageError` on other arguments, `ArrayError` when no query has a relevant row.
    """
    if bins < 2 or not lowest < highest:
        raise UsageError(f"{bins} bins from {lowest} to {highest}: at least 2 are needed, over a rising range")
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise ArrayError(f"scores {tuple(scores.shape)} and labels {tuple(labels.shape)} must have one shape (Q, N)")
    counted = labels.sum(dim=1) > 0
    if not counted.any():
        raise ArrayError("no query has a relevant row: average precision is not defined")
    relevant = labels[counted].to(scores.dtype)
    weight = _soft_bins(scores[counted], bins, lowest, highest)
    found = weight.sum(dim=2)
    hits = (weight * relevant[:, None]).sum(dim=2)
    precisions = {"plain": _precision, "tie-aware": _tie_aware_precision, "simplified": _middle_precision}
    if form not in precisions:
        raise UsageError(f"form={form!r} is none of {', '.join(precisions)}")
    return 1 - ((hits * precisions[form](found, hits)).sum(dim=1) / relevant.sum(dim=1)).mean()


def arcface_logits(x: Tensor, weight: Tensor, classes: Tensor, margin: float = 0.1, scale: float = 45.25) -> Tensor:
    """Logits (n, C) of rows `x` (n, D), class weights (C, D) and true classes (n,): scale · cos(angle).

    The margin, in radians, is added to the angle of the true class where the sum is at most pi (Deng et al., CVPR
    2019). The defaults are DELG's (Cao et al., ECCV 2020), where scale is the root of 2048 dimensions.
    """
    cosine, true = _class_cosines(x, weight, classes)
    return scale * torch.where(true & (cosine >= -math.cos(margin)), _turned(cosine, margin), cosine)


def arcface(x: Tensor, weight: Tensor, classes: Tensor, margin: float = 0.1, scale: float = 45.25) -> Tensor:
    """Cross entropy of `arcface_logits`, mean over the rows."""
    return functional.cross_entropy(arcface_logits(x, weight, classes, margin, scale), classes)


def curricularface_logits(
    x: Tensor,
    weight: Tensor,
    classes: Tensor,
    progress: Tensor | float,
    margin: float = 0.15,
    scale: float = 30.0,
    momentum: float = 0.99,
) -> tuple[Tensor, Tensor]:
    """Logits (n, C) as of `arcface_logits`, but hard negatives count more as training goes on, and the new `progress`.

    `progress`, 0 before the first batch, is the running mean of the cosines of the true classes, this batch included
    with weight 1 - `momentum`. A false class whose cosine c exceeds cos(angle + margin) of the true one gets c ·
    (progress + c). Where angle + margin exceeds pi, margin · sin(margin) is taken from the true cosine instead (Huang
    et al., CVPR 2020). The defaults are those of the PyTorch port of DELG.
    """
    cosine, true = _class_cosines(x, weight, classes)
    target = cosine.gather(1, classes[:, None])
    moved = _turned(target, margin)
    reached = torch.where(target > -math.cos(margin), moved, target - margin * math.sin(margin))
    advanced = momentum * progress + (1 - momentum) * target.detach().mean()
    hard = cosine * (advanced + cosine)
    return scale * torch.where(true, reached, torch.where(cosine > moved, hard, cosine)), advanced


def superfeature(
    x: Tensor, margin: float = 1.1, weight: float = 0.02, ratio: float = 0.9, *, faithful: bool = False
) -> Tensor:
    """Contrastive loss on super-features (2 + negatives, N, D) of a query, a positive and negative photos.

    Row i of every photo comes from template i; rows are L2-normalised here. The `superfeature_matches` of query and
    positive are pulled together, those of the query and the same template of each negative pushed `margin` apart; the
    sum is halved and multiplied by `weight` (Weinzaepfel et al., ICLR 2022).
    """
    if x.ndim != 3 or len(x) < 2:
        raise ArrayError(f"super-features have shape {tuple(x.shape)}, expected (2 + negatives, N, D)")
    x = functional.normalize(x, dim=2)
    matched = superfeature_matches(x[0].detach(), x[1].detach(), ratio, faithful=faithful)
    distance: Tensor = torch.linalg.vector_norm(x[0, matched] - x[1:, matched] + EPSILON, dim=2)
    pull, push = distance[0].square().sum(), (margin - distance[1:]).clamp(min=0).square().sum()
    return weight * (pull + push) / 2


def superfeature_matches(query: Tensor, positive: Tensor, ratio: float = 0.9, *, faithful: bool = False) -> Tensor:
    """Templates (m,) int64, ascending, whose super-features (N, D), L2-normalised, match in both photos.

    They are each other's nearest neighbours, and the nearest distance is at most `ratio` of the second nearest.
    `faithful`: divide by the *index* of the second nearest instead of its distance, a fault of the published program,
    which so passes nearly every match.
    """
    if query.ndim != 2 or query.shape != positive.shape or len(query) < 2:
        shapes = f"{tuple(query.shape)} and {tuple(positive.shape)}"
        raise ArrayError(f"super-features have shapes {shapes}, expected (N, D) twice, with N of at least 2")
    distance = torch.cdist(query, positive, compute_mode="donot_use_mm_for_euclid_dist")
    two, index = distance.topk(2, dim=1, largest=False)
    template = torch.arange(len(query), device=query.device)
    mutual = (index[:, 0] == template) & (distance.argmin(dim=0) == template)
    second = index[:, 1].to(two.dtype) if faithful else two[:, 1]
    return torch.nonzero(mutual & (two[:, 0] <= ratio * second))[:, 0]


def decorrelation(attention: Tensor, weight: float = 0.1) -> Tensor:
    """Mean cosine between different attention maps (B, N, H, W) of one photo, summed over B photos, times `weight`.

    It keeps the templates of FIRe from looking at the same place (Weinzaepfel et al., ICLR 2022).
    """
    if attention.ndim != 4 or attention.shape[1] < 2:
        shape = tuple(attention.shape)
        raise ArrayError(f"attention maps have shape {shape}, expected (B, N, H, W) with N of at least 2")
    maps = functional.normalize(attention.flatten(2), dim=2)
    cosine = maps @ maps.transpose(1, 2)
    same = torch.eye(maps.shape[1], dtype=torch.bool, device=maps.device)
    return weight * cosine[:, ~same].mean(dim=1).sum()


def deep_similarity(scores: Tensor, cosine: Tensor, matching: Tensor, delta: float = 0.2) -> Tensor:
    """Mean over pairs of |score - (cosine + delta)| where they match, |score - (cosine - delta)| where not.

    `scores`, `cosine` and the booleans `matching` have shape (n,); with delta 0 every score is to be the cosine (Garcia
    and Vogiatzis, Image and Vision Computing 2019).
    """
    if scores.ndim != 1 or cosine.shape != scores.shape or matching.shape != scores.shape:
        shapes = f"{tuple(scores.shape)}, {tuple(cosine.shape)} and {tuple(matching.shape)}"
        raise ArrayError(f"scores, cosines and matches have shapes {shapes}, expected (n,) three times")
    sign = 2 * matching.to(scores.dtype) - 1
    return (scores - cosine - delta * sign).abs().mean()


def _class_cosines(x: Tensor, weight: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines (n, C) of rows and class weights, and which of them are of the true class."""
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[1] or classes.shape != x.shape[:1]:
        shapes = (tuple(x.shape), tuple(weight.shape), tuple(classes.shape))
        raise ArrayError(f"rows, weights and classes have shapes {shapes}, expected (n, D), (C, D), (n,)")
    cosine = (functional.normalize(x) @ functional.normalize(weight).T).clamp(-1, 1)
    return cosine, functional.one_hot(classes, len(weight)).bool()


def _turned(cosine: Tensor, margin: float) -> Tensor:
    """cos(angle + margin), from the cosine alone: the gradient of acos is infinite at 1."""
    sine = (1 - cosine.square()).clamp(min=1e-12).sqrt()
    return cosine * math.cos(margin) - sine * math.sin(margin)


def _tuples(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (T,) of the queries and the tuple (n,) of every row."""
    if x.ndim != 2 or labels.shape != x.shape[:1]:
        raise ArrayError(f"tuples have shape {tuple(x.shape)}, labels {tuple(labels.shape)}: expected (n, D) and (n,)")
    if not bool(((labels == -1) | (labels == 0) | (labels == 1)).all()):
        raise ArrayError("labels of tuples must be -1 (query), 1 (positive) or 0 (negative)")
    query = labels == -1
    if len(query) == 0 or not bool(query[0]):
        raise ArrayError("the first row of a tuple must be its query, with label -1")
    return torch.nonzero(query)[:, 0], torch.cumsum(query, 0) - 1


def _triplets(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, positive and negative (m, D) of every negative."""
    queries, tuples = _tuples(x, labels)
    positives = torch.nonzero(labels == 1)[:, 0]
    if not torch.equal(tuples[positives], torch.arange(len(queries), device=x.device)):
        raise ArrayError(f"{len(positives)} positives in {len(queries)} tuples: each tuple needs exactly one")
    of = tuples[labels == 0]
    return x[queries][of], x[positives][of], x[labels == 0]


def _squared(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum(dim=1)


def _soft_bins(scores: Tensor, bins: int, lowest: float, highest: float) -> Tensor:
    """Share (Q, bins, N) of every bin in every score; the first and the last bin are flat beyond their centres."""
    centres = torch.linspace(highest, lowest, bins, dtype=scores.dtype, device=scores.device)
    inside = scores.clamp(lowest, highest)[:, None]
    return (1 - (inside - centres[:, None]).abs() * (bins - 1) / (highest - lowest)).clamp(min=0)


def _precision(found: Tensor, hits: Tensor) -> Tensor:
    return hits.cumsum(1) / (found.cumsum(1) + 1e-16)


def _middle_precision(found: Tensor, hits: Tensor) -> Tensor:
    return (2 * hits.cumsum(1) - hits + 1) / (2 * found.cumsum(1) - found + 1)


def _tie_aware_precision(found: Tensor, hits: Tensor) -> Tensor:
    """Integral over the ranks of a bin: the t-th member has (hits - 1)/(found - 1)·t relevant ones before it."""
    found_before, hits_before = found.cumsum(1) - found, hits.cumsum(1) - hits
    slope = (hits - 1).clamp(min=0) / (found - 1).clamp(min=1e-16)
    start = hits_before + 1 - slope * (found_before + 1)
    logarithm = torch.log((found_before + found + 1) / (found_before + 1))
    return (slope * found + start * logarithm) / (found + 1e-16)
