"""All that a collection derives from its tables: of local features, and of global descriptors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resight.artifacts.descriptors import Vectors, load_vectors, sync_vectors
from resight.artifacts.inverted_file import Derived, load_derived, sync
from resight.features.whitening import Whitening
from resight.index.asmk import Codebook
from resight.progress import Progress, silent
from resight.ranking.confidence import UNKNOWN, Bonus
from resight.recipes.local import WEIGHT
from resight.recipes.settings import Settings
from resight.store.tables import Tables
from resight.types import Float32, Int64


@dataclass(frozen=True, eq=False)
class State:
    """`local`: empty in recipes without local features. `vectors`: None in recipes without global descriptors."""

    local: Derived
    vectors: Vectors | None


def load_state(tables: Tables, settings: Settings) -> State:
    """Read what there is. Raises `CollectionError` when a file is damaged."""
    local = Derived(None, UNKNOWN) if settings.local is None else load_derived(tables.folder, settings.local)
    return State(local, None if settings.vector is None else load_vectors(tables, settings.vector))


def sync_state(
    tables: Tables,
    settings: Settings,
    *,
    codebook: Codebook | None = None,
    whitening: Whitening | None = None,
    progress: Progress = silent,
) -> State:
    """Bring all of it up to `tables`, with a codebook or whitening to use from now on. The caller must be the only
    writer of the collection."""
    vectors, local = None, Derived(None, UNKNOWN)
    if settings.vector is not None:
        vectors = sync_vectors(tables, settings.vector, given=whitening, progress=progress)
    if settings.local is not None:
        bonus = None if vectors is None else similarity_bonus(vectors)
        local = sync(tables, settings.local, codebook=codebook, bonus=bonus, progress=progress)
    return State(local, vectors)


def similarity_bonus(vectors: Vectors) -> Bonus:
    """What the global descriptors add to scores in recipe `hybrid`; nothing for photos without one."""

    def bonus(queries: Int64, rows: Int64) -> Float32:
        places = np.full(int(max(queries.max(), rows.max(), vectors.rows.max(initial=0))) + 1, -1)
        places[vectors.rows] = np.arange(len(vectors.rows))
        left, right = places[queries], places[rows]
        known = (left[:, None] >= 0) & (right >= 0)
        if not len(vectors.rows):
            return np.zeros(known.shape, np.float32)
        cosines = vectors.matrix[left] @ vectors.matrix[right].T
        return np.where(known, WEIGHT * vectors.confidence.standardise(cosines), 0).astype(np.float32)

    return bonus
