"""Groups of photos that are the same file, or the same picture in another size, crop or edit."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow.compute as pc

from resight.collection.collection import Collection
from resight.graph.components import groups_of_pairs, members
from resight.matching.geometry import Verification
from resight.progress import Progress, silent

CANDIDATES = 20  # of every photo that are looked at
COVERAGE = 0.5  # share of both photos' features area that the inliers must span
AGREEING = 0.6  # share of the tentative matches that must agree


def exact_duplicates(collection: Collection) -> list[list[str]]:
    """Groups of ids whose files have the same content, by hash; each group and the list in order of row."""
    table = collection.snapshot.tables.images(["id", "sha256"])
    counts = table.group_by("sha256").aggregate([("id", "count")])
    repeated = counts.filter(pc.field("id_count") > 1)["sha256"].combine_chunks()
    table = table.filter(pc.is_in(table["sha256"], value_set=repeated))
    groups: dict[str, list[str]] = defaultdict(list)
    for id_, sha256 in zip(table["id"].to_pylist(), table["sha256"].to_pylist(), strict=True):
        if sha256:
            groups[sha256].append(id_)
    return [group for group in groups.values() if len(group) > 1]


def near_duplicates(collection: Collection, *, progress: Progress = silent) -> list[list[str]]:
    """Groups of ids that show one picture: geometry maps most of one onto most of the other, nearly every match agrees.

    Photos of one thing from different places are not duplicates. Groups are connected: a chain of crops is one group.
    Exact duplicates are left out but for one of each. Searches for every photo once.
    """
    rows = dict(collection.ids.items())
    copies = {id_ for group in exact_duplicates(collection) for id_ in group[1:]}
    ids = [id_ for id_ in sorted(rows, key=rows.__getitem__) if id_ not in copies]
    place = {id_: i for i, id_ in enumerate(ids)}
    index = collection.snapshot.index
    readable = set() if index is None else set(index.rows.tolist())
    edges: list[tuple[int, int]] = []
    for done, id_ in enumerate(ids, 1):
        if rows[id_] in readable:
            found = collection.search(id_, top=CANDIDATES, verify=CANDIDATES, expand=False).results
            edges += [(place[id_], place[r.id]) for r in found if r.id in place and _same_picture(r.verification)]
        progress("comparing photos", done, len(ids))
    groups = groups_of_pairs(np.array(edges, np.int64).reshape(-1, 2), len(ids))
    return [[ids[place] for place in group] for group in members(groups)]


def _same_picture(verification: Verification | None) -> bool:
    return (
        verification is not None
        and verification.verified
        and min(verification.coverage) >= COVERAGE
        and verification.inliers >= AGREEING * verification.tentative
    )
