"""Reductions of local descriptors that nobody gave: learnt without labels from the first photos of a collection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from resight.artifacts.reduction import save_reduction
from resight.collection.snapshot import Snapshot, reduction_model
from resight.errors import UsageError
from resight.features.global_descriptor import batches
from resight.features.local.reduction import Moments, Reducible
from resight.images.loader import load
from resight.images.scan import Scan
from resight.progress import Progress, silent
from resight.store.stamp import write_stamp
from resight.store.writer import Writer

SAMPLED = 256  # photos that a reduction is learnt from
TOGETHER = 16  # photos that are described at once


def learn_reductions(
    writer: Writer, snapshot: Snapshot, scan: Scan, *, jobs: int = 0, progress: Progress = silent
) -> Snapshot:
    """The snapshot, all of whose encoders have a reduction: those without learn one from photos of `scan`, up to 256
    drawn at random, and the collection keeps it. Nothing is learnt where there is no photo. Raises `UsageError` when
    the photos are too few.
    """
    missing = {
        key: encoder
        for key, encoder in snapshot.encoders.items()
        if isinstance(encoder, Reducible) and encoder.reduction is None
    }
    if not missing or not scan.photos:
        return snapshot
    moments = {key: Moments(encoder.channels) for key, encoder in missing.items()}
    for group in batches(_sampled(snapshot, scan, jobs, progress), TOGETHER):
        for key, encoder in missing.items():
            moments[key].add(encoder.sample(group))
    models = dict(snapshot.stamp.models)
    for key, encoder in missing.items():
        if not moments[key].count:
            raise UsageError("no photo has local features to learn their reduction from: index more photos at once")
        reduction = moments[key].whitening(encoder.dim)
        save_reduction(writer, key, reduction)
        models[reduction_model(key)] = reduction.fingerprint
    stamp = replace(snapshot.stamp, models=models)
    write_stamp(snapshot.path, stamp)  # last: it is what makes the files count
    return Snapshot(writer.tables, stamp)


def _sampled(snapshot: Snapshot, scan: Scan, jobs: int, progress: Progress) -> Iterator[np.ndarray]:
    """Pixels of random photos; those that cannot be read are reported when they are indexed."""
    count = min(SAMPLED, len(scan.photos))
    places = np.sort(np.random.default_rng(0).choice(len(scan.photos), count, replace=False))
    paths: Sequence[str] = [scan.photos[place].path for place in places]
    loaded = load(paths, max_side=snapshot.settings.max_side, jobs=jobs, ahead=TOGETHER)
    for done, item in enumerate(loaded, 1):
        if item.decoded is not None:
            yield item.decoded.pixels
        progress("learning the reduction", done, count)
