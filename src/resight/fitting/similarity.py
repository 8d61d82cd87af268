"""A learned similarity for one's own collection: its pairs, the training, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from resight.artifacts.descriptors import Descriptors
from resight.artifacts.similarity import save_similarity
from resight.collection.collection import Collection
from resight.collection.snapshot import Snapshot
from resight.errors import UsageError
from resight.fitting.examples import read_groups, read_pairs
from resight.fitting.graphs import descriptors_of
from resight.graph.components import groups_of_pairs
from resight.matching.similarity import DeepSimilarity, new_similarity
from resight.progress import Progress, silent
from resight.store.writer import writing
from resight.training.similarity.fit import DeepSimilarities, learn_deep_similarity
from resight.training.similarity.pairs import SHARE, Pairs, pairs_from_groups, split
from resight.training.similarity.stage import Options
from resight.types import Float32, Int64

CHECKED = 10  # results of a photo that geometry looks at for pairs
COSINE = Options(epochs=5, rate=2e-3)
STAGES = ("DeepCosine", "DeepSim", "DeepSimH")
PAIRS = Options(epochs=30, rate=2e-4, patience=6)


@dataclass(frozen=True, eq=False)
class Training:
    """What came of a training: the stage that was kept, and how well each similarity tells pairs of photos apart that
    it was not trained on: `order`, by name, is the share of (matching, other) couples of pairs in the right order."""

    kept: str
    similarity: DeepSimilarity
    stages: DeepSimilarities
    pairs: Pairs
    held: Pairs
    descriptors: Descriptors
    order: Mapping[str, float]


def verified_groups(
    collection: Collection, rows: Int64, *, photos: int = 500, seed: int = 0, progress: Progress = silent
) -> Int64:
    """What each of `rows` (N,) shows, without labels: (N,) int64 numbers of groups, -1 for photos that match nothing.

    Up to `photos` random photos are searched for, and results that geometry proves are joined with them; photos that a
    chain of proofs joins are one group. Raises `UsageError` in recipes without local features.
    """
    if collection.settings.local is None:
        raise UsageError(
            f"recipe {collection.snapshot.stamp.recipe} keeps no local features that could prove which photos match: "
            "give pairs or groups"
        )
    names = {row: id_ for id_, row in collection.ids.items()}
    asked = np.sort(np.random.default_rng(seed).choice(rows, min(photos, len(rows)), replace=False))
    left, right = [], []
    for done, row in enumerate(asked.tolist(), 1):
        answer = collection.search(names[row], top=CHECKED, verify=CHECKED, expand=False)
        found = [result.row for result in answer.results if result.match]
        left += [row] * len(found)
        right += found
        progress("proving pairs", done, len(asked))
    proven = np.array([left, right], np.int64)
    ends = np.searchsorted(rows, proven[:, np.isin(proven[1], rows)])
    return groups_of_pairs(ends.T, len(rows))


def fit_similarity(
    collection: Collection,
    *,
    pairs: str | Path | None = None,
    groups: str | Path | None = None,
    photos: int = 500,
    hidden: tuple[int, ...] = (1024, 1024),
    cosine: Options = COSINE,
    options: Options = PAIRS,
    keep: str | None = None,
    checkpoints: str | Path | None = None,
    progress: Progress = silent,
) -> Training:
    """Train DeepCosine, DeepSim and DeepSimH on the collection's photos and keep the best for searching.

    `pairs` or `groups`: a CSV file (`resight.fitting.examples`). Neither: `verified_groups` of `photos`
    photos. `keep`: the stage that is kept for searching, one of `STAGES`; None for that of the last two which puts more
    pairs of unseen photos in the right order. `checkpoints`: a folder, to continue a stopped training. Raises
    `UsageError` when both or too few pairs are given, for an unknown stage, and as `descriptors_of` and
    `learn_deep_similarity` do.
    """
    if keep is not None and keep not in STAGES:
        raise UsageError(f"there is no stage {keep!r} to keep: choose one of {', '.join(STAGES)}")
    if pairs is not None and groups is not None:
        raise UsageError("give pairs or groups, not both")
    with writing(collection.path, "fit similarity") as writer:
        descriptors = descriptors_of(collection, writer, progress)
    rows, X, seed = descriptors.rows, descriptors.matrix, options.seed
    if pairs is not None:
        made = _placed(read_pairs(Path(pairs), dict(collection.ids.items())), rows)
    elif groups is not None:
        made = pairs_from_groups(read_groups(Path(groups), dict(collection.ids.items()), rows), seed=seed)
    else:
        made = pairs_from_groups(
            verified_groups(collection, rows, photos=photos, seed=seed, progress=progress), seed=seed
        )
    start = new_similarity(X.shape[1], hidden, seed=seed, model=descriptors.fingerprint)
    stages = learn_deep_similarity(
        start, X, made, cosine=cosine, options=options, checkpoints=checkpoints, progress=progress
    )
    held = split(made, SHARE, seed)[1]
    named = dict(zip(STAGES, (stages.cosine, stages.pairs, stages.hard), strict=True))
    order = {"cosine": right_order(np.einsum("nd,nd->n", X[held.left], X[held.right]), held)}
    for name, stage in named.items():
        order[name] = right_order(stage.model.pairs(X[held.left], X[held.right]), held)
    kept = keep or max(STAGES[:0:-1], key=lambda name: order[name])
    similarity = named[kept].model
    with writing(collection.path, "fit similarity") as writer:
        save_similarity(writer, similarity)
        collection.snapshot = Snapshot(writer.tables, collection.snapshot.stamp)
    return Training(kept, similarity, stages, made, held, descriptors, order)


def right_order(scores: Float32, pairs: Pairs) -> float:
    """Share of (matching, other) couples of `pairs` whose `scores` (n,) put the matching one first; ties count half."""
    match, other = int(pairs.matching.sum()), int((~pairs.matching).sum())
    ranks = rankdata(scores)[pairs.matching].sum()
    return float((ranks - match * (match + 1) / 2) / (match * other))


def _placed(pairs: Pairs, rows: Int64) -> Pairs:
    """`pairs` of collection rows as pairs of places in `rows`; those without two descriptors are left out."""
    known = np.isin(pairs.left, rows) & np.isin(pairs.right, rows)
    kept = pairs.select(known)
    return Pairs(np.searchsorted(rows, kept.left), np.searchsorted(rows, kept.right), kept.matching)
