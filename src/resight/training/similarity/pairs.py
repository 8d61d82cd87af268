"""Pairs of photos that show the same thing or not: what learned similarities are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from resight.arrays import finite_rows
from resight.errors import ArrayError, UsageError
from resight.graph.components import components
from resight.types import Bool, Float32, Int64, as_array

COLUMNS = ("left", "right", "matching")
SHARE = 0.25  # of the groups of matching photos, held back for validation


@dataclass(frozen=True, eq=False)
class Pairs:
    """Photos `left` and `right` (M,) int64, as rows, and whether they show the same thing, `matching` (M,) bool.

    Raises `ArrayError` on unequal lengths, negative rows, and a photo paired with itself.
    """

    left: Int64
    right: Int64
    matching: Bool

    def __post_init__(self) -> None:
        left = as_array("Pairs.left", self.left, np.int64, (None,))
        right = as_array("Pairs.right", self.right, np.int64, left.shape)
        matching = as_array("Pairs.matching", self.matching, np.bool_, left.shape)
        if len(left) and min(left.min(), right.min()) < 0:
            raise ArrayError(f"pairs name row {min(left.min(), right.min())}: rows start at 0")
        if (left == right).any():
            raise ArrayError(f"pair {int(np.argmax(left == right))} joins row {left[left == right][0]} with itself")
        for name, value in (("left", left), ("right", right), ("matching", matching)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.left)

    def select(self, index: Any) -> Pairs:
        """The pairs at `index`, an integer or boolean array, in that order."""
        return Pairs(self.left[index], self.right[index], self.matching[index])

    def both_ways(self) -> Pairs:
        """Every pair, and behind them every pair the other way round: the learned similarities are not symmetric."""
        left, right = np.concatenate((self.left, self.right)), np.concatenate((self.right, self.left))
        return Pairs(left, right, np.concatenate((self.matching, self.matching)))

    def check(self, rows: int) -> None:
        """Raise unless these pairs can train: `ArrayError` where they name a row from `rows` on, `UsageError` where
        they do not hold at least one matching and one non-matching pair."""
        highest = max(self.left.max(initial=-1), self.right.max(initial=-1))
        if highest >= rows:
            raise ArrayError(f"the pairs name row {highest}, but there are descriptors for rows 0 to {rows - 1}")
        match = int(self.matching.sum())
        if not 0 < match < len(self):
            raise UsageError(
                f"{match} matching and {len(self) - match} non-matching pairs cannot train a similarity: "
                "at least one of each is needed, and some hundred of each to be of use"
            )


def pairs_from_groups(groups: Any, *, partners: int = 20, others: int = 30, seed: int = 0) -> Pairs:
    """Pairs of N photos from what each shows: `groups` (N,) int64, -1 for a photo that matches nothing known.

    Every photo is left of at most `partners` matching pairs, and of up to `others` non-matching ones with random
    photos. Photos of group -1 are only ever on the right. Memory: some 50 bytes a pair. Raises `UsageError` on numbers
    below 0.
    """
    groups = as_array("groups", groups, np.int64, (None,))
    if min(partners, others) < 0:
        raise UsageError(f"partners={partners}, others={others}: neither can be below 0")
    rng = np.random.default_rng(seed)
    match, unlike = _matching(groups, partners, rng), _unlike(groups, others, rng)
    return Pairs(
        np.concatenate((match[0], unlike[0])),
        np.concatenate((match[1], unlike[1])),
        np.repeat([True, False], [len(match[0]), len(unlike[0])]),
    )


def split(pairs: Pairs, share: float = SHARE, seed: int = 0) -> tuple[Pairs, Pairs]:
    """Pairs for training and pairs for validation, without a photo in common.

    Photos that matching pairs join stay on one side; about `share` of these groups are held back, and pairs between the
    two sides are dropped. Raises `UsageError` when either side ends without a matching or a non-matching pair.
    """
    if not 0 < share < 1:
        raise UsageError(f"share={share} of the pairs cannot be held back: give a number between 0 and 1")
    rows = 1 + int(max(pairs.left.max(initial=-1), pairs.right.max(initial=-1)))
    pairs.check(rows)
    joined = pairs.select(pairs.matching)
    group = components(np.stack((joined.left, joined.right), axis=1), rows)
    used = np.unique(group[np.concatenate((joined.left, joined.right))])
    held = np.random.default_rng(seed).random(group.max() + 1) < share
    # of the groups that matter exactly the share, so that few groups do not all fall on one side
    order = np.random.default_rng(seed).permutation(used)
    held[used] = np.isin(used, order[: max(1, round(share * len(used)))])
    sides = held[group[pairs.left]], held[group[pairs.right]]
    train, validation = pairs.select(~sides[0] & ~sides[1]), pairs.select(sides[0] & sides[1])
    for name, part in (("training", train), ("validation", validation)):
        match = int(part.matching.sum())
        if not 0 < match < len(part):
            raise UsageError(
                f"too few pairs: {name} would have {match} matching and {len(part) - match} non-matching ones, "
                f"of {len(used)} groups of matching photos; give more"
            )
    return train, validation


def descriptors(X: Any, pairs: Pairs, dim: int) -> Float32:
    """Rows `X` (N, dim) float32, once it is sure that `pairs` of them can train. Raises as `finite_rows` and
    `Pairs.check` do."""
    rows = finite_rows("X", X, dim)
    pairs.check(len(rows))
    return rows


def triplets(pairs: Pairs, per: int = 1, seed: int = 0) -> Int64:
    """Rows (T, 3) of a photo, one that matches it and one that does not: `per` for each matching pair.

    The third is drawn from the non-matching pairs with the same `left`; matching pairs whose left photo has none are
    passed over. Shuffled. Raises `UsageError` when no triplet can be made.
    """
    if per < 1:
        raise UsageError(f"per={per}: at least one triplet is needed for a pair")
    match, other = pairs.select(pairs.matching), pairs.select(~pairs.matching)
    other = other.select(np.argsort(other.left, kind="stable"))
    first, last = (np.searchsorted(other.left, match.left, side) for side in ("left", "right"))
    chosen = np.repeat(np.flatnonzero(last > first), per)
    if not len(chosen):
        raise UsageError("no photo is left of a matching and of a non-matching pair: triplets need both")
    rng = np.random.default_rng(seed)
    worse = other.right[rng.integers(first[chosen], last[chosen])]
    made = np.stack((match.left[chosen], match.right[chosen], worse), axis=1)
    return made[rng.permutation(len(made))]


def _matching(groups: Int64, partners: int, rng: np.random.Generator) -> tuple[Int64, Int64]:
    """Each photo with up to `partners` others of its group: the next ones in a random circular order."""
    order = rng.permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")]
    order = order[groups[order] >= 0]
    _, start, size = np.unique(groups[order], return_index=True, return_counts=True)
    start, size = np.repeat(start, size), np.repeat(size, size)
    place = np.arange(len(order)) - start
    taken = np.minimum(size - 1, partners)
    photo = np.repeat(np.arange(len(order)), taken)
    step = np.arange(len(photo)) - np.repeat(taken.cumsum() - taken, taken) + 1
    partner = start[photo] + (place[photo] + step) % size[photo]
    return order[photo], order[partner]


def _unlike(groups: Int64, count: int, rng: np.random.Generator) -> tuple[Int64, Int64]:
    """Each grouped photo with random photos of other groups, without repetition."""
    left = np.repeat(np.flatnonzero(groups >= 0), count)
    right = rng.integers(len(groups), size=len(left)) if len(left) else left
    unlike = np.unique(np.stack((left, right), axis=1)[groups[left] != groups[right]], axis=0)
    return unlike[:, 0], unlike[:, 1]


def _row(id_: str | None, ids: Mapping[str, int], place: str) -> int:
    if id_ is None or id_ not in ids:
        raise UsageError(f"{place} names photo {id_!r}, which is not in the collection")
    return ids[id_]
