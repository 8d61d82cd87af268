"""The user's object: a folder of indexed photos that answers "where else is this thing?", with proof."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resight.collection.answer import Answer, Explanation, Info, MatchRule, Query
from resight.collection.ingest import Report, ingest, missing_files
from resight.collection.query import identical_first, judge, read_query
from resight.collection.snapshot import DESCRIPTOR, Snapshot
from resight.collection.update import begin, bring_up_to_date
from resight.errors import StampMismatch, UsageError
from resight.images.scan import Scan, scan
from resight.index.asmk import Codebook
from resight.progress import Progress, silent
from resight.ranking.pipeline import Pipeline
from resight.ranking.verification import VERIFIED
from resight.recipes.catalogue import DEFAULT, Settings, settings_of, with_absolute_paths
from resight.recipes.resources import need_database
from resight.recipes.settings import MODEL_FILES
from resight.store.stamp import check_stamp, new_stamp, read_stamp, write_stamp
from resight.store.tables import create, open_tables
from resight.store.writer import Writer, writing
from resight.types import Box, Float32, Int64, Ranking


class Collection:
    """An open collection. Reading goes through `snapshot`, its state when it was opened or last changed here."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    @property
    def path(self) -> Path:
        """The folder of the collection."""
        return self.snapshot.path

    @property
    def settings(self) -> Settings:
        """What the collection keeps of a photo."""
        return self.snapshot.settings

    @property
    def ids(self) -> Mapping[str, int]:
        """Row of every photo, by id."""
        return self.snapshot.ids

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
            _ = self.snapshot.network  # before any work: the network must be the one that made the collection
            begin(writer)
            report = ingest(writer, found, self.settings, jobs=jobs, progress=progress)
            report.notes += self.update(writer, codebook=codebook, progress=progress)
        return report

    def remove(self, ids: Sequence[str], *, progress: Progress = silent) -> int:
        """Take photos out by id; their files stay. Returns how many.

        Raises `UsageError` on an unknown id; when an earlier run over the collection was stopped, unknown ids are
        passed over, so that the same call finishes a removal.
        """
        known = {id_: self.snapshot.find(id_) for id_ in ids}
        if self.snapshot.finished:
            rows = [self.snapshot.row_of(id_) for id_ in known]  # raises for the first unknown one
        else:
            rows = [row for row in known.values() if row is not None]
        gone = np.unique(np.array(rows, np.int64))
        with writing(self.path, "remove") as writer:
            begin(writer)
            writer.remove_rows(gone)
            self.update(writer, progress=progress)
        return len(gone)

    def relearn(self, *, progress: Progress = silent) -> None:
        """Learn codebook and calibration anew from the photos as they are now; a collection that grows does so by
        itself when it has half as many photos again. Raises `UsageError` in recipes without local features.
        """
        if self.settings.local is None:
            raise UsageError(f"{self.path} keeps no local features: only recipes classic and hybrid have a codebook")
        with writing(self.path, "relearn") as writer:
            begin(writer)
            self.update(writer, relearn=True, progress=progress)

    def update(self, writer: Writer, *, progress: Progress = silent, **how: Any) -> list[str]:
        """Bring every artifact up to the tables, and this object with it; `how`: as for
        `resight.collection.update.bring_up_to_date`.
        """
        notes = bring_up_to_date(writer, self.snapshot, progress=progress, **how)
        self.snapshot = Snapshot(writer.tables, self.snapshot.stamp)
        return notes

    def query(self, image: str | os.PathLike[str], box: Box | None = None) -> Query:
        """Read a query: the path of a photo, or the id of an indexed one; `box` in pixels cuts it first.

        Raises `UsageError` when it is neither, or the box lies outside, and `ImageError` when it cannot be decoded.
        """
        return read_query(self.snapshot, image, box)

    def pipeline(self, where: str | None = None, recipe: str | None = None, **options: Any) -> Pipeline:
        """The stages of a recipe, the collection's own when it is None; raises as `Snapshot.pipeline` does."""
        return self.snapshot.pipeline(where, recipe, options)

    def vectors(self) -> tuple[Int64, Float32]:
        """Rows with a global descriptor, ascending, (N,) int64, and the descriptors as searches compare them, (N, D).

        Raises `UsageError` when the recipe has none.
        """
        database = need_database(self.snapshot)
        return database.rows, database.vectors

    def search(
        self,
        image: str | os.PathLike[str] | Query,
        box: Box | None = None,
        top: int = 20,
        where: str | None = None,
        recipe: str | None = None,
        **options: Any,
    ) -> Answer:
        """Find the photos that show what `image` shows (a path, an id or a `Query`), best first.

        `box`: the part of it to look for, in its pixels. `where`: an SQL condition on table `images`, such as
        `taken_at > '2020'`. `recipe`: another way to rank what the collection keeps. `options`: of the recipe
        (`resight.recipes`). A photo asked for by its id is not its own result; photos with the very content of the
        query come first. Raises as `query` and `Snapshot.pipeline` do, and `UsageError` on a bad condition or number.
        """
        if top < 1:
            raise UsageError(f"{top} results were asked for: give at least 1")
        snapshot, started = self.snapshot, time.perf_counter()
        pipeline = self.pipeline(where, recipe, **options)
        query = image if isinstance(image, Query) else read_query(snapshot, image, box)
        read = time.perf_counter()
        ids, scores = _ranked(query, pipeline(query.queries()))
        rule = self.match_rule(recipe)
        results = judge(snapshot, rule, query, ids[:top], scores[:top], options.get("verify", VERIFIED))
        seconds = (read - started, time.perf_counter() - read)
        return Answer(query, results, rule, self.pending, snapshot.calibrated, seconds)

    def explain(
        self,
        image: str | os.PathLike[str] | Query,
        id: str,
        box: Box | None = None,
        recipe: str | None = None,
        **options: Any,
    ) -> Explanation:
        """Why photo `id` does or does not answer a query: its score, and what every stage has to say.

        `recipe` and `options` as they were searched with. Raises `UsageError` when there is no such photo, or it has
        no features.
        """
        snapshot = self.snapshot
        pipeline = self.pipeline(None, recipe, **options)
        query = image if isinstance(image, Query) else read_query(snapshot, image, box)
        row = snapshot.row_of(id)
        if row not in snapshot.tables.feature_rows:
            raise UsageError(f"{id} could not be read when it was indexed ({snapshot.photo(row)['error']})")
        ids, scores = _ranked(query, pipeline(query.queries()))
        place = np.flatnonzero(ids == row)
        score, rank = (scores[place], 1 + int(place[0])) if len(place) else (np.zeros(1, np.float32), 0)
        verify = 1 if rank <= options.get("verify", VERIFIED) else 0
        (result,) = judge(snapshot, self.match_rule(recipe), query, np.array([row]), score, verify, first=rank)
        return Explanation(query, result, pipeline.explain(query.queries(), 0, row))

    @property
    def threshold(self) -> float:
        """Score of the collection's own recipe from which a result counts as a match."""
        snapshot = self.snapshot
        return (snapshot.vector_confidence if self.settings.local is None else snapshot.confidence).threshold

    def match_rule(self, recipe: str | None = None) -> MatchRule:
        """When a result of `recipe` counts as a match."""
        proof, own = self.settings.local is not None, recipe is None or recipe == self.snapshot.stamp.recipe
        # few vectors do not tell what chance looks like
        known = self.snapshot.calibrated if proof else self.snapshot.vector_confidence.pairs > 0
        return MatchRule(self.threshold if known and own else None, proof)

    @property
    def pending(self) -> int:
        """Stored photos that the index does not know yet, because a run was stopped."""
        return len(self.snapshot.differences[1])

    def info(self) -> Info:
        """Counts, sizes and settings."""
        snapshot, stamp = self.snapshot, self.snapshot.stamp
        index, features = snapshot.index, snapshot.tables.feature_rows
        descriptors = None if self.settings.vector is None else snapshot.descriptors
        whitening = None if descriptors is None else descriptors.whitening
        return Info(
            path=str(self.path),
            photos=len(snapshot.tables),
            broken=len(snapshot.tables) - len(features),
            features=int(snapshot.tables.counts(features).sum()),
            words=0 if index is None else len(index.codebook),
            binary=self.settings.local is not None and self.settings.local.binary,
            index_bytes=0 if index is None else index.memory_bytes,
            bytes_per_image=0.0 if index is None else index.bytes_per_image(),
            threshold=self.threshold,
            pending=self.pending,
            missing=len(missing_files(snapshot.tables)),
            recipe=stamp.recipe,
            parameters=dict(stamp.parameters),
            created=stamp.created,
            vectors=0 if descriptors is None else len(descriptors.rows),
            dim=0 if descriptors is None else descriptors.matrix.shape[1],
            whitening="none" if whitening is None else whitening.provenance.get("method", "unknown"),
        )


