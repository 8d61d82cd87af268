"""What a collection holds, counted."""

from __future__ import annotations

from resight.collection.answer import Info
from resight.collection.ingest import missing_files
from resight.collection.snapshot import Snapshot


def info_of(snapshot: Snapshot, threshold: float) -> Info:
    """Counts, sizes and settings; `threshold`: score of the collection's own recipe from which a result is a match."""
    settings, stamp = snapshot.settings, snapshot.stamp
    index, features = snapshot.index, snapshot.tables.feature_rows
    descriptors = None if settings.vector is None else snapshot.descriptors
    whitening = None if descriptors is None else descriptors.whitening
    return Info(
        path=str(snapshot.path),
        photos=len(snapshot.tables),
        broken=len(snapshot.tables) - len(features),
        features=int(snapshot.tables.counts(features).sum()),
        words=0 if index is None else len(index.codebook),
        binary=settings.local is not None and settings.local.indexing.binary,
        index_bytes=0 if index is None else index.memory_bytes,
        bytes_per_image=0.0 if index is None else index.bytes_per_image(),
        threshold=threshold,
        pending=len(snapshot.differences[1]),
        missing=len(missing_files(snapshot.tables)),
        recipe=stamp.recipe,
        parameters=dict(stamp.parameters),
        created=stamp.created,
        vectors=0 if descriptors is None else len(descriptors.rows),
        dim=0 if descriptors is None else descriptors.matrix.shape[1],
        whitening="none" if whitening is None else whitening.provenance.get("method", "unknown"),
    )
