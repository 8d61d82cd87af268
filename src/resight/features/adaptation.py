"""Linear adaptation of the descriptors of a frozen backbone to one's own photos, in closed form.

What differs between photos of one thing is noise for retrieval. The covariance of these differences, learnt from groups
of photos, is whitened, as in Mikolajczyk and Matas (ICCV 2007). Since groups are few and dimensions many it is first
shrunk towards a multiple of the identity (Ledoit and Wolf, J. Multivariate Analysis 2004), by the amount under which
groups that were left out are retrieved best.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.sparse import csr_array

from resight.arrays import Float64, finite_rows
from resight.errors import ArrayError, UsageError
from resight.features.pooling import normalise
from resight.features.whitening import Whitening
from resight.precision import average_precision
from resight.types import Int64, as_array

SHRINKAGES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)  # that are tried
FOLDS = 5
MOST_JUDGED = 1000  # photos of left-out groups, which are ranked against each other


def fit_adaptation(X: Any, groups: Any, shrinkage: float | None = None, seed: int = 0) -> Whitening:
    """The map that whitens what differs within groups of rows `X` (N, D), then turns to the principal axes of X.

    `groups` (N,) int: photos of one thing share a number, -1 marks photos of no group. C = (1 - s)·W + s·(trace W /
    D)·I, where W is the covariance of photos about the mean of their group. `shrinkage` s in (0, 1]; None takes the one
    of 0.02 to 0.9 that gives the best mAP on groups left out, a fifth at a time: `seed` deals them out. The result
    saves, loads and applies as any whitening, also with fewer dimensions. Memory: X twice in double precision and a few
    D x D matrices. Raises `UsageError` when no two photos share a group, or fewer than two groups are there to choose
    the shrinkage by; `ArrayError` on bad rows.
    """
    if shrinkage is not None and not 0 < shrinkage <= 1:
        raise UsageError(f"shrinkage={shrinkage} must be above 0 and at most 1")
    rows = finite_rows("descriptors", X, dtype=np.float64)
    labels = as_array("groups", groups, np.int64, (len(rows),))
    grouped, members = _members(labels)
    mean = rows.mean(axis=0)
    centred = rows - mean
    differences = _differences(centred[grouped], members)
    amount = _best_shrinkage(centred[grouped], differences, members, seed) if shrinkage is None else shrinkage
    variances, axes = scipy.linalg.eigh(_covariance(differences, members))
    whitener = (axes / np.sqrt(_shrunk(variances, amount))) @ axes.T
    whitened = centred @ whitener
    _, turned = scipy.linalg.eigh(whitened.T @ whitened)
    counts = {"samples": len(rows), "groups": len(np.unique(members)), "grouped": len(members)}
    facts = {"method": "adaptation", "shrinkage": f"{amount:g}", **{name: str(n) for name, n in counts.items()}}
    return Whitening(mean, turned[:, ::-1].T @ whitener, facts)


def _members(labels: Int64) -> tuple[Int64, Int64]:
    """Rows (n,) of the photos that share a group with another, and their groups, numbered 0 to G - 1."""
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    grouped = np.flatnonzero((labels >= 0) & (sizes[inverse] > 1))
    if not len(grouped):
        raise UsageError(f"no two of the {len(labels)} photos share a group: adaptation learns from groups of photos")
    return grouped, np.unique(labels[grouped], return_inverse=True)[1].astype(np.int64)


def _differences(rows: Float64, members: Int64) -> Float64:
    """`rows` (n, D) minus the means of their groups."""
    sizes = np.bincount(members)
    averaging = csr_array((1 / sizes[members], (members, np.arange(len(members)))), shape=(len(sizes), len(members)))
    differences: Float64 = rows - np.asarray(averaging @ rows)[members]
    if np.abs(differences).max() <= 1e-12 * np.abs(rows).max():
        raise ArrayError("every group holds equal descriptors: adaptation needs different photos of one thing")
    return differences


def _covariance(differences: Float64, members: Int64) -> Float64:
    """Covariance (D, D) of photos about the means of their groups."""
    covariance: Float64 = differences.T @ differences / (len(members) - len(np.unique(members)))
    return covariance


def _shrunk(variances: NDArray[Any], amount: float) -> Float64:
    kept = np.maximum(variances, 0)  # rounding leaves some below
    return np.asarray((1 - amount) * kept + amount * kept.mean())


def _best_shrinkage(centred: Float64, differences: Float64, members: Int64, seed: int) -> float:
    """The shrinkage with the best mAP on left-out groups; of equal ones the largest, which trusts the groups least."""
    count = int(members.max()) + 1
    if count < 2:
        raise UsageError("one group cannot tell how much to shrink: give a shrinkage, or two groups or more")
    fold = np.random.default_rng(seed).permutation(count) % min(FOLDS, count)
    total = np.zeros(len(SHRINKAGES))
    for part in range(int(fold.max()) + 1):
        out = fold[members] == part
        variances, axes = scipy.linalg.eigh(_covariance(differences[~out], members[~out]))
        judged = np.flatnonzero(out & (np.cumsum(np.bincount(members) * (fold == part))[members] <= MOST_JUDGED))
        turned = centred[judged] @ axes
        for i, amount in enumerate(SHRINKAGES):
            total[i] += _average_precisions(turned / np.sqrt(_shrunk(variances, amount)), members[judged]).sum()
    return SHRINKAGES[int(np.flatnonzero(total == total.max())[-1])]


def _average_precisions(rows: Float64, members: Int64) -> Float64:
    """Average precision (n,) of each row for the others of its group, all rows being ranked by cosine."""
    unit = normalise(rows)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :-1]
    return average_precision(members[order] == members[:, None])