def _ranked(query: Query, ranking: Ranking) -> tuple[Any, Any]:
    """Rows and scores (n,) of the one query, itself left out, its copies first."""
    ids, scores = ranking.ids[0], ranking.scores[0]
    kept = (ids >= 0) & (ids != query.row)
    return identical_first(query, ids[kept], scores[kept])


def open_collection(path: str | os.PathLike[str]) -> Collection:
    """Open the collection at `path`. Raises `CollectionNotFound`, `StampMismatch` or `CollectionError` (damaged)."""
    stamp, tables = read_stamp(os.fspath(path)), open_tables(path)
    collection = Collection(Snapshot(tables, stamp))
    try:
        _ = collection.settings
    except UsageError as error:
        raise StampMismatch(f"{tables.folder} was made by another resight, upgrade this one: {error}") from error
    return collection


def create_collection(
    path: str | os.PathLike[str], recipe: str = DEFAULT, parameters: Mapping[str, Any] | None = None
) -> Collection:
    """Make an empty collection at `path`. Raises `UsageError` on an unknown recipe or setting, when the path is taken,
    or when the network that the recipe needs cannot be opened.
    """
    parameters = with_absolute_paths(parameters or {})
    network = settings_of(recipe, parameters).descriptor
    models = {} if network is None else {DESCRIPTOR: network.fingerprint}
    create(path, new_stamp(recipe, parameters, models), None if network is None else network.dim)
    return open_collection(path)


