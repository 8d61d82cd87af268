"""Training of OASIS, a bilinear similarity (Chechik et al., JMLR 2010)."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from resight.errors import UsageError
from resight.matching.oasis import Oasis
from resight.progress import Progress, silent
from resight.training.loop import Epoch, Rules, Trained
from resight.training.similarity.pairs import SHARE, Pairs, descriptors, split, triplets
from resight.types import Float32, Int64


def learn_oasis(
    start: Oasis,
    X: Any,
    pairs: Pairs,
    *,
    C: float = 0.1,
    epochs: int = 20,
    per: int = 5,
    batch: int = 1,
    patience: int = 3,
    symmetric: bool = False,
    semidefinite: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> Trained[Oasis]:
    """OASIS on triplets of `pairs`, `per` for each matching pair and epoch, drawn anew each time.

    `C`, `batch` as for `Oasis.learn`. `symmetric`, `semidefinite`: project W after every epoch. A quarter of the groups
    is held back: the epoch that orders most of their triplets rightly wins, the untrained W included, and `patience`
    epochs without a better one end the training. Validation scores are the share of held triplets in wrong order.
    Raises as `learn_pairs` does.
    """
    X = descriptors(X, pairs, start.dim)
    if min(epochs, patience) < 1:
        raise UsageError(f"epochs={epochs}, patience={patience}: both must be at least 1")
    train, held = (part.both_ways() for part in split(pairs, SHARE, seed))
    judged = triplets(held, per, seed)
    rules, now, kept, best = Rules(epochs, patience), start, start, 0
    story = [Epoch(0, None, _wrong(start, X, judged), 0.0)]
    while (stopped := rules.over(len(story) - 1, best)) is None:
        started, number = time.perf_counter(), len(story)
        now, losses = now.learn(X, triplets(train, per, seed + number), C, batch)
        if symmetric or semidefinite:
            now = now.symmetrised(semidefinite)
        score = _wrong(now, X, judged)
        if rules.improves(score, story):
            kept, best = now, number
        story.append(Epoch(number, float(losses.mean()), score, time.perf_counter() - started))
        progress("OASIS", number, epochs)
    facts = {"method": "OASIS", "C": str(C), "pairs": str(len(pairs)), "seed": str(seed)}
    return Trained(replace(kept, provenance=facts), tuple(story), best, stopped)


def _wrong(similarity: Oasis, X: Float32, made: Int64) -> float:
    """Share of triplets (T, 3) in the wrong order: the photo that does not match scores at least as high."""
    photo, better, worse = (X[made[:, i]] for i in range(3))
    return float((similarity.pairs(photo, better) <= similarity.pairs(photo, worse)).mean())
