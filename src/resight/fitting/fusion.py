"""Learn how much each part of what a collection keeps counts, from given pairs or from what geometry proves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resight.artifacts.fusion import FusionWeights, save_weights
from resight.collection.collection import Collection
from resight.collection.snapshot import Snapshot
from resight.errors import UsageError
from resight.fitting.examples import matching_pairs
from resight.ranking.fusion_weight import learn_weights
from resight.ranking.search import stack
from resight.ranking.verification import Verifier
from resight.recipes.local import VECTOR, WEIGHT, usual_weights
from resight.recipes.resources import IndexedKind, need_database, need_kind, need_verifier
from resight.store.writer import writing
from resight.types import Float32, Int64

SAMPLED = 20_000  # photos that are looked at
ASKED = 100  # random photos that are searched for
NEAREST = 5  # by each part, that are verified


@dataclass(frozen=True, eq=False)
class Parts:
    """What is fused: `kinds` of local features by key, and the global descriptors (N, D) of `rows` (N,), if any; and
    what verifies. `usual`: the weights that a few matches do not change.
    """

    kinds: Mapping[str, IndexedKind]
    verifier: Verifier
    usual: Mapping[str, float]
    snapshot: Snapshot

    @property
    def rows(self) -> Int64:
        """Rows (n,) that all parts have, ascending."""
        rows = [kind.index.rows for kind in self.kinds.values()]
        if VECTOR in self.usual:
            rows.append(need_database(self.snapshot).rows)
        common = rows[0]
        for more in rows[1:]:
            common = np.intersect1d(common, more)
        return common

    def similarities(self, asked: Int64, rows: Int64) -> dict[str, Float32]:
        """Standardised similarities (a, n) by each part of rows `asked` and `rows`."""
        found = {key: _of_kind(kind, asked, rows) for key, kind in self.kinds.items()}
        if VECTOR in self.usual:
            database = need_database(self.snapshot)
            left, right = (database.vectors[np.searchsorted(database.rows, chosen)] for chosen in (asked, rows))
            cosines = self.snapshot.vector_confidence.standardise(left @ right.T)
            found[VECTOR] = cosines.astype(np.float32)
        return found


def fit_fusion(collection: Collection, pairs: Path | None = None, groups: Path | None = None) -> FusionWeights:
    """Learn the weights of kinds of local features and of the global descriptor, and keep them for searches.

    `pairs` or `groups`: a csv file (`resight.fitting.examples`); neither: pairs that geometry proves. Raises
    `UsageError` when the collection keeps fewer than two parts, and when there are too few pairs.
    """
    snapshot = collection.snapshot
    parts = parts_of(snapshot)
    if pairs is None and groups is None:
        learned = learn_from_geometry(parts)
    else:
        ids = dict(collection.ids.items())
        learned = learn_from_pairs(parts, *matching_pairs(ids, parts.rows, pairs=pairs, groups=groups))
    with writing(collection.path, "fit fusion") as writer:
        save_weights(writer, learned)
        collection.snapshot = Snapshot(writer.tables, snapshot.stamp)
    return learned


def parts_of(snapshot: Snapshot) -> Parts:
    """What a collection can fuse. Raises `UsageError` when that is less than two parts."""
    usual = usual_weights(snapshot.kinds)
    if snapshot.settings.vector is not None:
        usual[VECTOR] = WEIGHT
    if len(usual) < 2 or not snapshot.kinds:
        raise UsageError(
            f"{snapshot.path} keeps one kind of features, and there is nothing to weigh: index photos with a recipe "
            "that keeps local features and a vector, such as hybrid, or with several features=..."
        )
    kinds = {key: need_kind(snapshot, key) for key in snapshot.kinds}
    return Parts(kinds, need_verifier(snapshot), usual, snapshot)


def learn_from_geometry(parts: Parts, *, seed: int = 0) -> FusionWeights:
    """Without labels: random photos are searched for, and their nearest by each part verified.

    Photos that share no feature of the kind that verifies are never proven, so the weights rather favour it. Memory: 4
    bytes a part for each of 100 photos and up to 20 000 others. Raises `UsageError` when geometry proves too few.
    """
    rng = np.random.default_rng(seed)
    rows = parts.rows
    rows = np.sort(rng.choice(rows, min(SAMPLED, len(rows)), replace=False))
    asked = np.sort(rng.choice(rows, min(ASKED, len(rows)), replace=False))
    similarity = parts.similarities(asked, rows)
    _leave_out_own(similarity, rows == asked[:, None])
    matching = np.zeros((len(asked), len(rows)), bool)
    for place, row in enumerate(asked):
        near = np.unique([np.argsort(-part[place], kind="stable")[:NEAREST] for part in similarity.values()])
        near = near[rows[near] != row]
        query = parts.verifier.features(np.array([row]))[0]
        matching[place, near] = [found.verified for found in parts.verifier(query, rows[near])]
    return _learned(parts, similarity, matching, "photos that geometry proves to match")


def learn_from_pairs(parts: Parts, left: Int64, right: Int64) -> FusionWeights:
    """From rows `left` and `right` (n,) of pairs that show one thing; all other photos are taken not to.

    Memory: 4 bytes a part for each photo that is in a pair and each of the collection.
    """
    rows = parts.rows
    kept = np.isin(left, rows) & np.isin(right, rows)
    if not kept.any():
        raise UsageError("none of the pairs has all that is to be weighed: features of every kind, and a vector")
    first, second = np.append(left[kept], right[kept]), np.append(right[kept], left[kept])
    asked, places = np.unique(first, return_inverse=True)
    similarity = parts.similarities(asked, rows)
    _leave_out_own(similarity, rows == asked[:, None])
    matching = np.zeros((len(asked), len(rows)), bool)
    matching[places, np.searchsorted(rows, second)] = True
    return _learned(parts, similarity, matching, "given pairs")


def _leave_out_own(similarity: Mapping[str, Float32], own: NDArray[np.bool_]) -> None:
    """Take photos out of their own results, in place."""
    for place, part in enumerate(similarity.values()):
        part[own] = 0 if place else -np.inf


def _learned(
    parts: Parts, similarity: Mapping[str, Float32], matching: NDArray[np.bool_], source: str
) -> FusionWeights:
    usual = [parts.usual[key] for key in similarity]
    weights = learn_weights(list(similarity.values()), matching, usual)
    found = dict(zip(similarity, weights, strict=True))
    return FusionWeights(found, int(matching.any(axis=1).sum()), int(matching.sum()), source)


def _of_kind(kind: IndexedKind, asked: Int64, rows: Int64) -> Float32:
    """Standardised similarities (a, n) by one kind of local features."""
    features = tuple(kind.features(asked))
    dense = kind.index.scores(*stack(features, kind.index.codebook.dim), queries=len(features))
    found = kind.confidence.standardise(dense[:, np.searchsorted(kind.index.rows, rows)])
    return np.asarray(found, np.float32)
