"""After photos came or went: every artifact follows the tables."""

from __future__ import annotations

import numpy as np

from resight.artifacts import files
from resight.artifacts.descriptors import Descriptors, follow_descriptors
from resight.artifacts.inverted_file import follow_inverted_file
from resight.artifacts.neighbours import follow_graphs
from resight.artifacts.vlad import follow_vlad
from resight.collection.snapshot import DESCRIPTOR, Snapshot
from resight.errors import CollectionError
from resight.features.whitening import Whitening
from resight.index.asmk import Codebook
from resight.progress import Progress, silent
from resight.ranking.confidence import Bonus
from resight.recipes.local import WEIGHT
from resight.store.writer import Writer
from resight.types import Float32, Int64


def begin(writer: Writer) -> None:
    """Note that the tables are about to change, before they do: until `bring_up_to_date` has come to its end, every
    reader knows that a run was stopped, wherever it was.
    """
    files.write_json(writer, files.UNFINISHED, {})


def bring_up_to_date(
    writer: Writer,
    snapshot: Snapshot,
    *,
    codebook: Codebook | None = None,
    whitening: Whitening | None = None,
    relearn: bool = False,
    progress: Progress = silent,
) -> list[str]:
    """Bring the artifacts of `snapshot` up to the tables as they are now, with a codebook or whitening to use from now
    on; `relearn`: learn codebook and calibration anew. Damaged files that can be made again are; returns a sentence for
    each other one that stays behind.
    """
    problems: list[str] = []
    descriptors = _follow_descriptors(writer, snapshot, whitening, problems, progress)
    if snapshot.settings.local is not None:
        own = None if snapshot.settings.vector is None else descriptors
        bonus = None if own is None else similarity_bonus(own)
        follow_inverted_file(
            writer, snapshot.settings.local, codebook=codebook, relearn=relearn, bonus=bonus, progress=progress
        )
    if descriptors is not None:
        try:
            follow_graphs(writer, descriptors)
        except CollectionError as error:
            problems.append(str(error))
    files.remove(writer, files.UNFINISHED)
    return problems


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
