"""What a collection holds, counted."""

from __future__ import annotations

from pathlib import Path

from resight.collection.answer import Info
from resight.collection.ingest import missing_files
from resight.collection.snapshot import Snapshot
from resight.store.folder import faults
from resight.store.remote import bucket, remote

MILLION = 1_000_000


def info_of(snapshot: Snapshot, threshold: float) -> Info:
    """Counts, sizes and settings; `threshold`: score of the collection's own recipe from which a result is a match."""
    settings, stamp = snapshot.settings, snapshot.stamp
    descriptors = None if settings.vector is None else snapshot.descriptors
    whitening = None if descriptors is None else descriptors.whitening
    kinds = kinds_of(snapshot)
    photos, index_bytes = len(snapshot.tables), sum(kind["index_bytes"] for kind in kinds.values())
    return Info(
        path=str(snapshot.path),
        photos=photos,
        broken=photos - snapshot.tables.readable,
        features=sum(kind["features"] for kind in kinds.values()),
        words=sum(kind["words"] for kind in kinds.values()),
        binary=settings.local is not None and settings.local.indexing.binary,
        index_bytes=index_bytes,
        bytes_per_image=sum(found.index.bytes_per_image() for found in snapshot.inverted_files.values() if found.index),
        threshold=threshold,
        pending=len(snapshot.differences[1]),
        missing=len(missing_files(snapshot.tables)),
        recipe=stamp.recipe,
        parameters=dict(stamp.parameters),
        created=stamp.created,
        vectors=0 if descriptors is None else len(descriptors.rows),
        dim=0 if descriptors is None else descriptors.matrix.shape[1],
        whitening="none" if whitening is None else whitening.provenance.get("method", "unknown"),
        kinds=kinds,
        memory_per_million=memory_per_million(snapshot),
        disk_per_million=_per_million(stored(snapshot.path), photos),
    )


def kinds_of(snapshot: Snapshot) -> dict[str, dict[str, int]]:
    """Features, visual words and bytes of the index of every kind of local features, by name."""
    rows, found = snapshot.tables.feature_rows, {}
    for key, name in snapshot.kinds.items():
        index = snapshot.inverted_files[key].index
        found[name] = {
            "features": int(snapshot.tables.counts(rows, key).sum()),
            "words": 0 if index is None else len(index.codebook),
            "index_bytes": 0 if index is None else index.memory_bytes,
        }
    return found


def memory(snapshot: Snapshot) -> int:
    """Bytes of what searches hold in memory: inverted files, and global descriptors."""
    held = sum(kind["index_bytes"] for kind in kinds_of(snapshot).values())
    if snapshot.settings.vector is None or snapshot.descriptors is None:
        return held
    return held + snapshot.descriptors.matrix.nbytes


def stored(folder: Path) -> int:
    """Bytes of all files of a collection, or of all its objects in a bucket."""
    if (view := remote(folder)) is not None:
        return sum(size for _, size in bucket(view).sizes())
    with faults("read", folder):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def memory_per_million(snapshot: Snapshot) -> float:
    """Bytes of what searches would hold in memory of a million photos like those of a collection."""
    return _per_million(memory(snapshot), len(snapshot.tables))


def memory_note(snapshot: Snapshot) -> str:
    """One sentence about what a million photos like those of a collection take."""
    photos = len(snapshot.tables)
    held, kept = memory_per_million(snapshot) / 1e9, _per_million(stored(snapshot.path), photos) / 1e9
    return f"a million photos like these take {held:.2f} GB of memory to search, and {kept:.1f} GB of disk"


def _per_million(size: int, photos: int) -> float:
    return size * MILLION / max(photos, 1)
