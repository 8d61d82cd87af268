"""Fit a whitening to the global descriptors of one's own photos, and use it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resight.artifacts.descriptors import PCA_POWER, ZCA_SHRINKAGE, given
from resight.collection.collection import Collection
from resight.errors import UsageError
from resight.features.adaptation import fit_adaptation
from resight.features.whitening import Whitening, fit_learned, fit_pca, fit_zca
from resight.fitting.examples import matching_pairs
from resight.graph.components import groups_of_pairs
from resight.progress import Progress, silent
from resight.store.writer import writing

METHODS = ("pca", "zca", "learned", "adapted")
FROM_PAIRS = ("learned", "adapted")


def fit_whitening_to(
    collection: Collection,
    method: str = "zca",
    *,
    dim: int | None = None,
    power: float = PCA_POWER,
    shrinkage: float = ZCA_SHRINKAGE,
    pairs: Path | None = None,
    groups: Path | None = None,
) -> Whitening:
    """A whitening of the collection's descriptors as its network gives them.

    `pca` with `power`, keeping `dim` dimensions; `zca` with `shrinkage`; from a csv file of `pairs` or `groups`
    (`resight.fitting.examples`), `learned` whitening, or the linear adaptation `adapted`.
    Raises `UsageError` for another method, options that do not belong to it, a collection without global descriptors,
    and pairs of unknown photos.
    """
    if method not in METHODS:
        raise UsageError(f"method {method!r} is unknown: choose one of {', '.join(METHODS)}")
    if (pairs is not None or groups is not None) != (method in FROM_PAIRS):
        raise UsageError("methods learned and adapted need --pairs FILE or --groups FILE; the others take neither")
    if dim is not None and method == "zca":
        raise UsageError("zca keeps all dimensions: leave out --dim, or choose pca")
    rows, raw = collection.snapshot.tables.vectors()
    if method == "pca":
        return fit_pca(raw, dim, power)
    if method == "zca":
        return fit_zca(raw, shrinkage)
    found = matching_pairs(dict(collection.ids.items()), rows, pairs=pairs, groups=groups)
    left, right = (np.searchsorted(rows, side) for side in found)
    if method == "adapted":
        learned = fit_adaptation(raw, groups_of_pairs(np.stack((left, right), axis=1), len(raw)))
    else:
        learned = fit_learned(raw, left, right)
    if dim is None:
        return learned
    if not 1 <= dim <= learned.dim:
        raise UsageError(f"dim={dim}: give 1 to {learned.dim}")
    return Whitening(learned.mean, learned.projection[:dim], {**learned.provenance, "dim": str(dim)})


def use_whitening(collection: Collection, whitening: Whitening, *, progress: Progress = silent) -> None:
    """Whiten the global descriptors so from now on; the collection does not learn a whitening by itself any more.

    Raises `UsageError` when the recipe has none, or the whitening is of another dimension.
    """
    dim = collection.snapshot.tables.dim
    if dim != len(whitening.mean):
        what = f"a whitening of {len(whitening.mean)} dimensions does not fit {collection.path}"
        raise UsageError(f"{what}: its descriptors have {dim or 'no'} dimensions")
    with writing(collection.path, "fit whitening") as writer:
        collection.update(writer, whitening=given(whitening), progress=progress)
