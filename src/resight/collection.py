"""The user's object: a folder of indexed photos that answers "where else is this thing?", with proof."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from resight.derived import Derived, features_of, load_derived, sync, verifier
from resight.errors import CollectionError, StampMismatch, UsageError
from resight.features.local_features import SIFT_DIM, empty_features
from resight.images.decode import Decoded, decode
from resight.images.scan import Scan, scan
from resight.images.transform import decode_crop, pixel_box
from resight.index.asmk import Codebook
from resight.ingest import Report, ingest, missing_files
from resight.matching.geometry import Verification
from resight.progress import Progress, silent
from resight.ranking.pipeline import Pipeline
from resight.ranking.recipes import ClassicSettings, Resources, classic, settings_of
from resight.store.folder import lance_faults
from resight.store.records import escape_path
from resight.store.stamp import Stamp, check_stamp, new_stamp, read_stamp
from resight.store.tables import Tables, create, open_tables
from resight.store.writer import writing
from resight.types import Box, Evidence, Int64, LocalFeatures, Queries

VERIFIED = 100  # candidates that geometry looks at


@dataclass(frozen=True, eq=False)
class Query:
    """One query: what it was asked as, its features in original pixels of the photo, and its row when it is indexed."""

    name: str
    path: str
    box: Box | None
    local: LocalFeatures
    row: int = -1

    def queries(self) -> Queries:
        """As stages take it."""
        return Queries(local=(self.local,), rows=np.array([self.row]))


@dataclass(frozen=True, eq=False)
class Result:
    """One photo found. `score` counts standard deviations above unrelated photos, evidence of geometry included;
    `match`: the score passes the collection's threshold and geometry proves it. `path` opens the file. `verification`:
    None behind the candidates that were verified.
    """

    rank: int
    id: str
    row: int
    path: str
    score: float
    match: bool
    verification: Verification | None

    @property
    def inliers(self) -> int:
        """Features that one transform of the query explains; 0 where nothing is proven."""
        return self.verification.inliers if self.verification is not None and self.verification.verified else 0


@dataclass(frozen=True, eq=False)
class Answer:
    """What a search found, best first. `confident`: at least one result is a match. `pending`: stored photos that are
    not searchable until `resight index` has finished. `seconds`: reading the query, and searching.
    """

    query: Query
    results: tuple[Result, ...]
    threshold: float
    pending: int
    seconds: tuple[float, float]

    @property
    def confident(self) -> bool:
        """Whether anything was found that surely shows the same thing."""
        return any(result.match for result in self.results)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why one photo answers a query: the result, and the evidence of every stage."""

    query: Query
    result: Result
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class Info:
    """What a collection holds. Sizes in bytes; `missing`: photos whose file is gone from the disk."""

    path: str
    photos: int
    broken: int
    features: int
    words: int
    binary: bool
    index_bytes: int
    bytes_per_image: float
    threshold: float
    pending: int
    missing: int
    recipe: str
    parameters: Mapping[str, Any]
    created: str