def open_or_create(
    path: str | os.PathLike[str], recipe: str | None = None, parameters: Mapping[str, Any] | None = None
) -> Collection:
    """The collection at `path`, made first when nothing is there.

    A network whose file has moved may be given again: the collection then keeps the new place. Raises `StampMismatch`
    when it was made with another recipe, other settings or another network than those asked for.
    """
    if not os.path.lexists(path):
        return create_collection(path, DEFAULT if recipe is None else recipe, parameters)
    collection = open_collection(path)
    stamp = collection.snapshot.stamp
    if recipe is not None:
        check_stamp(stamp, collection.path, recipe)
    asked = with_absolute_paths(parameters or {})
    moved = {name: asked.pop(name) for name in MODEL_FILES if name in asked}
    check_stamp(stamp, collection.path, stamp.recipe, {**stamp.parameters, **asked})
    if any(stamp.parameters.get(name) != value for name, value in moved.items()):
        return _moved_model(collection, moved)
    return collection


def _moved_model(collection: Collection, moved: Mapping[str, str]) -> Collection:
    """The collection with its network at another place. Raises `StampMismatch` when it is another network."""
    known = collection.snapshot
    stamp = replace(known.stamp, parameters={**known.stamp.parameters, **moved})
    _ = Snapshot(known.tables, stamp).network
    with writing(collection.path, "move the network"):
        write_stamp(collection.path, stamp)
    return open_collection(collection.path)
