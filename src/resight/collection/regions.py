"""Regions of activation maps for a whole collection: every photo read once more, by the collection's own network."""

from __future__ import annotations

from functools import partial

import numpy as np

from resight.artifacts.regions import StoredRegions, load_regions, save_regions
from resight.collection.collection import Collection
from resight.collection.snapshot import Snapshot
from resight.errors import ImageError, UsageError
from resight.images.loader import load
from resight.images.scan import Problem
from resight.matching.deep_spatial import DeepRegions, describe
from resight.progress import Progress, silent
from resight.recipes.regions import maps_of
from resight.store.writer import writing

AHEAD = 4  # photos decoded beyond the one that the network has


def describe_regions(collection: Collection, *, progress: Progress = silent) -> tuple[int, list[Problem]]:
    """Describe the photos that have no regions yet and keep them beside the collection, for recipe deep-spatial.

    Returns how many photos have regions now, and a problem for each that cannot be read any more. What is kept of
    removed photos goes. Memory: all regions twice, 60 KB a photo each. Raises `UsageError` for a collection without a
    network, or one that gives no maps.
    """
    snapshot = collection.snapshot
    network, descriptors = snapshot.network, snapshot.descriptors
    backbone = maps_of(network)
    if network is None or descriptors is None:
        raise UsageError(f"{collection.path} has no network that regions could come from: index with recipe gem")
    problems: list[Problem] = []
    with writing(collection.path, "fit regions") as writer:
        rows = descriptors.rows
        stored = load_regions(collection.path, network.fingerprint)
        known = {} if stored is None else _known(stored, rows)
        fresh = rows[~np.isin(rows, list(known))]
        photos = snapshot.photos(fresh)
        own = partial(describe, backbone, query=False, max_side=network.max_side)
        found: dict[int, DeepRegions | None] = dict(known)
        for item in load([photo["path"] for photo in photos], max_side=network.max_side, ahead=AHEAD):
            row = int(fresh[item.index])
            found[row] = None if item.decoded is None else own(item.decoded.pixels)
            if isinstance(item.error, ImageError):
                problems.append(Problem(photos[item.index]["id"], item.error.kind, str(item.error)))
            progress("describing regions", item.index + 1, len(photos))
        save_regions(writer, rows, [found[row] for row in rows.tolist()], network.fingerprint)
        collection.snapshot = Snapshot(writer.tables, snapshot.stamp)
    return sum(one is not None for one in found.values()), problems


def _known(stored: StoredRegions, rows: np.ndarray) -> dict[int, DeepRegions]:
    """Regions that are stored, by row; photos that could not be described are tried again."""
    kept = stored.rows[(stored.cells > 0).all(axis=1) & np.isin(stored.rows, rows)]
    return dict(zip(kept.tolist(), stored(kept), strict=True))
