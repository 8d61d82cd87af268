"""What a collection holds, counted."""

from __future__ import annotations

from resight.collection.answer import Info
from resight.collection.ingest import missing_files
from resight.collection.sizes import part_sizes, stored
from resight.collection.snapshot import Snapshot

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
        bytes_per_image=memory(snapshot) / max(len(snapshot.tables.feature_rows), 1),
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
        parts=parts_of(snapshot),
    )


def parts_of(snapshot: Snapshot) -> dict[str, dict[str, float]]:
    """Bytes of every part on disk and in memory, in all and for one photo, by name."""
    photos = max(len(snapshot.tables), 1)
    return {
        name: {
            "disk": size.disk,
            "disk_per_photo": round(size.disk / photos, 1),
            "memory": size.memory,
            "memory_per_photo": round(size.memory / photos, 1),
        }
        for name, size in part_sizes(snapshot).items()
    }


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