class Collection:
    """An open collection: a snapshot of its tables, and its derived files, read when first needed."""

    def __init__(self, tables: Tables, stamp: Stamp) -> None:
        self.tables = tables
        self.stamp = stamp
        self.settings: ClassicSettings = settings_of(stamp.recipe, stamp.parameters)
        self._derived: Derived | None = None
        self._verifier = verifier(tables)
        self._ids: dict[str, int] | None = None

    @property
    def path(self) -> Path:
        """The folder of the collection."""
        return self.tables.folder

    @property
    def derived(self) -> Derived:
        """Inverted file and calibration. Raises `CollectionError` when they are damaged."""
        if self._derived is None:
            self._derived = load_derived(self.path, self.settings)
        return self._derived

    def add(
        self,
        paths: Sequence[str | os.PathLike[str]] | Scan,
        *,
        jobs: int = 0,
        codebook: Codebook | None = None,
        progress: Progress = silent,
    ) -> Report:
        """Add the photos in files and folders, or of a scan; those that are in are read again only if they changed.

        Returns what came of it, with a row for each file that could not be used. `jobs`: threads, 0 for one per
        processor. Raises `UsageError` when a path does not exist, `CollectionLocked` while another process writes.
        """
        found = paths if isinstance(paths, Scan) else scan(paths)
        with writing(self.path, "add") as writer:
            report = ingest(writer, found, self.settings, jobs=jobs, progress=progress)
            self._renew(writer.tables, sync(writer.tables, self.settings, codebook=codebook, progress=progress))
        return report

    def remove(self, ids: Sequence[str], *, progress: Progress = silent) -> int:
        """Take photos out by id; their files stay. Returns how many.

        Raises `UsageError` on an unknown id; while the index still holds photos of a removal that was stopped, unknown
        ids are passed over, so that the same call finishes it.
        """
        if not self.stale:  # else ids may be gone already, by a removal that was stopped and is finished now
            rows = [self.row_of(id_) for id_ in ids]
        else:
            rows = [self.ids[id_] for id_ in ids if id_ in self.ids]
        gone = np.unique(np.array(rows, np.int64))
        with writing(self.path, "remove") as writer:
            writer.remove_rows(gone)
            self._renew(writer.tables, sync(writer.tables, self.settings, progress=progress))
        return len(gone)

    def query(self, image: str | os.PathLike[str], box: Box | None = None) -> Query:
        """Read a query: the path of a photo, or the id of an indexed one; `box` in pixels cuts it first.

        Raises `UsageError` when it is neither, or the box lies outside, and `ImageError` when it cannot be decoded.
        """
        name = os.fspath(image)
        row = -1 if os.path.isfile(name) else self.ids.get(name, -1)
        if row < 0 and not os.path.exists(name):
            raise UsageError(f"{name} is neither a file nor the id of a photo in {self.path}: check the spelling")
        path = os.path.abspath(name) if row < 0 else self.photo(row)["path"]
        if row >= 0 and box is None:
            return Query(name, path, None, self.features(row), row)
        decoded, offset = self._decode(path, box)
        local = self.settings.encoder(decoded.pixels).scaled(1 / decoded.scale)
        return Query(escape_path(name), path, box, _moved(local, offset), row)

    def search(
        self,
        image: str | os.PathLike[str] | Query,
        box: Box | None = None,
        top: int = 20,
        where: str | None = None,
        **options: Any,
    ) -> Answer:
        """Find the photos that show what `image` shows (a path, an id or a `Query`), best first.

        `box`: the part of it to look for, in its pixels. `where`: an SQL condition on table `images`, such as
        `taken_at > '2020'`. `options`: of the recipe (`resight.ranking.recipes.classic`). An indexed photo is not its
        own result. Raises as `query` does, `CollectionError` when nothing has been indexed, `UsageError` on a bad
        condition or number.
        """
        if top < 1:
            raise UsageError(f"{top} results were asked for: give at least 1")
        started = time.perf_counter()
        query = image if isinstance(image, Query) else self.query(image, box)
        read = time.perf_counter()
        ranking = self.pipeline(where, **options)(query.queries())
        ids, scores = ranking.ids[0], ranking.scores[0]
        kept = np.flatnonzero((ids >= 0) & (ids != query.row))[:top]
        results = self._results(query, ids[kept], scores[kept])
        seconds = (read - started, time.perf_counter() - read)
        return Answer(query, results, self.derived.confidence.threshold, self.pending, seconds)

    def explain(self, image: str | os.PathLike[str] | Query, id: str, box: Box | None = None) -> Explanation:
        """Why photo `id` does or does not answer a query: its score, and what every stage has to say.

        Raises `UsageError` when there is no such photo, or it has no features.
        """
        query = image if isinstance(image, Query) else self.query(image, box)
        row = self.row_of(id)
        if row not in self.tables.feature_rows:
            raise UsageError(f"{id} could not be read when it was indexed ({self.photo(row)['error']})")
        pipeline = self.pipeline()
        ranking = pipeline(query.queries())
        place = np.flatnonzero(ranking.ids[0] == row)
        score = ranking.scores[0, place] if len(place) else np.zeros(1, np.float32)
        rank = 1 + int((ranking.ids[0, : place[0]] != query.row).sum()) if len(place) else 0
        (result,) = self._results(query, np.array([row]), score, first=rank)
        return Explanation(query, result, pipeline.explain(query.queries(), 0, row))

    def pipeline(self, where: str | None = None, **options: Any) -> Pipeline:
        """The stages of the collection's recipe. Raises `CollectionError` when nothing has been indexed yet."""
        index = self.derived.index
        if index is None or not len(index):
            features = self.tables.counts(self.tables.feature_rows).sum()
            why = "its index is not ready" if features else "it holds no photos with features"
            raise CollectionError(f"{self.path} cannot be searched: {why}; run resight index PHOTOS --to {self.path}")
        allowed = None if where is None else self._where(where)
        if self.stale:  # rows that this snapshot of the tables does not know have no features to verify
            allowed = self.tables.feature_rows if allowed is None else np.intersect1d(allowed, self.tables.feature_rows)
        return classic(Resources(index, self._verifier, self.derived.confidence), allowed=allowed, **options)

    def info(self) -> Info:
        """Counts, sizes and settings."""
        index, features = self.derived.index, self.tables.feature_rows
        return Info(
            path=str(self.path),
            photos=len(self.tables),
            broken=len(self.tables) - len(features),
            features=int(self.tables.counts(features).sum()),
            words=0 if index is None else len(index.codebook),
            binary=self.settings.binary,
            index_bytes=0 if index is None else index.memory_bytes,
            bytes_per_image=0.0 if index is None else index.bytes_per_image(),
            threshold=self.derived.confidence.threshold,
            pending=self.pending,
            missing=len(missing_files(self.tables)),
            recipe=self.stamp.recipe,
            parameters=dict(self.stamp.parameters),
            created=self.stamp.created,
        )

    @property
    def pending(self) -> int:
        """Stored photos that the index does not know yet, because a run was stopped."""
        rows = self.tables.feature_rows[self.tables.counts(self.tables.feature_rows) > 0]
        return len(np.setdiff1d(rows, self.derived.index.rows)) if self.derived.index is not None else len(rows)

    @property
    def stale(self) -> bool:
        """Whether the index still holds photos that are gone: a run was stopped, or another process writes."""
        index = self.derived.index
        return index is not None and len(np.setdiff1d(index.rows, self.tables.feature_rows)) > 0

    @property
    def ids(self) -> Mapping[str, int]:
        """Row of every photo, by id."""
        if self._ids is None:
            table = self.tables.images(["id", "row"])
            self._ids = dict(zip(table["id"].to_pylist(), table["row"].to_pylist(), strict=True))
        return self._ids

    def row_of(self, id_: str) -> int:
        """Row of the photo with this id. Raises `UsageError` when there is none."""
        if id_ not in self.ids:
            raise UsageError(f"{self.path} holds no photo with id {id_!r}: `resight search` and `info` print ids")
        return self.ids[id_]

    def photo(self, row: int) -> dict[str, Any]:
        """What table `images` holds of one row, as plain values, with `path` to open the file by."""
        return self._photos(np.array([row]))[0]

    def _photos(self, rows: Int64) -> list[dict[str, Any]]:
        if not len(rows):
            return []
        table = self.tables.images()
        known = table["row"].to_numpy()
        places = np.searchsorted(known, rows)
        records = table.take(pa.array(places)).to_pylist()
        return [{**record, "path": os.fsdecode(record.pop("path_bytes"))} for record in records]

    def features(self, row: int) -> LocalFeatures:
        """The stored local features of one row. Raises `UsageError` when the photo could not be decoded."""
        if row not in self.tables.feature_rows:
            raise UsageError(f"{self.photo(row)['id']} cannot be a query: {self.photo(row)['error']}")
        return features_of(self.tables, np.array([row]))[0]

    def _decode(self, path: str, box: Box | None) -> tuple[Decoded, tuple[float, float]]:
        """Pixels of a query, and where its top-left corner lies in the photo."""
        max_side = self.settings.max_side
        if box is None:
            return decode(path, max_side=max_side), (0.0, 0.0)
        whole = decode(path, max_side=16)
        left, top, _, _ = pixel_box(box, whole.width, whole.height)
        return decode_crop(path, box, max_side=max_side), (float(left), float(top))

    def _results(self, query: Query, rows: Int64, scores: Any, first: int = 1) -> tuple[Result, ...]:
        proofs: list[Verification | None] = [*self._verifier(query.local, rows[:VERIFIED])]
        proofs += [None] * (len(rows) - len(proofs))
        threshold = self.derived.confidence.threshold
        return tuple(
            Result(
                rank=first + i,
                id=photo["id"],
                row=int(photo["row"]),
                path=photo["path"],
                score=float(score),
                match=bool(score >= threshold and proof is not None and proof.verified),
                verification=proof,
            )
            for i, (photo, score, proof) in enumerate(zip(self._photos(rows), scores, proofs, strict=True))
        )

    def _where(self, condition: str) -> Int64:
        scanner = self.tables.images_dataset.scanner(columns=["row"], filter=condition)
        try:
            scanner.explain_plan()
        except ValueError as error:
            why = str(error).split(", /")[0].removeprefix("Invalid user input: ")
            raise UsageError(f"condition {condition!r} does not fit table images of {self.path}: {why}") from error
        with lance_faults("read", self.path):
            rows = scanner.to_table()["row"].to_numpy()
        return np.sort(rows)

    def _renew(self, tables: Tables, derived: Derived) -> None:
        self.tables, self._derived, self._verifier, self._ids = tables, derived, verifier(tables), None


