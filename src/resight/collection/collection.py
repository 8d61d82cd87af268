"""The user's object: a folder of indexed photos that answers "where else is this thing?", with proof."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from resight.artifacts.descriptors import Vectors
from resight.artifacts.inverted_file import Derived, features_of, verifier
from resight.artifacts.labels import training_photos
from resight.artifacts.neighbours import follow_graphs, neighbourhood
from resight.artifacts.state import State, load_state, sync_state
from resight.collection.answer import Answer, Explanation, Info, MatchRule, Query
from resight.collection.ingest import Report, ingest, missing_files
from resight.collection.query import judge, read_query
from resight.errors import CollectionError, StampMismatch, UsageError
from resight.features.global_descriptor import GlobalDescriptor
from resight.features.whitening import Whitening
from resight.fitting.fusion import stored_weight
from resight.images.scan import Scan, scan
from resight.index.asmk import Codebook
from resight.progress import Progress, silent
from resight.ranking.pipeline import Pipeline
from resight.ranking.search import Only
from resight.recipes.graph import GRAPH_RECIPES, Neighbourhood
from resight.recipes.local import PIPELINES, WEIGHT, Resources, call_recipe, vectors
from resight.recipes.settings import MODEL_FILES, RECIPES, Settings, settings_of
from resight.store.folder import lance_faults
from resight.store.stamp import Stamp, check_stamp, new_stamp, read_stamp, write_stamp
from resight.store.tables import Tables, create, open_tables
from resight.store.writer import Writer, writing
from resight.types import Box, Float32, Int64, LocalFeatures

DESCRIPTOR = "descriptor"  # name of the network in the stamp's models
LEARNED_RECIPES = ("separation", "deep-similarity")  # of `resight.recipes.learned`, which itself opens collections
RECIPES_OF_COLLECTIONS = (*RECIPES, *GRAPH_RECIPES, *LEARNED_RECIPES)
VERIFIED = 100  # candidates that geometry looks at


class Collection:
    """An open collection: a snapshot of its tables, and its derived files, read when first needed."""

    def __init__(self, tables: Tables, stamp: Stamp) -> None:
        self.tables = tables
        self.stamp = stamp
        self.settings: Settings = settings_of(stamp.recipe, stamp.parameters)
        self._state: State | None = None
        self.verifier = verifier(tables)
        self._ids: dict[str, int] | None = None

    @property
    def path(self) -> Path:
        """The folder of the collection."""
        return self.tables.folder

    @property
    def state(self) -> State:
        """Inverted file, global descriptors and calibrations. Raises `CollectionError` when they are damaged."""
        if self._state is None:
            self._state = load_state(self.tables, self.settings)
        return self._state

    @property
    def derived(self) -> Derived:
        """Inverted file of local features and its calibration."""
        return self.state.local

    @property
    def descriptor(self) -> GlobalDescriptor | None:
        """The network that makes the global descriptors, None in recipes without.

        Raises `UsageError` when its file is gone, `StampMismatch` when it is another one than made the collection.
        """
        descriptor = self.settings.descriptor
        if descriptor is not None and descriptor.fingerprint != self.stamp.models.get(DESCRIPTOR):
            raise StampMismatch(
                f"{self.path} holds vectors of another network than {descriptor.backbone.name} as it is now: "
                "give the file that it was made with, or index the photos into a new collection"
            )
        return descriptor

    def vectors(self) -> tuple[Int64, Float32]:
        """Rows with a global descriptor, ascending, (N,) int64, and the descriptors as searches compare them, (N, D).

        Raises `UsageError` when the recipe has none.
        """
        return self.whole.rows, self.whole.matrix

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
            _ = self.descriptor  # before any work: the network must be the one that made the collection
            report = ingest(writer, found, self.settings, jobs=jobs, progress=progress)
            self.sync(writer, progress, codebook)
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
            self.sync(writer, progress)
        return len(gone)

    def query(self, image: str | os.PathLike[str], box: Box | None = None) -> Query:
        """Read a query: the path of a photo, or the id of an indexed one; `box` in pixels cuts it first.

        Raises `UsageError` when it is neither, or the box lies outside, and `ImageError` when it cannot be decoded.
        """
        return read_query(self, image, box)

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
        `taken_at > '2020'`. `recipe`: another way to rank what the collection keeps (`pipeline`). `options`: of the
        recipe. An indexed photo is not its own result. Raises as `query` and `pipeline` do, and `UsageError` on a bad
        condition or number.
        """
        if top < 1:
            raise UsageError(f"{top} results were asked for: give at least 1")
        started = time.perf_counter()
        query = image if isinstance(image, Query) else self.query(image, box)
        read = time.perf_counter()
        ranking = self.pipeline(where, recipe, **options)(query.queries())
        ids, scores = ranking.ids[0], ranking.scores[0]
        kept = np.flatnonzero((ids >= 0) & (ids != query.row))[:top]
        rule = self.match_rule(recipe)
        results = judge(self, rule, query, ids[kept], scores[kept])
        seconds = (read - started, time.perf_counter() - read)
        return Answer(query, results, rule, self.pending, seconds)

    def explain(
        self,
        image: str | os.PathLike[str] | Query,
        id: str,
        box: Box | None = None,
        recipe: str | None = None,
        **options: Any,
    ) -> Explanation:
        """Why photo `id` does or does not answer a query: its score, and what every stage has to say.

        Raises `UsageError` when there is no such photo, or it has no features.
        """
        query = image if isinstance(image, Query) else self.query(image, box)
        row = self.row_of(id)
        if row not in self.tables.feature_rows:
            raise UsageError(f"{id} could not be read when it was indexed ({self.photo(row)['error']})")
        pipeline = self.pipeline(None, recipe, **options)
        ranking = pipeline(query.queries())
        place = np.flatnonzero(ranking.ids[0] == row)
        score = ranking.scores[0, place] if len(place) else np.zeros(1, np.float32)
        rank = 1 + int((ranking.ids[0, : place[0]] != query.row).sum()) if len(place) else 0
        (result,) = judge(self, self.match_rule(recipe), query, np.array([row]), score, first=rank)
        return Explanation(query, result, pipeline.explain(query.queries(), 0, row))

    def pipeline(self, where: str | None = None, recipe: str | None = None, **options: Any) -> Pipeline:
        """The stages of a recipe: the collection's own, or one of `RECIPES_OF_COLLECTIONS` that its features allow.

        Raises `CollectionError` when nothing has been indexed yet, `UsageError` for a recipe or option that there is
        not, or one that needs what the collection lacks.
        """
        state = self.state
        index = state.local.index if self.settings.local is not None else self.whole.index
        if index is None or not len(index):
            features = self.tables.counts(self.tables.feature_rows).sum()
            why = "its index is not ready" if features else "it holds no photos with features"
            raise CollectionError(f"{self.path} cannot be searched: {why}; run resight index PHOTOS --to {self.path}")
        allowed = None if where is None else self._where(where)
        if self.stale:  # rows that this snapshot of the tables does not know have no features to verify
            allowed = self.tables.feature_rows if allowed is None else np.intersect1d(allowed, self.tables.feature_rows)
        name = recipe or self.stamp.recipe
        if name not in RECIPES_OF_COLLECTIONS:
            raise UsageError(f"recipe {name!r} is unknown: choose one of {', '.join(RECIPES_OF_COLLECTIONS)}")
        if name in GRAPH_RECIPES or name in LEARNED_RECIPES:
            return self._restricted(self._special_pipeline(name, options), allowed)
        resources = Resources(self.verifier, state.local.confidence, state.local.index)
        if state.vectors is not None:
            whole = state.vectors
            resources = replace(resources, vectors=whole.index, vector_confidence=whole.confidence)
        if name == "hybrid":
            options = {"weight": WEIGHT if (known := stored_weight(self.path)) is None else known, **options}
        return call_recipe(name, PIPELINES.get(name, vectors), resources, {**options, "allowed": allowed})

    def neighbourhood(self) -> Neighbourhood:
        """What graph recipes work on. Raises `UsageError` without global descriptors."""
        whole = self.whole
        verifier = self.verifier if self.settings.local is not None else None
        return neighbourhood(self.path, whole, verifier, training_photos(self.path, whole))

    def _special_pipeline(self, name: str, options: Mapping[str, Any]) -> Pipeline:
        if name in GRAPH_RECIPES:
            return call_recipe(name, GRAPH_RECIPES[name], self.neighbourhood(), options)
        from resight.recipes.learned import LEARNED

        return call_recipe(name, LEARNED[name], self, options)

    @staticmethod
    def _restricted(pipeline: Pipeline, allowed: Int64 | None) -> Pipeline:
        return pipeline if allowed is None else Pipeline((*pipeline.stages, Only(allowed)))

    @property
    def threshold(self) -> float:
        """Score of the collection's own recipe from which a result counts as a match."""
        return self.whole.confidence.threshold if self.settings.local is None else self.derived.confidence.threshold

    def match_rule(self, recipe: str | None = None) -> MatchRule:
        """When a result of `recipe` counts as a match."""
        proof, own = self.settings.local is not None, recipe is None or recipe == self.stamp.recipe
        known = own and (proof or self.whole.confidence.pairs > 0)  # few vectors do not tell what chance looks like
        return MatchRule(self.threshold if known else None, proof)

    def info(self) -> Info:
        """Counts, sizes and settings."""
        index, features, whole = self.derived.index, self.tables.feature_rows, self.state.vectors
        whitening = None if whole is None else whole.whitening
        return Info(
            path=str(self.path),
            photos=len(self.tables),
            broken=len(self.tables) - len(features),
            features=int(self.tables.counts(features).sum()),
            words=0 if index is None else len(index.codebook),
            binary=self.settings.local is not None and self.settings.local.binary,
            index_bytes=0 if index is None else index.memory_bytes,
            bytes_per_image=0.0 if index is None else index.bytes_per_image(),
            threshold=self.threshold,
            pending=self.pending,
            missing=len(missing_files(self.tables)),
            recipe=self.stamp.recipe,
            parameters=dict(self.stamp.parameters),
            created=self.stamp.created,
            vectors=0 if whole is None else len(whole.rows),
            dim=0 if whole is None else whole.matrix.shape[1],
            whitening="none" if whitening is None else whitening.provenance.get("method", "unknown"),
        )

    @property
    def pending(self) -> int:
        """Stored photos that the index does not know yet, because a run was stopped."""
        if self.settings.local is None:
            return 0  # global descriptors are searched as they are stored
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
        return self.photos(np.array([row]))[0]

    def photos(self, rows: Int64) -> list[dict[str, Any]]:
        """As `photo`, of several rows (n,), in their order."""
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

    @property
    def whole(self) -> Vectors:
        """The global descriptors, ready to search. Raises `UsageError` when the recipe has none."""
        if self.state.vectors is None:
            raise UsageError(f"{self.path} keeps no global descriptors: index its photos with a recipe that has them")
        return self.state.vectors

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

    def sync(
        self,
        writer: Writer,
        progress: Progress,
        codebook: Codebook | None = None,
        whitening: Whitening | None = None,
    ) -> None:
        tables = writer.tables
        state = sync_state(tables, self.settings, codebook=codebook, whitening=whitening, progress=progress)
        if state.vectors is not None:
            follow_graphs(self.path, state.vectors)
        self.tables, self._state, self.verifier, self._ids = tables, state, verifier(tables), None


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
    """Make an empty collection at `path`. Raises `UsageError` on an unknown recipe or setting, when the path is taken,
    or when the network that the recipe needs cannot be opened.
    """
    parameters = with_absolute_paths(parameters or {})
    descriptor = settings_of(recipe, parameters).descriptor
    models = {} if descriptor is None else {DESCRIPTOR: descriptor.fingerprint}
    create(path, new_stamp(recipe, parameters, models), None if descriptor is None else descriptor.dim)
    return open_collection(path)


