"""A planted world of descriptors: chains of views, where only neighbouring views of a thing look alike.

Walking round a building changes every photo a little; the first and the last have nothing in common but the photos in
between. Nearest neighbours find the next few views, and only what follows the chain finds all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resight.arrays import Float32, Int64, unit_rows
from resight.errors import UsageError


@dataclass(frozen=True, eq=False)
class Chains:
    """`vectors` (N, D) float32 of the collection and `thing` (N,) int64 that each shows; `queries` (Q, D) float32 are
    unseen first views, and `wanted` (Q,) int64 their things. All rows have length 1."""

    vectors: Float32
    thing: Int64
    queries: Float32
    wanted: Int64


def plant_chains(
    photos: int, things: int, dim: int = 128, *, step: float = 0.65, spread: float = 0.3, seed: int = 0
) -> Chains:
    """`photos` views of `things` things in random order, and one query per thing.

    Views follow each other on a random walk on the sphere: cosine `step` from one to the next on average, give or take
    some, and its powers further on; a share `spread` of the photos shows nothing else in the collection.
    Raises `UsageError` for fewer than two views per thing, a dimension below 2, or shares outside (0, 1).
    """
    alone = int(photos * spread)
    if things < 1 or photos - alone < 2 * things:
        raise UsageError(f"{photos} photos are too few for {things} things of 2 views, with {alone} photos apart")
    if dim < 2 or not 0 < step < 1 or not 0 <= spread < 1:
        raise UsageError(f"dim={dim} must be at least 2, step={step} in (0, 1) and spread={spread} in [0, 1)")
    rng = np.random.default_rng(seed)
    lengths = 2 + rng.multinomial(photos - alone - 2 * things, rng.dirichlet(np.full(things, 2.0)))
    walk = _walks(1 + int(lengths.max()), things, dim, step, rng)
    thing = np.repeat(np.arange(things), lengths)
    place = np.arange(len(thing)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    vectors = np.concatenate((walk[1 + place, thing], unit_rows(rng.standard_normal((alone, dim)))))
    thing = np.concatenate((thing, things + np.arange(alone)))
    order = rng.permutation(photos)
    return Chains(vectors[order].astype(np.float32), thing[order], walk[0].astype(np.float32), np.arange(things))


def _walks(length: int, things: int, dim: int, step: float, rng: np.random.Generator) -> np.ndarray:
    """Views (length, things, D): each one `step` or so from the one before."""
    views = np.empty((length, things, dim))
    views[0] = unit_rows(rng.standard_normal((things, dim)))
    for at in range(1, length):
        cosine = np.clip(step + 0.1 * rng.standard_normal((things, 1)), 0.05, 0.98)
        aside = rng.standard_normal((things, dim))
        aside = unit_rows(aside - (aside * views[at - 1]).sum(axis=1, keepdims=True) * views[at - 1])
        views[at] = cosine * views[at - 1] + np.sqrt(1 - cosine**2) * aside
    return views
