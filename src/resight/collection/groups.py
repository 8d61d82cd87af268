"""Groups of photos that show one thing, proven by geometry: what a collection holds, without a question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from resight.collection.collection import Collection
from resight.collection.duplicates import exact_duplicates
from resight.collection.snapshot import Snapshot
from resight.errors import UsageError
from resight.graph.components import groups_of_pairs, members
from resight.matching.geometry import Verification
from resight.progress import Progress, silent
from resight.ranking.confidence import PROVEN
from resight.types import Int64

SHARE = 0.1  # of the features' area of one of two photos; a smaller thing in both is a detail that they share
CANDIDATES = 20  # of every photo that are looked at, where no verified graph is stored


@dataclass(frozen=True)
class Group:
    """Photos of one thing: their `ids` in order of row, and for each the most inliers that join it to another one; None
    for a photo that is only there as the same file as another.
    """

    ids: tuple[str, ...]
    inliers: tuple[int | None, ...]


def proven_groups(collection: Collection, *, progress: Progress = silent) -> list[Group]:
    """The photos of a collection by the thing they show, largest groups first; photos that nothing joins are left out.

    Two photos are joined when geometry surely proves them to show one thing, or when their files have the same content.
    Sure is what chance gives in one of 10^5 pairs, and a thing fills a tenth of one of the photos: one false pair, or a
    detail in the background of two photos, would make two groups one. Groups are connected: views that only a third
    photo joins are one group. Candidates are the edges of the verified graph where `resight graph build --verified` has
    stored one, else the first 20 results of a search for every photo. Raises `UsageError` in a collection without local
    features.
    """
    snapshot = collection.snapshot
    if snapshot.settings.local is None:
        raise UsageError(
            f"{collection.path} keeps no local features, which prove what shows one thing: index the photos with "
            "a recipe that has some"
        )
    ids = dict(snapshot.ids.items())
    rows = np.fromiter(ids.values(), np.int64, len(ids))
    names = {row: id_ for id_, row in ids.items()}
    best: dict[int, int] = {}
    pairs = [(ids[group[0]], ids[id_]) for group in exact_duplicates(collection) for id_ in group[1:]]
    readable = np.empty(0, np.int64) if snapshot.index is None else np.intersect1d(rows, snapshot.index.rows)
    for done, (row, others) in enumerate(candidates(collection, readable), 1):
        for other, inliers in _proven(snapshot, row, others):
            pairs.append((row, other))
            best[row], best[other] = max(best.get(row, 0), inliers), max(best.get(other, 0), inliers)
        progress("comparing photos", done, len(readable))
    place = np.sort(rows)
    found = groups_of_pairs(np.searchsorted(place, np.array(pairs, np.int64).reshape(-1, 2)), len(place))
    groups = [place[group].tolist() for group in members(found)]
    groups.sort(key=lambda group: (-len(group), group[0]))
    return [Group(tuple(names[row] for row in group), tuple(best.get(row) for row in group)) for group in groups]


def candidates(collection: Collection, rows: Int64) -> Iterator[tuple[int, Int64]]:
    """For each of `rows` the rows that may show the same thing."""
    snapshot = collection.snapshot
    graph, descriptors = snapshot.verified_graph, snapshot.descriptors
    if graph is not None and descriptors is not None:
        place = {int(row): node for node, row in enumerate(descriptors.rows)}
        for row in rows.tolist():
            nodes = graph.ids[place[row]] if row in place else np.empty(0, np.int64)
            yield row, descriptors.rows[nodes[nodes >= 0]]
        return
    if not len(rows):
        return
    pipeline = collection.pipeline(expand=False, verify=CANDIDATES)
    for photo, row in zip(snapshot.photos(rows), rows.tolist(), strict=True):
        found = pipeline(collection.query(photo["id"]).queries()).ids[0]
        yield row, found[(found >= 0) & (found != row)][:CANDIDATES]


def _proven(snapshot: Snapshot, row: int, others: Int64) -> Iterator[tuple[int, int]]:
    """Those of `others` that geometry proves to show what `row` shows, and their inliers."""
    if snapshot.verifier is None or not len(others):
        return
    proofs = snapshot.verifier(snapshot.features(row), others)
    for other, proof in zip(others.tolist(), proofs, strict=True):
        if is_sure(proof):
            yield other, proof.inliers


def is_sure(proof: Verification) -> bool:
    """Whether geometry surely proves that two photos show one thing, of which a detail in both is not enough."""
    return proof.verified and proof.significance >= PROVEN and max(proof.coverage) >= SHARE
