"""Photos to learn from: which there are, which show one thing, and which may be told apart."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from resight.errors import ArrayError, UsageError
from resight.graph.components import components
from resight.training.similarity.pairs import pairs_from_groups
from resight.types import Bool, Float32, Int64, as_array

PARTNERS = 20  # pairs that are made of each photo of a group

Proven = Callable[[Int64, Int64], Bool]


@dataclass(frozen=True, eq=False)
class Examples:
    """N photos and P pairs of them that show one thing.

    `names` (N): how they are called, which stays the same where the data moves; `files` (N): where they lie now.
    `clusters` (N,) int64: photos of one cluster may show the same thing, so none is a negative of another. `pairs`
    (P, 2) int64: rows of a query and a positive. `regions` (P, 2, 4) float32: what of the two is seen in both, left,
    top, right and bottom as shares of width and height; None for whole photos. `proven(queries, others)`: whether
    geometry proves that photos (n,) and (n,) show one thing, so that they are no negatives; None where labels tell.
    Raises `ArrayError` on arrays that do not fit, `UsageError` when there is no pair.
    """

    names: tuple[str, ...]
    files: tuple[str, ...]
    clusters: Int64
    pairs: Int64
    regions: Float32 | None = None
    proven: Proven | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        clusters = as_array("Examples.clusters", self.clusters, np.int64, (count,))
        pairs = as_array("Examples.pairs", self.pairs, np.int64, (None, 2))
        if len(self.files) != count:
            raise ArrayError(f"{len(self.files)} files have {count} names")
        if not len(pairs):
            raise UsageError(f"no two of the {count} photos show one thing, as far as is known: nothing can be learned")
        if pairs.min() < 0 or pairs.max() >= count or (pairs[:, 0] == pairs[:, 1]).any():
            raise ArrayError(f"pairs must join two of the rows 0 to {count - 1}")
        if (clusters[pairs[:, 0]] != clusters[pairs[:, 1]]).any():
            raise ArrayError("the photos of a pair must be of one cluster: they would be negatives of others' pairs")
        if self.regions is not None:
            as_array("Examples.regions", self.regions, np.float32, (len(pairs), 2, 4))
        object.__setattr__(self, "clusters", clusters)
        object.__setattr__(self, "pairs", pairs)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def key(self) -> str:
        """SHA-256 of what is learned from, wherever the photos lie: a training goes on only with the same."""
        digest = hashlib.sha256(json.dumps(self.names).encode())
        for array in (self.clusters, self.pairs, np.zeros(0) if self.regions is None else self.regions):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def check_files(self) -> None:
        """Raise `UsageError` when a photo is not where it should be."""
        lost = [file for file in self.files if not os.path.isfile(file)]
        if lost:
            more = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise UsageError(
                f"photo {lost[0]} is not there{more}: if the photos have moved, give the folder where they are now"
            )

    def select(self, rows: Int64) -> Examples:
        """The photos of `rows` (n,), ascending, and the pairs among them."""
        inside = np.isin(self.pairs, rows).all(axis=1)
        return replace(
            self,
            names=tuple(self.names[row] for row in rows),
            files=tuple(self.files[row] for row in rows),
            clusters=self.clusters[rows],
            pairs=np.searchsorted(rows, self.pairs[inside]),
            regions=None if self.regions is None else self.regions[inside],
            proven=None if self.proven is None else _through(self.proven, rows),
        )


def of_groups(names: Sequence[str], files: Sequence[str], groups: Int64, what: str, *, seed: int = 0) -> Examples:
    """Examples of photos in `groups` (N,), -1 for a photo of which nothing is known, with up to 20 pairs of each.

    `what`: where they come from, for messages. Raises `UsageError` when no two photos share a group.
    """
    _, sizes = np.unique(groups[groups >= 0], return_counts=True)
    if not len(sizes) or sizes.max() < 2:
        raise UsageError(
            f"{what} has {len(sizes)} groups, and none has two photos: training needs photos of one thing in one group"
        )
    made = pairs_from_groups(groups, partners=PARTNERS, others=0, seed=seed)
    return Examples(tuple(names), tuple(files), alone(groups), np.stack((made.left, made.right), axis=1))


def of_pairs(names: Sequence[str], files: Sequence[str], pairs: Int64, what: str) -> Examples:
    """Examples of photos in `pairs` (P, 2), each learned both ways; photos that pairs join are one cluster.

    Raises `UsageError` when there are no pairs.
    """
    if not len(pairs):
        raise UsageError(f"{what} names no two photos that show one thing: add some")
    both = np.unique(np.concatenate((pairs, pairs[:, ::-1])), axis=0)
    return Examples(tuple(names), tuple(files), components(both, len(names)), both)


def alone(groups: Int64) -> Int64:
    """Clusters (N,) of `groups` (N,): those of group -1 get one each."""
    single = groups < 0
    clusters = groups.copy()
    clusters[single] = groups.max(initial=-1) + 1 + np.arange(single.sum())
    return clusters


def hold_out(examples: Examples, share: float, seed: int = 0) -> tuple[Examples, Examples]:
    """Examples to learn from and to judge by, with no cluster in common: `share` of those with pairs, and of others.

    Raises `UsageError` when either would be left without a pair.
    """
    if not 0 < share < 1:
        raise UsageError(f"a share of {share} cannot be held back: give a number between 0 and 1")
    rng = np.random.default_rng(seed)
    paired = np.unique(examples.clusters[examples.pairs])
    if len(paired) < 2:
        raise UsageError(
            "all pairs are of one cluster of photos: at least two are needed, one to learn from and one to judge by"
        )
    held = rng.permutation(paired)[: min(max(1, round(share * len(paired))), len(paired) - 1)]
    others = np.setdiff1d(np.unique(examples.clusters), paired)
    held = np.concatenate((held, rng.permutation(others)[: round(share * len(others))]))
    judged = np.isin(examples.clusters, held)
    return examples.select(np.flatnonzero(~judged)), examples.select(np.flatnonzero(judged))


def drawn_pairs(examples: Examples, count: int | None, rng: np.random.Generator) -> Int64:
    """Numbers of up to `count` random pairs, shuffled, (n,); None for all."""
    order = rng.permutation(len(examples.pairs))
    return order if count is None else order[:count]


def _through(proven: Proven, rows: Int64) -> Proven:
    return lambda queries, others: proven(rows[queries], rows[others])
