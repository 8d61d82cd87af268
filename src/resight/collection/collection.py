"""The user's object: a folder of indexed photos that answers "where else is this thing?", with proof."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resight.collection.answer import Answer, Explanation, Info, MatchRule, Query
from resight.collection.info import info_of
from resight.collection.ingest import Report, ingest
from resight.collection.query import read_query
from resight.collection.snapshot import Snapshot
from resight.collection.steps import explanation, search_all
from resight.collection.update import begin, bring_up_to_date, prepare, tag_photos
from resight.errors import UsageError
from resight.images.scan import Scan, scan
from resight.progress import Progress, silent
from resight.recipes.resources import need_database
from resight.store.writer import Writer, writing

if TYPE_CHECKING:
    from resight.collection.ingest import Reads
    from resight.index.asmk import Codebook
    from resight.ranking.pipeline import Pipeline
    from resight.recipes.catalogue import Settings
    from resight.types import Box, Float32, Int64


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
        """Row of every photo, by id: looked up when asked for, and read a batch at a time."""
        return self.snapshot.ids

    def add(
        self,
        paths: Sequence[str | os.PathLike[str]] | Scan,
        *,
        jobs: int = 0,
        codebooks: Mapping[str, Codebook] | None = None,
        reads: Reads | None = None,
        progress: Progress = silent,
    ) -> Report:
        """Add the photos in files and folders, or of a scan; those that are in are read again only if they changed.

        Returns what came of it, with a row for each file that could not be used. `jobs`: threads, 0 for one per
        processor. `codebooks`: to use instead of learning them, by name of their local features, "" for the only kind.
        `reads`: what reads and describes files instead of these threads (`resight.cluster.extract`).
        Raises `UsageError` when a path does not exist, `CollectionLocked` while another process writes.
        """
        found = paths if isinstance(paths, Scan) else scan(paths)
        with writing(self.path, "add") as writer:
            _ = (
                self.snapshot.network,
                self.snapshot.encoders,
                self.snapshot.verifier,
            )  # before any work: they must be those that made it
            given = begin(writer, self.snapshot, codebooks)
            self.snapshot = prepare(writer, self.snapshot, found, jobs=jobs, progress=progress)
            report = ingest(
                writer, found, self.settings, self.snapshot.encoders, jobs=jobs, reads=reads, progress=progress
            )
            report.notes += self.update(writer, codebooks=given, progress=progress)
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
            begin(writer, self.snapshot)
            writer.remove_rows(gone)
            self.update(writer, progress=progress)
        return len(gone)

    def tag(
        self, photos: Sequence[str | os.PathLike[str]] | Int64, *, add: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> int:
        """Add tags to photos and take others away, in one commit; returns how many photos changed.

        `photos`: ids, paths of indexed files, or rows (n,) int64, such as those of `rows_where` of the snapshot. Search
        them with `where="array_has(tags, 'beach')"`. Raises `UsageError` for an unknown photo or what is no tag,
        `CollectionLocked` while another process writes.
        """
        with writing(self.path, "tag") as writer:
            count = tag_photos(writer, photos, add, remove)
            self.snapshot = Snapshot(writer.tables, self.snapshot.stamp)
        return count

    def relearn(self, *, progress: Progress = silent) -> None:
        """Learn codebook and calibration anew from the photos as they are now; a collection that grows does so by
        itself when it has half as many photos again. Features stay as they were extracted, and so does a reduction that
        was learnt from the first photos: index into a new collection to learn that again. Raises `UsageError` in
        recipes without local features.
        """
        if self.settings.local is None:
            raise UsageError(
                f"{self.path} has no codebook: recipe {self.snapshot.stamp.recipe} keeps no local features"
            )
        with writing(self.path, "relearn") as writer:
            begin(writer, self.snapshot)
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

    def pipeline(self, /, where: str | Int64 | None = None, recipe: str | None = None, **options: Any) -> Pipeline:
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
        /,
        image: str | os.PathLike[str] | Query,
        box: Box | None = None,
        top: int = 20,
        where: str | Int64 | None = None,
        recipe: str | None = None,
        also: Sequence[str | os.PathLike[str] | Query] = (),
        without: Sequence[str | os.PathLike[str] | Query] = (),
        **options: Any,
    ) -> Answer:
        """Find the photos that show what `image` shows (a path, an id or a `Query`), best first.

        `box`: the part of it to look for, in its pixels. `where`: an SQL condition on table `images`, such as `taken_at
        > '2020'`, or the rows (n,) int64 ascending to search. `recipe`: another way to rank what the collection keeps.
        `also`: further photos that show it, each searched for by itself: a result has the best of their scores.
        `without`: photos that do not; these and what matches them are left out. `options`: of the recipe
        (`resight.recipes`). A photo asked for by its id is not its own result; photos with the very content of the
        query come first. Raises as `query` and `Snapshot.pipeline` do, and `UsageError` on a bad condition or number.
        """
        if top < 1:
            raise UsageError(f"{top} results were asked for: give at least 1")
        pipeline = self.pipeline(where, recipe, **options)
        rule, verify = self.match_rule(recipe), options.get("verify")
        return search_all(self.snapshot, rule, pipeline, (image, *also), without, box=box, top=top, verify=verify)

    def explain(
        self,
        /,
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
        if not snapshot.tables.decoded([row])[0]:
            raise UsageError(f"{id} could not be read when it was indexed ({snapshot.photo(row)['error']})")
        return explanation(snapshot, self.match_rule(recipe), pipeline, query, row, verify=options.get("verify"))

    @property
    def threshold(self) -> float:
        """Score of the collection's own recipe from which a result counts as a match."""
        snapshot = self.snapshot
        return (snapshot.vector_confidence if snapshot.scored is None else snapshot.scored.confidence).threshold

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
        return info_of(self.snapshot, self.threshold)
