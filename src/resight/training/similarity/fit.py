"""Training of learned similarities: DeepCosine, DeepSim and DeepSimH, one after another.

DeepCosine learns the cosine from random pairs, so that the next stage starts from a similarity that works; DeepSim
raises it for photos that match and lowers it for those that do not; DeepSimH does so harder, on the pairs that are
still judged wrongly. Paper: Garcia and Vogiatzis, "Learning non-metric visual similarity for image retrieval", Image
and Vision Computing 2019.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resight.arrays import unit_rows
from resight.errors import UsageError
from resight.matching.similarity import DeepSimilarity, Oasis, Similarity
from resight.progress import Progress, silent
from resight.training.loop import Trained
from resight.training.similarity.pairs import SHARE, Pairs, descriptors, split
from resight.training.similarity.stage import Batch, Options, train_stage
from resight.types import Float32, Int64

COSINE = Options(epochs=10, rate=2e-3)
PAIRS = Options(epochs=60, rate=2e-4, patience=10)
HELD_PAIRS = 2000  # random pairs that judge DeepCosine


def random_pairs(n: int, dim: int, seed: Any) -> tuple[Float32, Float32, Float32]:
    """Unit vectors x and y (n, dim), and their cosine (n,), uniform in -1 to 1: y = c x + sqrt(1 - c²) u, u at right
    angles to x. Raises `UsageError` unless dim is at least 2."""
    if dim < 2:
        raise UsageError(f"dim={dim}: pairs of every cosine need at least 2 dimensions")
    rng = np.random.default_rng(seed)
    x = unit_rows(rng.standard_normal((n, dim), np.float32))
    across = rng.standard_normal((n, dim), np.float32)
    across = unit_rows(across - np.einsum("nd,nd->n", across, x)[:, None] * x)
    cosine = rng.uniform(-1, 1, n).astype(np.float32)
    y = cosine[:, None] * x + np.sqrt(1 - cosine**2)[:, None] * across
    return x, np.asarray(y, np.float32), cosine


def learn_cosine(
    start: DeepSimilarity,
    *,
    pairs: int = 10_000,
    options: Options = COSINE,
    checkpoint: str | Path | None = None,
    progress: Progress = silent,
) -> Trained[DeepSimilarity]:
    """Stage 1, DeepCosine: the network `start` learns the cosine of `pairs` random pairs an epoch.

    The paper revisits 375 000 pairs for 55 epochs; here every epoch draws new ones, which cost nothing and cannot be
    learned by heart. Validation: 2000 pairs that are never trained on, mean absolute error. `checkpoint`: a file
    written after every epoch; a call with the same arguments continues from it. Raises `UsageError` when training
    diverges.
    """
    if pairs < 1:
        raise UsageError(f"pairs={pairs}: an epoch needs at least one")

    def batches(epoch: int) -> Iterator[Batch]:
        # drawn batch by batch: an epoch of 512-d pairs is 40 MB for every 10 000
        for first in range(0, pairs, options.batch):
            count = min(options.batch, pairs - first)
            yield _random_batch(count, start.dim, [options.seed, 1, epoch, first])

    held = [_random_batch(HELD_PAIRS, start.dim, [options.seed, 0])]
    data, name = f"{pairs} random pairs", "DeepCosine"
    return train_stage(name, start, batches, held, 0.0, options, data=data, checkpoint=checkpoint, progress=progress)


def learn_pairs(
    start: DeepSimilarity,
    X: Any,
    pairs: Pairs,
    *,
    delta: float = 0.2,
    options: Options = PAIRS,
    checkpoint: str | Path | None = None,
    progress: Progress = silent,
) -> Trained[DeepSimilarity]:
    """Stage 2, DeepSim: scores of matching `pairs` of rows of `X` (N, D), L2-normalised, rise by `delta` above their
    cosine, those of non-matching pairs sink as much.

    A quarter of the groups of matching photos is held back to stop early. An epoch sees every matching pair, both ways
    round, and as many non-matching ones, drawn anew; both kinds weigh alike in the validation loss. Raises `UsageError`
    when pairs are too few or all of one kind, or training diverges, `ArrayError` on rows outside X.
    """
    X = descriptors(X, pairs, start.dim)
    train, held = split(pairs, SHARE, options.seed)
    return _learn("DeepSim", start, X, train, held, delta, options, checkpoint, progress)


def learn_hard(
    start: DeepSimilarity,
    X: Any,
    pairs: Pairs,
    *,
    keep: float = 0.5,
    delta: float = 0.8,
    options: Options = PAIRS,
    checkpoint: str | Path | None = None,
    progress: Progress = silent,
) -> Trained[DeepSimilarity]:
    """Stage 3, DeepSimH: as `learn_pairs`, on the hard pairs alone, and with a larger `delta`.

    Hard are the share `keep` of the matching pairs with the lowest score of `start`, and of the non-matching ones with
    the highest (`hardest`). With the same seed the same photos are held back as in stage 2. Raises as `learn_pairs`.
    """
    X = descriptors(X, pairs, start.dim)
    train, held = (hardest(start, X, part, keep) for part in split(pairs, SHARE, options.seed))
    return _learn("DeepSimH", start, X, train, held, delta, options, checkpoint, progress)


def hardest(similarity: Similarity, X: Float32, pairs: Pairs, keep: float) -> Pairs:
    """The share `keep` of matching pairs with the lowest score and of non-matching ones with the highest, at least one
    of each kind there is; equal scores by position."""
    if not 0 < keep <= 1:
        raise UsageError(f"keep={keep}: give the share of pairs to keep, above 0 and up to 1")
    scores = similarity.pairs(X[pairs.left], X[pairs.right])
    kept = []
    for kind, wrong in ((pairs.matching, scores), (~pairs.matching, -scores)):
        members = np.flatnonzero(kind)
        kept.append(members[np.argsort(wrong[members], kind="stable")[: int(np.ceil(keep * len(members)))]])
    return pairs.select(np.sort(np.concatenate(kept)))


@dataclass(frozen=True, eq=False)
class DeepSimilarities:
    """The three stages of one training; the last one is `hard`."""

    cosine: Trained[DeepSimilarity]
    pairs: Trained[DeepSimilarity]
    hard: Trained[DeepSimilarity]


def learn_deep_similarity(
    start: DeepSimilarity,
    X: Any,
    pairs: Pairs,
    *,
    cosine_pairs: int = 10_000,
    cosine: Options = COSINE,
    options: Options = PAIRS,
    checkpoints: str | Path | None = None,
    progress: Progress = silent,
) -> DeepSimilarities:
    """All three stages with the published shifts of 0.2 and 0.8. `checkpoints`: a folder that exists, for one file per
    stage; a call with the same arguments continues where it stopped. Raises as the stages do."""
    X = descriptors(X, pairs, start.dim)
    split(pairs, SHARE, options.seed)  # what cannot be trained should say so before the first stage
    names = ("deep-cosine", "deep-sim", "deep-sim-h")
    files = [None if checkpoints is None else Path(checkpoints) / f"{name}.safetensors" for name in names]
    first = learn_cosine(start, pairs=cosine_pairs, options=cosine, checkpoint=files[0], progress=progress)
    second = learn_pairs(first.model, X, pairs, options=options, checkpoint=files[1], progress=progress)
    third = learn_hard(second.model, X, pairs, options=options, checkpoint=files[2], progress=progress)
    return DeepSimilarities(first, second, third)


def _learn(
    name: str,
    start: DeepSimilarity,
    X: Float32,
    train: Pairs,
    held: Pairs,
    delta: float,
    options: Options,
    checkpoint: str | Path | None,
    progress: Progress,
) -> Trained[DeepSimilarity]:
    train, held = train.both_ways(), held.both_ways()
    match, other = np.flatnonzero(train.matching), np.flatnonzero(~train.matching)

    def batches(epoch: int) -> Iterator[Batch]:
        rng = np.random.default_rng([options.seed, epoch])
        drawn = rng.choice(other, len(match), replace=len(other) < len(match))
        order = rng.permutation(np.concatenate((match, drawn)))
        for first in range(0, len(order), options.batch):
            yield _pair_batch(X, train.select(order[first : first + options.batch]))

    data = hashlib.sha256(X.data)
    for part in (train, held):
        for array in (part.left, part.right, part.matching):
            data.update(array.data)
    kinds = [_pair_batch(X, held.select(kind)) for kind in (held.matching, ~held.matching)]
    return train_stage(
        name, start, batches, kinds, delta, options, data=data.hexdigest(), checkpoint=checkpoint, progress=progress
    )


def _random_batch(n: int, dim: int, seed: Any) -> Batch:
    return Batch(*random_pairs(n, dim, seed), np.zeros(n, np.bool_))


def _pair_batch(X: Float32, pairs: Pairs) -> Batch:
    x, y = X[pairs.left], X[pairs.right]
    return Batch(x, y, np.einsum("nd,nd->n", x, y), pairs.matching)


def _wrong(similarity: Oasis, X: Float32, made: Int64) -> float:
    """Share of triplets (T, 3) in the wrong order: the photo that does not match scores at least as high."""
    photo, better, worse = (X[made[:, i]] for i in range(3))
    return float((similarity.pairs(photo, better) <= similarity.pairs(photo, worse)).mean())


def _unit(rows: Float32) -> Float32:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
