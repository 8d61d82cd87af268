"""Photos on disk into the tables of a collection: only what is new or changed is read, in batches that each commit."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from resight.errors import ImageError
from resight.features.extraction import Describer
from resight.features.global_descriptor import batches
from resight.features.local.packed import empty_features, pack
from resight.images import scan as disk
from resight.images.decode import decode
from resight.images.loader import map_ordered
from resight.images.scan import Problem, Scan, content_hash
from resight.progress import Progress, silent
from resight.store.records import Photo, escape_path, images_batch, local_batch
from resight.store.tables import Tables
from resight.store.writer import Writer
from resight.types import Float32

if TYPE_CHECKING:  # so that what extracts features does not hang on the recipes that search them
    from resight.recipes.catalogue import Settings

BATCH_PHOTOS = 64
BATCH_SECONDS = 10.0
DESCRIBED = 16  # photos that wait decoded for the network, which takes those of one size together
NOTHING = pack(empty_features(0))  # the local features of recipes that have none
RETRIED = ("unreadable", "reader-missing")  # files that may be read next time without having changed


@dataclass
class Report:
    """What came of a run over photos: counts, and one `Problem` for every file that could not be used.

    `interrupted`: the run was stopped; what had been read until then is stored. `notes`: what stayed behind, a sentence
    each, with the command that mends it.
    """

    added: int = 0
    updated: int = 0
    moved: int = 0
    unchanged: int = 0
    skipped: int = 0
    problems: list[Problem] = field(default_factory=list)
    interrupted: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Known:
    """What the collection knows of a file."""

    row: int
    id: str
    sha256: str
    size: int
    mtime_ns: int
    error_kind: str | None


@dataclass(frozen=True)
class _Read:
    """One file, read: a `Photo` without its row, and its packed features unless it could not be decoded; `pixels` wait
    for the network that makes `vector` of them.
    """

    photo: Photo
    packed: bytes | None
    count: int
    known: bool
    pixels: Any = None
    vector: Float32 | None = None


def ingest(writer: Writer, scan: Scan, settings: Settings, *, jobs: int = 0, progress: Progress = silent) -> Report:
    """Bring the photos of `scan` into the collection. A photo that cannot be decoded is remembered with its error and
    read again only when its file changes.

    An interrupt (Ctrl-C) stores what is read already and ends the run with `interrupted` set.
    """
    known = _known_files(writer.tables)
    moved = _follow_moved(writer, scan, known)
    known = _known_files(writer.tables) if moved else known
    work = [photo for photo in scan.photos if _changed(photo, known.get(photo.path))]
    report = Report(
        moved=moved, unchanged=len(scan.photos) - len(work) - moved, skipped=scan.skipped, problems=list(scan.problems)
    )
    ids = _ids(work, known)
    batch: list[_Read] = []
    started = time.monotonic()
    descriptor = settings.descriptor if work else None

    def read(photo: disk.Photo) -> _Read | None:
        return _read(photo, ids[photo.path], known.get(photo.path), settings)

    results = map_ordered(read, work, jobs=jobs, ahead=None if descriptor is None else DESCRIBED)
    if descriptor is not None:
        results = _described(results, descriptor, required=settings.local is None)
    try:
        for done, result in enumerate(results, 1):
            if result is None:
                report.unchanged += 1
            else:
                batch.append(result)
            if len(batch) >= BATCH_PHOTOS or time.monotonic() - started > BATCH_SECONDS:
                _store(writer, batch, report)
                started = time.monotonic()
            progress("reading photos", done, len(work))
    except KeyboardInterrupt:
        report.interrupted = True
    _store(writer, batch, report)
    return report


def _follow_moved(writer: Writer, scan: Scan, known: Mapping[str, _Known]) -> int:
    """Give photos whose file was moved or renamed their new place, by content; ids and features stay. How many."""
    vanished: dict[int, list[tuple[str, _Known]]] = {}
    for path, file in known.items():
        vanished.setdefault(file.size, []).append((path, file))
    found: list[tuple[disk.Photo, _Known]] = []
    for photo in scan.photos:
        candidates = [(path, file) for path, file in vanished.get(photo.size, ()) if not os.path.lexists(path)]
        if photo.path in known or not candidates:
            continue
        same = _same_content(photo, candidates)
        if same is not None:
            vanished[photo.size].remove(same)
            found.append((photo, same[1]))
    for start in range(0, len(found), BATCH_PHOTOS):
        _move(writer, found[start : start + BATCH_PHOTOS])
    return len(found)


def _same_content(photo: disk.Photo, candidates: list[tuple[str, _Known]]) -> tuple[str, _Known] | None:
    try:
        sha256 = content_hash(photo.path)
    except ImageError:
        return None  # it is read, and reported, as any other
    return next((candidate for candidate in candidates if candidate[1].sha256 == sha256), None)


def _move(writer: Writer, pairs: list[tuple[disk.Photo, _Known]]) -> None:
    """Store known photos again under their new paths, in one commit."""
    tables, first = writer.tables, writer.next_row
    records = {r["row"]: r for r in tables.find("row", [file.row for _, file in pairs]).to_pylist()}
    photos = []
    for number, (photo, file) in enumerate(pairs):
        kept: dict[str, Any] = {
            name: records[file.row][name] for name in ("width", "height", "taken_at", "error_kind", "error")
        }
        photos.append(
            Photo(
                row=first + number,
                id=file.id,
                path=photo.path,
                root=photo.root,
                sha256=file.sha256,
                size=photo.size,
                mtime_ns=photo.mtime_ns,
                **kept,
            )
        )
    decoded = [number for number, photo in enumerate(photos) if photo.error_kind is None]
    old = np.array([pairs[number][1].row for number in decoded], np.int64)
    local = local_batch([photos[number].row for number in decoded], tables.counts(old).tolist(), tables.local(old))
    writer.append_photos(images_batch(photos, _vectors(tables, [file.row for _, file in pairs]), tables.dim), local)


def _vectors(tables: Tables, rows: list[int]) -> list[Float32 | None]:
    """The stored global descriptor of each row, None where there is none."""
    if tables.dim is None:
        return [None] * len(rows)
    known, vectors = tables.vectors()
    place = {row: number for number, row in enumerate(known.tolist())}
    return [vectors[place[row]] if row in place else None for row in rows]


def missing_files(tables: Tables) -> list[str]:
    """Ids of photos whose file is gone from the disk."""
    table = tables.images(["id", "path_bytes"])
    paths = table["path_bytes"].to_pylist()
    return [id_ for id_, path in zip(table["id"].to_pylist(), paths, strict=True) if not os.path.exists(path)]


def absent_roots(tables: Tables) -> dict[str, int]:
    """Folders that photos came from and that are not there, an unplugged disk say, and their numbers of photos."""
    counts = Counter(tables.images(["root"])["root"].to_pylist())
    return {root: count for root, count in counts.items() if "%" not in root and not os.path.isdir(root)}


def _known_files(tables: Tables) -> dict[str, _Known]:
    table = tables.images(["path_bytes", "row", "id", "sha256", "size", "mtime_ns", "error_kind"])
    columns = [table[name].to_pylist() for name in table.schema.names]
    return {os.fsdecode(path): _Known(*rest) for path, *rest in zip(*columns, strict=True)}


def _changed(photo: disk.Photo, known: _Known | None) -> bool:
    return known is None or (known.size, known.mtime_ns) != (photo.size, photo.mtime_ns) or known.error_kind in RETRIED


def _ids(work: list[disk.Photo], known: dict[str, _Known]) -> dict[str, str]:
    """Path -> id. A known file keeps its id; a new one whose id is taken is told apart by the name of its root."""
    ids: dict[str, str] = {}
    taken = {file.id for file in known.values()}
    for photo in work:
        if photo.path in known:
            ids[photo.path] = known[photo.path].id
            continue
        root = escape_path(photo.root)
        whole = escape_path(photo.path)
        numbered = (f"{whole} ({number})" for number in itertools.count(2))
        candidates = itertools.chain((photo.id, f"{os.path.basename(root)}/{photo.id}", whole), numbered)
        ids[photo.path] = next(id_ for id_ in candidates if id_ not in taken)
        taken.add(ids[photo.path])
    return ids


def _read(photo: disk.Photo, id_: str, known: _Known | None, settings: Settings) -> _Read | None:
    """Read one file and encode it locally; None when its content is what the collection has already."""
    sha256, width, height, taken_at, packed, count, pixels = "", 0, 0, None, None, 0, None
    error: ImageError | None = None
    try:
        sha256 = content_hash(photo.path)
        if known is not None and known.sha256 == sha256 and known.error_kind not in RETRIED:
            return None
        decoded = decode(photo.path, max_side=settings.max_side)
        width, height, taken_at = decoded.width, decoded.height, decoded.taken_at
        packed, pixels = NOTHING, None if settings.vector is None else decoded.pixels
        if settings.local is not None:
            features = settings.local.encoder(decoded.pixels).scaled(1 / decoded.scale)
            packed, count = pack(features), len(features)
    except ImageError as problem:
        error = problem
    stored = Photo(
        row=0,
        id=id_,
        path=photo.path,
        root=photo.root,
        sha256=sha256,
        size=photo.size,
        mtime_ns=photo.mtime_ns,
        width=width,
        height=height,
        taken_at=taken_at,
        error_kind=error.kind if error else None,
        error=str(error) if error else None,
    )
    return _Read(stored, packed, count, known is not None, pixels)


def _described(results: Iterator[_Read | None], descriptor: Describer, required: bool) -> Iterator[_Read | None]:
    """`results` with their vectors. One that the network cannot take is an error if vectors are `required`."""
    for group in batches(results, DESCRIBED):
        images = [read for read in group if read is not None and read.pixels is not None]
        found = dict(zip(map(id, images), descriptor.describe([read.pixels for read in images]), strict=True))
        for read in group:
            yield read if id(read) not in found else _with_vector(read, found[id(read)], required)


def _with_vector(read: _Read, vector: Float32 | ImageError, required: bool) -> _Read:
    if not isinstance(vector, ImageError):
        return replace(read, pixels=None, vector=vector)
    if not required:
        return replace(read, pixels=None)
    failed = replace(read.photo, error_kind=vector.kind, error=f"{escape_path(read.photo.path)}: {vector}")
    return replace(read, pixels=None, photo=failed, packed=None)


def _store(writer: Writer, batch: list[_Read], report: Report) -> None:
    """Commit a batch and count it; empties the batch."""
    if not batch:
        return
    first = writer.next_row
    photos = [replace(read.photo, row=first + i) for i, read in enumerate(batch)]
    good = [(photo.row, read.count, read.packed) for photo, read in zip(photos, batch, strict=True) if read.packed]
    rows, counts, packed = zip(*good, strict=True) if good else ((), (), ())
    vectors = [read.vector for read in batch]
    writer.append_photos(images_batch(photos, vectors, writer.tables.dim), local_batch(rows, counts, packed))
    for read in batch:
        photo = read.photo
        if photo.error_kind is not None:
            report.problems.append(Problem(escape_path(photo.path), photo.error_kind, photo.error or ""))
        elif read.known:
            report.updated += 1
        else:
            report.added += 1
    batch.clear()
