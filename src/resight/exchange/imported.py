"""A collection of features that another tool extracted: searched, verified and exported as any other.

Its photos are searched by id. A photo that it does not hold has no such features, since resight cannot extract them:
a search for one, and adding one, are refused (`StampMismatch`).
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from resight.collection.collection import Collection
from resight.collection.ingest import BATCH_PHOTOS
from resight.collection.open import open_collection
from resight.collection.snapshot import IMPORTED, LOCAL
from resight.collection.update import begin
from resight.errors import ImageError, UsageError
from resight.exchange.given import Given
from resight.exchange.request import appearing
from resight.exchange.sources import SOURCES, source_of
from resight.features.global_descriptor import batches
from resight.features.local.packed import pack
from resight.images.decode import decode
from resight.images.scan import Photo, content_hash, scan
from resight.progress import Progress, silent
from resight.recipes.catalogue import DEFAULT
from resight.store.records import Photo as Stored
from resight.store.records import images_batch, local_batch
from resight.store.stamp import new_stamp
from resight.store.tables import create
from resight.store.writer import Writer, writing

GLIMPSE = 16  # pixels of the longer side that a photo is decoded to when only its size is asked for


@dataclass(frozen=True)
class Imported:
    """What came of an import: the collection, its photos, and the photos of the source that were not in the folder."""

    collection: Collection
    photos: int
    missing: tuple[str, ...]


def import_features(path: Path, photos: Path, to: Path, *, progress: Progress = silent) -> Imported:
    """Make the collection `to` of the features in `path`, whose photos lie below the folder `photos`.

    Names are relative paths in that folder, with or without suffix. Photos that are not there are left out and named.
    Raises `UsageError` for a path that is no source, features that cannot be used or are of a photo of another size,
    when no photo is there, and when `to` is taken.
    """
    name = source_of(path)
    files = {key: photo for photo in scan([photos]).photos for key in (_stem(photo.id), photo.id)}
    missing: list[str] = []
    found = _found(SOURCES[name].read(path), files, missing)
    first = next(found, None)
    if first is None:
        raise UsageError(
            f"{photos} holds none of the {len(missing)} photos in {path}, such as {', '.join(missing[:3])}"
        )
    with appearing(to) as scratch:
        create(scratch, new_stamp(DEFAULT, {}, {LOCAL: f"{IMPORTED}{name}"}))
        _fill(scratch, itertools.chain([first], found), path, progress)
    collection = open_collection(to)
    return Imported(collection, len(collection.ids), tuple(missing))


def _fill(folder: Path, found: Iterator[tuple[Given, Photo]], path: Path, progress: Progress) -> None:
    collection = open_collection(folder)
    done, dims = 0, set[int]()
    with writing(folder, "import") as writer:
        begin(writer, collection.snapshot)
        for group in batches(found, BATCH_PHOTOS):
            dims |= {one.features.dim for one, _ in group if len(one.features)}
            if len(dims) > 1:
                raise UsageError(
                    f"{path} holds descriptors of {min(dims)} and of {max(dims)} dimensions: one is needed"
                )
            _store(writer, group, path)
            done += len(group)
            progress("reading features", done, done)
        collection.update(writer, progress=progress)


def write_pairs(path: Path, out: Path) -> int:
    """Write the verified pairs of a source as the examples that `resight fit similarity --pairs` takes; how many.

    Raises `UsageError` when it holds none.
    """
    read = SOURCES[source_of(path)].pairs
    if read is None:
        raise UsageError(f"{path} holds no pairs that geometry verified: only a COLMAP database does")
    pairs = read(path)
    with appearing(out) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("left", "right", "matching", "inliers"))
        writer.writerows((a, b, 1, inliers) for a, b, inliers in pairs)
    return len(pairs)


def _found(every: Iterator[Given], files: dict[str, Photo], missing: list[str]) -> Iterator[tuple[Given, Photo]]:
    """Features with their photo; names without one go to `missing`. A photo is taken once."""
    taken: set[str] = set()
    for one in every:
        photo = files.get(one.name) or files.get(_stem(one.name))
        if photo is None or photo.path in taken:
            missing.append(one.name)
            continue
        taken.add(photo.path)
        yield one, photo


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).name else name


def _store(writer: Writer, group: Sequence[tuple[Given, Photo]], path: Path) -> None:
    """Commit some photos with their features."""
    first = writer.next_row
    stored = [replace(_described(one, photo, path), row=first + k) for k, (one, photo) in enumerate(group)]
    rows = [photo.row for photo in stored]
    features = [one.features for one, _ in group]
    local = local_batch(rows, [len(found) for found in features], [pack(found) for found in features])
    writer.append_photos(images_batch(stored), local)


def _described(one: Given, photo: Photo, path: Path) -> Stored:
    """The photo as a row of the tables. Its size must be the one that the features are for."""
    try:
        seen, sha256 = decode(photo.path, max_side=GLIMPSE), content_hash(photo.path)
    except ImageError as error:
        raise UsageError(f"{path} names {one.name}, which cannot be read: {error}") from error
    if one.size is not None and one.size != (seen.width, seen.height):
        raise UsageError(
            f"{path}: features of {one.name} are for {one.size[0]} x {one.size[1]} pixels, the photo {photo.path} has "
            f"{seen.width} x {seen.height}: give the folder of the photos that they were made of"
        )
    return Stored(0, photo.id, photo.path, photo.root, sha256, photo.size, photo.mtime_ns, seen.width, seen.height,
                  seen.taken_at)  # fmt: skip
