"""Photos on disk into the tables of a collection: only what is new or changed is read, in batches that each commit."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from resight.errors import ImageError
from resight.features.extraction import Describer
from resight.features.global_descriptor import batches
from resight.features.local.packed import empty_features, pack
from resight.images import scan as disk
from resight.images.decode import decode
from resight.images.loader import map_ordered
from resight.images.scan import Problem, Scan, content_hash
from resight.progress import Progress, silent
from resight.store.records import GLOBAL, Photo, escape_path, images_batch, local_batch
from resight.store.tables import Tables
from resight.store.writer import Writer
from resight.types import Encoder, Float32, LocalFeatures

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
class Known:
    """What the collection knows of a file."""

    row: int
    id: str
    sha256: str
    size: int
    mtime_ns: int
    error_kind: str | None


@dataclass(frozen=True)
class Read:
    """One file, read: a `Photo` without its row, and by kind the number of its features and their bytes, None when it
    could not be decoded; `pixels`, `scale` times as large as the photo, wait for the networks, one of which makes
    `vector` of them.
    """

    photo: Photo
    local: Mapping[str, tuple[int, bytes]] | None
    known: bool
    pixels: Any = None
    scale: float = 1.0
    vector: Float32 | None = None


@dataclass(frozen=True)
class Describers:
    """What makes features of pixels: `encoders` of local features by key, those that are `networks` among them, and the
    `descriptor` of whole photos."""

    encoders: Mapping[str, Encoder]
    networks: frozenset[str] = frozenset()
    descriptor: Describer | None = None

    @property
    def wait(self) -> bool:
        """Whether photos wait for networks, which take many at once."""
        return bool(self.networks) or self.descriptor is not None

    @property
    def singly(self) -> Mapping[str, Encoder]:
        """The encoders that work photo by photo, in threads."""
        return {key: encoder for key, encoder in self.encoders.items() if key not in self.networks}


@dataclass(frozen=True)
class Work:
    """One file to read: its `id` in the collection, and what that knows of it already."""

    photo: disk.Photo
    id: str
    known: Known | None


Reads = Callable[[Sequence[Work]], Iterator[Read | None]]


def ingest(
    writer: Writer,
    scan: Scan,
    settings: Settings,
    encoders: Mapping[str, Encoder],
    *,
    jobs: int = 0,
    reads: Reads | None = None,
    progress: Progress = silent,
) -> Report:
    """Bring the photos of `scan` into the collection. A photo that cannot be decoded is remembered with its error and
    read again only when its file changes. `encoders`: of the local features, by key. `reads`: what reads and describes
    files, in their order, None for threads of this process.

    An interrupt (Ctrl-C) stores what is read already and ends the run with `interrupted` set.
    """
    paths = [photo.path for photo in scan.photos]
    known = _known_files(writer.tables, paths)
    moved = _follow_moved(writer, [photo for photo in scan.photos if photo.path not in known])
    known = _known_files(writer.tables, paths) if moved else known
    work = [photo for photo in scan.photos if _changed(photo, known.get(photo.path))]
    report = Report(
        moved=moved, unchanged=len(scan.photos) - len(work) - moved, skipped=scan.skipped, problems=list(scan.problems)
    )
    ids = _ids(writer.tables, work, known)
    batch: list[Read] = []
    started = time.monotonic()
    todo = [Work(photo, ids[photo.path], known.get(photo.path)) for photo in work]
    results = describe_photos(todo, settings, encoders, jobs) if reads is None else reads(todo)
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


def describe_photos(
    work: Sequence[Work], settings: Settings, encoders: Mapping[str, Encoder], jobs: int = 0
) -> Iterator[Read | None]:
    """Read and describe files in threads, in their order; None for one whose content is known."""
    networks = frozenset(kind.key for kind in settings.kinds if kind.kind.network)
    describers = Describers(encoders, networks, settings.descriptor if work else None)

    def read(one: Work) -> Read | None:
        return _read(one.photo, one.id, one.known, describers, settings.max_side)

    results = map_ordered(read, work, jobs=jobs, ahead=DESCRIBED if describers.wait else None)
    return _described(results, describers) if describers.wait else results


def _follow_moved(writer: Writer, unknown: Sequence[disk.Photo]) -> int:
    """Give photos whose file was moved or renamed their new place, by content; ids and features stay. How many."""
    vanished: dict[int, list[tuple[str, Known]]] = {}
    for path, file in _files_of(writer.tables, "size", sorted({photo.size for photo in unknown})):
        if not os.path.lexists(path):
            vanished.setdefault(file.size, []).append((path, file))
    found: list[tuple[disk.Photo, Known]] = []
    for photo in unknown:
        candidates = vanished.get(photo.size, [])
        if not candidates:
            continue
        same = _same_content(photo, candidates)
        if same is not None:
            vanished[photo.size].remove(same)
            found.append((photo, same[1]))
    for start in range(0, len(found), BATCH_PHOTOS):
        _move(writer, found[start : start + BATCH_PHOTOS])
    return len(found)


def _same_content(photo: disk.Photo, candidates: list[tuple[str, Known]]) -> tuple[str, Known] | None:
    try:
        sha256 = content_hash(photo.path)
    except ImageError:
        return None  # it is read, and reported, as any other
    return next((candidate for candidate in candidates if candidate[1].sha256 == sha256), None)


def _move(writer: Writer, pairs: list[tuple[disk.Photo, Known]]) -> None:
    """Store known photos again under their new paths, in one commit."""
    tables, first = writer.tables, writer.next_row
    records = {r["row"]: r for r in tables.find("row", [file.row for _, file in pairs]).to_pylist()}
    photos = []
    for number, (photo, file) in enumerate(pairs):
        kept: dict[str, Any] = {
            name: records[file.row][name] for name in ("width", "height", "taken_at", "error_kind", "error")
        }
        kept["tags"] = tuple(records[file.row]["tags"] or ())
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
    features = {key: (tables.counts(old, key).tolist(), tables.local(old, key)) for key in ("", *tables.kinds)}
    counts, packed = features.pop("")
    local = local_batch([photos[number].row for number in decoded], counts, packed, features)
    writer.append_photos(images_batch(photos, _vectors(tables, [file.row for _, file in pairs]), tables.dim), local)


def _vectors(tables: Tables, rows: list[int]) -> list[Float32 | None]:
    """The stored global descriptor of each row, None where there is none."""
    if tables.dim is None:
        return [None] * len(rows)
    table = tables.find("row", rows, ["row", GLOBAL])
    stored = dict(zip(table["row"].to_pylist(), table[GLOBAL].to_pylist(), strict=True))
    return [None if stored[row] is None else np.array(stored[row], np.float32) for row in rows]


def missing_files(tables: Tables) -> list[str]:
    """Ids of photos whose file is gone from the disk, in order of row; reads the table a batch at a time."""
    gone: list[tuple[int, str]] = []
    for batch in tables.stream(["id", "path_bytes", "row"]):
        there = np.fromiter(map(os.path.exists, batch["path_bytes"].to_pylist()), np.bool_, len(batch))
        lost = batch.filter(pa.array(~there))
        gone += zip(lost["row"].to_pylist(), lost["id"].to_pylist(), strict=True)
    return [id_ for _, id_ in sorted(gone)]


def absent_roots(tables: Tables) -> dict[str, int]:
    """Folders that photos came from and that are not there, an unplugged disk say, and their numbers of photos."""
    counts: Counter[str] = Counter()
    for batch in tables.stream(["root"]):
        for one in batch["root"].value_counts().to_pylist():
            counts[one["values"]] += one["counts"]
    return {root: count for root, count in counts.items() if "%" not in root and not os.path.isdir(root)}


def _known_files(tables: Tables, paths: Sequence[str]) -> dict[str, Known]:
    """What the collection knows of the files at `paths`, by path."""
    return dict(_files_of(tables, "path_bytes", sorted({os.fsencode(path) for path in paths})))


def _files_of(tables: Tables, column: str, values: Sequence[Any]) -> Iterator[tuple[str, Known]]:
    """Paths of the photos whose `column` is one of `values`, and what is known of them."""
    if len(tables):
        table = tables.find(column, values, ["path_bytes", "row", "id", "sha256", "size", "mtime_ns", "error_kind"])
        for path, *rest in zip(*(table[name].to_pylist() for name in table.schema.names), strict=True):
            yield os.fsdecode(path), Known(*rest)


def _changed(photo: disk.Photo, known: Known | None) -> bool:
    return known is None or (known.size, known.mtime_ns) != (photo.size, photo.mtime_ns) or known.error_kind in RETRIED


def _ids(tables: Tables, work: list[disk.Photo], known: dict[str, Known]) -> dict[str, str]:
    """Path -> id. A known file keeps its id; a new one whose id is taken is told apart by the name of its root."""
    ids = {photo.path: known[photo.path].id for photo in work if photo.path in known}
    new = [photo for photo in work if photo.path not in known]
    named = {name for photo in new for name in _names(photo)}
    taken = set(tables.find("id", sorted(named), ["id"])["id"].to_pylist()) if len(tables) else set()
    for photo in new:
        *names, whole = _names(photo)
        numbered = (f"{whole} ({number})" for number in itertools.count(2))
        free = (name for name in (*names, whole) if name not in taken)
        beyond = (name for name in numbered if name not in taken and not len(tables.find("id", [name], ["row"])))
        ids[photo.path] = next(itertools.chain(free, beyond))
        taken.add(ids[photo.path])
    return ids


def _names(photo: disk.Photo) -> tuple[str, str, str]:
    """Ids for a new photo, the first that is free is taken: below its root, with the name of the root, its path."""
    return photo.id, f"{os.path.basename(escape_path(photo.root))}/{photo.id}", escape_path(photo.path)


def _read(photo: disk.Photo, id_: str, known: Known | None, describers: Describers, max_side: int) -> Read | None:
    """Read one file and encode it as far as no network is needed; None when its content is what the collection has."""
    sha256, width, height, taken_at, local, pixels, scale = "", 0, 0, None, None, None, 1.0
    error: ImageError | None = None
    try:
        sha256 = content_hash(photo.path)
        if known is not None and known.sha256 == sha256 and known.error_kind not in RETRIED:
            return None
        decoded = decode(photo.path, max_side=max_side)
        width, height, taken_at, scale = decoded.width, decoded.height, decoded.taken_at, decoded.scale
        pixels = decoded.pixels if describers.wait else None
        encoded = {key: _packed(encoder(decoded.pixels), scale) for key, encoder in describers.singly.items()}
        local = encoded if describers.encoders else {"": (0, NOTHING)}
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
    return Read(stored, local, known is not None, None if error else pixels, scale)


def _packed(features: LocalFeatures, scale: float) -> tuple[int, bytes]:
    """Number and bytes of features, carried over to the photo, of which the image was `scale` times as large."""
    return len(features), pack(features.scaled(1 / scale))


def _described(results: Iterator[Read | None], describers: Describers) -> Iterator[Read | None]:
    """`results` with what networks make of them. A photo that one cannot take is an error, but for a vector beside
    local features."""
    for group in batches(results, DESCRIBED):
        waiting = [read for read in group if read is not None and read.pixels is not None]
        done = dict(zip(map(id, waiting), _through_networks(waiting, describers), strict=True))
        for read in group:
            yield done.get(id(read), read)


def _through_networks(waiting: list[Read], describers: Describers) -> list[Read]:
    images = [read.pixels for read in waiting]
    for key in sorted(describers.networks):
        found = describers.encoders[key].describe(images)
        waiting = [_with_features(read, key, one) for read, one in zip(waiting, found, strict=True)]
    if describers.descriptor is not None:
        vectors = describers.descriptor.describe(images)
        required = not describers.encoders
        waiting = [_with_vector(read, one, required) for read, one in zip(waiting, vectors, strict=True)]
    return [replace(read, pixels=None) for read in waiting]


def _with_features(read: Read, key: str, features: LocalFeatures | ImageError) -> Read:
    if isinstance(features, ImageError):
        return _failed(read, features)
    return read if read.local is None else replace(read, local={**read.local, key: _packed(features, read.scale)})


def _with_vector(read: Read, vector: Float32 | ImageError, required: bool) -> Read:
    if not isinstance(vector, ImageError):
        return read if read.local is None else replace(read, vector=vector)
    return _failed(read, vector) if required else read


def _failed(read: Read, error: ImageError) -> Read:
    photo = replace(read.photo, error_kind=error.kind, error=f"{escape_path(read.photo.path)}: {error}")
    return replace(read, photo=photo, local=None, vector=None)


def _tags(tables: Tables, ids: list[str]) -> dict[str, tuple[str, ...]]:
    """The tags of photos that are stored again, by id: they stay when a file changes."""
    table = tables.find("id", ids, ["id", "tags"])
    return {
        id_: tuple(tags or ()) for id_, tags in zip(table["id"].to_pylist(), table["tags"].to_pylist(), strict=True)
    }


def _store(writer: Writer, batch: list[Read], report: Report) -> None:
    """Commit a batch and count it; empties the batch."""
    if not batch:
        return
    first = writer.next_row
    tables = writer.tables
    tags = _tags(tables, [read.photo.id for read in batch if read.known])
    photos = [replace(read.photo, row=first + i, tags=tags.get(read.photo.id, ())) for i, read in enumerate(batch)]
    rows = [photo.row for photo, read in zip(photos, batch, strict=True) if read.local is not None]
    columns: dict[str, tuple[list[int], list[bytes]]] = {}
    for key in ("", *tables.kinds):
        features = [read.local[key] for read in batch if read.local is not None]
        columns[key] = ([count for count, _ in features], [packed for _, packed in features])
    vectors = [read.vector for read in batch]
    counts, packed = columns.pop("")
    writer.append_photos(images_batch(photos, vectors, tables.dim), local_batch(rows, counts, packed, columns))
    for read in batch:
        photo = read.photo
        if photo.error_kind is not None:
            report.problems.append(Problem(escape_path(photo.path), photo.error_kind, photo.error or ""))
        elif read.known:
            report.updated += 1
        else:
            report.added += 1
    batch.clear()