def open_or_create(
    path: str | os.PathLike[str], recipe: str | None = None, parameters: Mapping[str, Any] | None = None
) -> Collection:
    """The collection at `path`, made first when nothing is there.

    A network whose file has moved may be given again: the collection then keeps the new place. Raises `StampMismatch`
    when it was made with another recipe, other settings or another network than those asked for.
    """
    if not os.path.lexists(path):
        return create_collection(path, recipe or "classic", parameters)
    collection = open_collection(path)
    if recipe is not None:
        check_stamp(collection.stamp, collection.path, recipe)
    asked = with_absolute_paths(parameters or {})
    moved = {name: asked.pop(name) for name in MODEL_FILES if name in asked}
    stamp = collection.stamp
    check_stamp(stamp, collection.path, stamp.recipe, {**stamp.parameters, **asked})
    if any(stamp.parameters.get(name) != value for name, value in moved.items()):
        collection = _moved_model(collection, moved)
    return collection


def with_absolute_paths(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`parameters`, those that name files of networks made absolute, so that they hold in every working folder."""
    values = dict(parameters)
    for name in MODEL_FILES:
        if isinstance(values.get(name), str) and values[name]:
            values[name] = str(Path(values[name]).expanduser().absolute())
    return values


def _moved_model(collection: Collection, moved: Mapping[str, str]) -> Collection:
    """The collection with its network at another place. Raises `StampMismatch` when it is another network."""
    stamp = replace(collection.stamp, parameters={**collection.stamp.parameters, **moved})
    _ = Collection(collection.tables, stamp).descriptor
    with writing(collection.path, "move the network"):
        write_stamp(collection.path, stamp)
    return open_collection(collection.path)