def open_collection(path: str | os.PathLike[str]) -> Collection:
    """Open the collection at `path`. Raises `CollectionNotFound`, `StampMismatch` or `CollectionError` (damaged)."""
    stamp, tables = read_stamp(os.fspath(path)), open_tables(path)
    try:
        return Collection(tables, stamp)
    except UsageError as error:
        raise StampMismatch(f"{tables.folder} was made by another resight, upgrade this one: {error}") from error


def create_collection(
    path: str | os.PathLike[str], recipe: str = "classic", parameters: Mapping[str, Any] | None = None
) -> Collection:
    """Make an empty collection. Raises `UsageError` on an unknown recipe or setting, or when the path is taken."""
    settings_of(recipe, parameters or {})
    create(path, new_stamp(recipe, parameters or {}, {}))
    return open_collection(path)


def open_or_create(
    path: str | os.PathLike[str], recipe: str | None = None, parameters: Mapping[str, Any] | None = None
) -> Collection:
    """The collection at `path`, made first when nothing is there.

    Raises `StampMismatch` when it was made with another recipe or other settings than those asked for.
    """
    if not os.path.lexists(path):
        return create_collection(path, recipe or "classic", parameters)
    collection = open_collection(path)
    if recipe is not None:
        check_stamp(collection.stamp, collection.path, recipe)
    if parameters:
        check_stamp(
            collection.stamp, collection.path, collection.stamp.recipe, {**collection.stamp.parameters, **parameters}
        )
    return collection


def _moved(local: LocalFeatures, offset: tuple[float, float]) -> LocalFeatures:
    if not len(local):
        return empty_features(SIFT_DIM)
    shift = np.asarray(offset, np.float32)
    return LocalFeatures(local.xy + shift, local.scale, local.angle, local.strength, local.descriptors)
