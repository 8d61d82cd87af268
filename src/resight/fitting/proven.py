"""Training data without a label: photos of one's own collection that geometry proves to show one thing."""

from __future__ import annotations

import numpy as np

from resight.collection.collection import Collection
from resight.collection.duplicates import exact_duplicates
from resight.collection.groups import candidates, is_sure
from resight.collection.snapshot import Snapshot
from resight.errors import UsageError
from resight.graph.components import components
from resight.progress import Progress, silent
from resight.training.data import Examples, Proven
from resight.types import Bool, Float32, Int64

MARGIN = 0.05  # of a photo's side, left around what matches: features end before things do


def proven_examples(
    collection: Collection, *, photos: int | None = None, seed: int = 0, progress: Progress = silent
) -> Examples:
    """Examples of all readable photos; the pairs are those that geometry surely proves among the results of `photos`
    random ones (None: of all), with the region of each that is seen in the other.

    A photo is no negative of another when geometry proves anything between them, surely or not, or when a chain of
    pairs joins them. Memory: that of searches. Raises `UsageError` in collections without local features, and when
    nothing is proven.
    """
    snapshot = collection.snapshot
    if snapshot.settings.local is None or snapshot.index is None:
        raise UsageError(
            f"{collection.path} keeps no local features that could prove which photos match: index the photos with "
            "recipe classic or hybrid first, or give data with labels"
        )
    ids = {row: id_ for id_, row in snapshot.ids.items()}
    rows = np.intersect1d(np.fromiter(ids, np.int64, len(ids)), snapshot.index.rows)
    asked = rows
    if photos is not None:
        asked = np.sort(np.random.default_rng(seed).choice(rows, min(photos, len(rows)), replace=False))
    records = {record["row"]: record for record in snapshot.photos(rows)}
    pairs, regions = _pairs(collection, asked, records, progress)
    if not len(pairs):
        raise UsageError(
            f"geometry proves no two of the {len(asked)} photos of {collection.path} to show one thing: nothing can be "
            "learned from them without labels"
        )
    places = np.searchsorted(rows, pairs)
    of = {id_: row for row, id_ in ids.items()}
    same = [[of[id_] for id_ in group] for group in exact_duplicates(collection)]
    copies = [np.searchsorted(rows, [group[0], row]) for group in same for row in group[1:]]
    joined = np.concatenate((places, np.array(copies, np.int64).reshape(-1, 2)))
    return Examples(
        names=tuple(ids[row] for row in rows.tolist()),
        files=tuple(records[row]["path"] for row in rows.tolist()),
        clusters=components(joined, len(rows)),
        pairs=places,
        regions=regions,
        proven=_prover(snapshot, rows),
    )


def _pairs(
    collection: Collection, asked: Int64, records: dict[int, dict[str, int]], progress: Progress
) -> tuple[Int64, Float32]:
    """Rows (P, 2) of proven pairs, each both ways, in order, and the regions (P, 2, 4) that they share."""
    snapshot, found = collection.snapshot, dict[tuple[int, int], Float32]()
    assert snapshot.verifier is not None
    for done, (row, others) in enumerate(candidates(collection, asked), 1):
        features = snapshot.features(row)
        for other, proof in zip(others.tolist(), snapshot.verifier(features, others), strict=True):
            if other in records and records[row]["sha256"] != records[other]["sha256"] and is_sure(proof):
                places = proof.correspondences[proof.mask]
                ours = _region(features.xy[places[:, 0]], records[row])
                theirs = _region(snapshot.features(other).xy[places[:, 1]], records[other])
                found.setdefault((row, other), np.stack((ours, theirs)))
                found.setdefault((other, row), np.stack((theirs, ours)))
        progress("proving pairs", done, len(asked))
    order = sorted(found)
    regions = np.stack([found[pair] for pair in order]) if order else np.empty((0, 2, 4), np.float32)
    return np.array(order, np.int64).reshape(-1, 2), regions


def _region(xy: Float32, record: dict[str, int]) -> Float32:
    """Left, top, right, bottom of points (n, 2) in original pixels, as shares of the photo, and some margin."""
    size = np.array([record["width"], record["height"]], np.float32)
    low, high = xy.min(axis=0) / size - MARGIN, xy.max(axis=0) / size + MARGIN
    return np.concatenate((low.clip(0, 1), high.clip(0, 1))).astype(np.float32)


def _prover(snapshot: Snapshot, rows: Int64) -> Proven:
    """Asks geometry about photos, once for each pair."""
    known: dict[tuple[int, int], bool] = {}

    def proven(queries: Int64, others: Int64) -> Bool:
        verifier = snapshot.verifier
        assert verifier is not None
        for query in np.unique(queries):
            asked = np.unique(others[queries == query])
            new = np.array([other for other in asked.tolist() if (int(query), other) not in known], np.int64)
            if len(new):
                proofs = verifier(snapshot.features(int(rows[query])), rows[new])
                known.update(
                    ((int(query), other), proof.verified) for other, proof in zip(new.tolist(), proofs, strict=True)
                )
        return np.array([known[pair] for pair in zip(queries.tolist(), others.tolist(), strict=True)], np.bool_)

    return proven
