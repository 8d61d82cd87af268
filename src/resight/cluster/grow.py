"""Photos into the shards of a collection: each has its shard by its path, and all keep the words that they share."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from resight.artifacts import files
from resight.artifacts.inverted_file import write_confidence
from resight.cluster.engines import THREADS
from resight.cluster.extract import ray_reads
from resight.cluster.layout import Layout, read_layout
from resight.cluster.sharded import ShardedSnapshot, open_shards
from resight.cluster.split import codebooks
from resight.collection.ingest import Report
from resight.collection.open import open_collection
from resight.collection.update import kind_bonus, summed
from resight.images.scan import Photo, Scan
from resight.progress import Progress, silent
from resight.ranking.confidence import Bonus, Confidence, calibrate
from resight.recipes.catalogue import local_weights
from resight.recipes.local import WEIGHT, scoring
from resight.store.writer import writing
from resight.types import Float32, Int64

LOOKED_UP = 4096  # paths at a time


def add_photos(
    path: str | os.PathLike[str], found: Scan, engine: str = THREADS, *, jobs: int = 0, progress: Progress = silent
) -> Report:
    """Add the photos of a scan to the shards of the collection at `path`, one shard after the other; those that are in
    are read again only if they changed (one whose file was moved is a new one). Then bring the calibration up
    to all of them.

    `engine`: `threads` of this process, or `ray://HOST:PORT`, whose workers read and describe the photos. Raises as
    `resight.collection.collection.Collection.add` does.
    """
    layout = read_layout(path)
    words = codebooks(open_collection(layout.head).snapshot)
    report, homes = Report(skipped=found.skipped, problems=list(found.problems)), known_homes(layout, found)
    for number, shard in enumerate(layout.shards):
        mine = tuple(photo for photo in found.photos if homes.get(photo.path, home(photo, layout)) == number)
        collection = open_collection(shard)
        given = {collection.snapshot.kinds[key]: codebook for key, codebook in words.items()}
        reads = None if engine == THREADS else ray_reads(os.fspath(shard), engine)
        one = collection.add(Scan(mine, ()), jobs=jobs, codebooks=given, reads=reads, progress=progress)
        _count(report, one)
        if one.interrupted:
            return report
    recalibrate(layout, progress=progress)
    return report


def home(photo: Photo, layout: Layout) -> int:
    """The shard of a new photo, by the bytes of its path: the same in every run and on every machine."""
    return zlib.crc32(os.fsencode(photo.path)) % len(layout.shards)


def known_homes(layout: Layout, found: Scan) -> dict[str, int]:
    """The shard that has each photo already, by path."""
    homes: dict[str, int] = {}
    for number, shard in enumerate(layout.shards):
        tables = open_collection(shard).snapshot.tables
        for start in range(0, len(found.photos), LOOKED_UP):
            paths = [os.fsencode(photo.path) for photo in found.photos[start : start + LOOKED_UP]]
            held = tables.find("path_bytes", paths, ["path_bytes"])["path_bytes"].to_pylist()
            homes.update((os.fsdecode(path), number) for path in held)
    return homes


def recalibrate(layout: Layout, *, progress: Progress = silent) -> None:
    """Learn anew what unrelated photos score, from all shards; does nothing where that is known."""
    collection = open_shards(layout.folder)
    snapshot = collection.snapshot
    assert isinstance(snapshot, ShardedSnapshot)
    with writing(layout.head, "calibrate") as writer:
        weights = local_weights(snapshot.stamp.recipe, snapshot.kinds)
        last = scoring(weights) if snapshot.settings.kinds else ""
        learned: dict[str, Confidence] = {}
        for kind in sorted(snapshot.settings.kinds, key=lambda kind: kind.key == last):
            found = snapshot.inverted_files[kind.key]
            if found.calibrated or found.index is None or snapshot.verifier is None:
                continue
            progress("calibrating", 0, 1)
            bonuses = _bonuses(snapshot, learned, weights) if kind.key == last else []
            source = snapshot.kind(kind.key)
            assert source is not None
            learned[kind.key] = calibrate(
                found.index, snapshot.verifier, source.features, bonus=summed(bonuses) if bonuses else None
            )
            write_confidence(writer, files.LOCAL[kind.key].confidence, learned[kind.key])
            progress("calibrating", 1, 1)
    collection.close()


def _bonuses(snapshot: ShardedSnapshot, learned: Mapping[str, Confidence], weights: Mapping[str, float]) -> list[Bonus]:
    """What further kinds and the global descriptors add to the scores of the kind that others are added to."""
    found = []
    for key, of in snapshot.inverted_files.items():
        if key in learned and weights[key] > 0:
            found.append(kind_bonus(snapshot.tables, key, replace(of, confidence=learned[key]), weights[key]))
    if snapshot.vector_index is not None and len(snapshot.vector_index):
        found.append(lambda queries, rows: _vector_bonus(snapshot, queries, rows))
    return found


def _vector_bonus(snapshot: ShardedSnapshot, queries: Int64, rows: Int64) -> Float32:
    index = snapshot.vector_index
    assert index is not None
    vectors = [snapshot.vector(row) for row in queries.tolist()]
    ranking = index.search(np.array(vectors, np.float32), len(index))
    bonus = np.zeros((len(queries), len(rows)), np.float32)
    places = np.searchsorted(rows, ranking.ids)
    known = (places < len(rows)) & (rows[np.minimum(places, len(rows) - 1)] == ranking.ids)
    query = np.broadcast_to(np.arange(len(queries))[:, None], places.shape)
    bonus[query[known], places[known]] = WEIGHT * snapshot.vector_confidence.standardise(ranking.scores[known])
    return bonus


def _count(report: Report, one: Report) -> None:
    report.added += one.added
    report.updated += one.updated
    report.moved += one.moved
    report.unchanged += one.unchanged
    report.problems += one.problems
    report.notes += one.notes
    report.interrupted |= one.interrupted
