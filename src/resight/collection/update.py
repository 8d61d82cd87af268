"""After photos came or went: every artifact follows the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from resight.artifacts import files
from resight.artifacts.descriptors import Descriptors, follow_descriptors
from resight.artifacts.followed import Followed, load_followed, write_followed
from resight.artifacts.inverted_file import InvertedFile, features_of, follow_inverted_file, make_verifier
from resight.artifacts.neighbours import follow_graphs
from resight.artifacts.vlad import follow_vlad
from resight.collection.codebooks import given_codebooks
from resight.collection.reductions import learn_reductions
from resight.collection.snapshot import DESCRIPTOR, Snapshot
from resight.collection.tags import tag_photos as tag_photos  # a change that nothing follows
from resight.errors import CollectionError
from resight.features.whitening import Whitening
from resight.images.scan import Scan
from resight.index.asmk import Codebook
from resight.progress import Progress, silent
from resight.ranking.confidence import Bonus
from resight.ranking.search import stack
from resight.recipes.catalogue import local_weights
from resight.recipes.local import WEIGHT, scoring
from resight.store.tables import Tables
from resight.store.writer import Writer
from resight.types import Float32, Int64


def begin(writer: Writer, snapshot: Snapshot, codebooks: Mapping[str, Codebook] | None = None) -> dict[str, Codebook]:
    """Note that the tables are about to change, before they do: until `bring_up_to_date` has come to its end, every
    reader knows that a run was stopped, wherever it was. Gives `codebooks` by key, checked (`given_codebooks`).
    """
    given = given_codebooks(snapshot, codebooks or {})
    if _stopped(writer):
        files.remove(writer, files.FOLLOWED)
    files.write_json(writer, files.UNFINISHED, {"writer": writer.token})
    return given


def _stopped(writer: Writer) -> bool:
    """Whether another writer was stopped; what it left is known only by comparing row by row."""
    if not files.UNFINISHED.exists(writer.folder):
        return False
    content = files.usable(files.UNFINISHED, writer.folder, files.read_json)
    return not isinstance(content, dict) or content.get("writer") != writer.token


def prepare(writer: Writer, snapshot: Snapshot, scan: Scan, *, jobs: int = 0, progress: Progress = silent) -> Snapshot:
    """The snapshot with all that describing the photos of `scan` needs; what is missing is learnt from them
    (`learn_reductions`)."""
    return learn_reductions(writer, snapshot, scan, jobs=jobs, progress=progress)


def bring_up_to_date(
    writer: Writer,
    snapshot: Snapshot,
    *,
    codebooks: Mapping[str, Codebook] | None = None,
    whitening: Whitening | None = None,
    relearn: bool = False,
    progress: Progress = silent,
) -> list[str]:
    """Bring the artifacts of `snapshot` up to the tables as they are now, with codebooks (by key of their kind) or a
    whitening to use from now on; `relearn`: learn codebook and calibration anew. Damaged files that can be made again
    are; returns a sentence for each other one that stays behind.
    """
    problems: list[str] = []
    descriptors = _follow_descriptors(writer, snapshot, whitening, problems, progress)
    followed = None if _stopped(writer) else load_followed(writer.folder)
    _follow_kinds(writer, snapshot, descriptors, codebooks or {}, relearn, followed, progress)
    if descriptors is not None:
        try:
            follow_graphs(writer, descriptors)
        except CollectionError as error:
            problems.append(str(error))
    write_followed(writer, snapshot.kinds, followed)
    files.remove(writer, files.UNFINISHED)
    return problems


def _follow_kinds(
    writer: Writer,
    snapshot: Snapshot,
    descriptors: Descriptors | None,
    codebooks: Mapping[str, Codebook],
    relearn: bool,
    followed: Followed | None,
    progress: Progress,
) -> None:
    """Every kind of local features: last the one whose scores the others are added to, since its threshold is for the
    sum."""
    settings, weights = snapshot.settings, local_weights(snapshot.stamp.recipe, snapshot.kinds)
    if settings.local is None:
        return
    last = scoring(weights)
    verifier = make_verifier(writer.tables, settings.local)
    done: dict[str, InvertedFile] = {}
    for kind in sorted(settings.kinds, key=lambda kind: kind.key == last):
        bonuses = []
        if kind.key == last:
            bonuses = [kind_bonus(writer.tables, key, done[key], weights[key]) for key in done if weights[key] > 0]
            if settings.vector is not None and descriptors is not None:
                bonuses.append(similarity_bonus(descriptors))
        done[kind.key] = follow_inverted_file(
            writer,
            kind,
            codebook=codebooks.get(kind.key),
            relearn=relearn,
            bonus=summed(bonuses) if bonuses else None,
            verifier=verifier,
            followed=followed,
            progress=progress,
        )


def _follow_descriptors(
    writer: Writer, snapshot: Snapshot, whitening: Whitening | None, problems: list[str], progress: Progress
) -> Descriptors | None:
    settings, model = snapshot.settings.vector, snapshot.stamp.models.get(DESCRIPTOR, "")
    try:
        if settings is None:
            return follow_vlad(writer, progress)
        return follow_descriptors(writer, settings, model, given=whitening, progress=progress)
    except CollectionError as error:
        problems.append(str(error))
        return None


def similarity_bonus(descriptors: Descriptors) -> Bonus:
    """What the global descriptors add to scores in recipe `hybrid`; nothing for photos without one."""

    def bonus(queries: Int64, rows: Int64) -> Float32:
        known_rows = descriptors.rows
        places = np.full(int(max(queries.max(), rows.max(), known_rows.max(initial=0))) + 1, -1)
        places[known_rows] = np.arange(len(known_rows))
        left, right = places[queries], places[rows]
        known = (left[:, None] >= 0) & (right >= 0)
        if not len(known_rows):
            return np.zeros(known.shape, np.float32)
        cosines = descriptors.matrix[left] @ descriptors.matrix[right].T
        return np.where(known, WEIGHT * descriptors.confidence.standardise(cosines), 0).astype(np.float32)

    return bonus


def kind_bonus(tables: Tables, key: str, of: InvertedFile, weight: float) -> Bonus:
    """What a further kind of local features, which is worth `weight`, adds to scores; nothing for photos without."""

    def bonus(queries: Int64, rows: Int64) -> Float32:
        total = np.zeros((len(queries), len(rows)), np.float32)
        if of.index is None:
            return total
        local = tuple(features_of(tables, queries, key))
        scores = of.index.scores(*stack(local, of.index.codebook.dim), queries=len(local))
        held = np.isin(rows, of.index.rows)
        total[:, held] = weight * of.confidence.standardise(scores[:, np.searchsorted(of.index.rows, rows[held])])
        return total

    return bonus


def summed(bonuses: Sequence[Bonus]) -> Bonus:
    """All of them together."""
    return lambda queries, rows: np.sum([bonus(queries, rows) for bonus in bonuses], axis=0)
