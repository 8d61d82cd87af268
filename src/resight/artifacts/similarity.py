"""Searching one's own collection by a similarity that was learned on it, without torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from resight.artifacts.inverted_file import features_of
from resight.collection.collection import DESCRIPTOR, Collection
from resight.errors import UsageError
from resight.index.exact import ExactIndex
from resight.index.vlad import Vlad
from resight.matching.similarity import Similarity, load_similarity
from resight.progress import Progress, silent
from resight.ranking.pipeline import Pipeline
from resight.ranking.search import global_vectors, local_features
from resight.ranking.similarity import deep_similarity
from resight.store.folder import derived_path
from resight.store.tables import Tables
from resight.types import Box, Float32, Int64, Queries

SIMILARITY = "similarity.safetensors"
VLAD = "vlad.safetensors"
SAMPLED = 2000  # photos that VLAD is learnt from
BLOCK = 256


@dataclass(frozen=True, eq=False)
class Described:
    """Global descriptors `vectors` (N, D) of `rows` (N,) ascending, the `fingerprint` of what made them, and how it
    describes queries, (Q, D)."""

    rows: Int64
    vectors: Float32
    fingerprint: str
    describe: Callable[[Queries], Float32]


_DESCRIBED: WeakKeyDictionary[Tables, Described] = WeakKeyDictionary()  # by VLAD, while a collection is open


def describe_collection(collection: Collection, *, progress: Progress = silent) -> Described:
    """The collection's own global descriptors, or VLAD of its local features where its recipe has none.

    VLAD is learnt at the first call and kept among the derived files; the photos are described at the first call for a
    state of the collection, some hundred a second. Raises `CollectionError` when the collection is damaged,
    `UsageError` with too few photos.
    """
    if collection.tables in _DESCRIBED:
        return _DESCRIBED[collection.tables]
    own = collection.state.vectors
    if own is not None:
        whitening = "none" if own.whitening is None else own.whitening.fingerprint
        text = f"{collection.stamp.models.get(DESCRIPTOR)} {whitening}"
        return Described(own.rows, own.matrix, hashlib.sha256(text.encode()).hexdigest(), global_vectors)
    tables, path = collection.tables, derived_path(collection.path, VLAD)
    rows = tables.feature_rows[tables.counts(tables.feature_rows) > 0]
    if path.exists():
        vlad = Vlad.load(path)
    else:
        sample = np.random.default_rng(0).choice(rows, min(SAMPLED, len(rows)), replace=False)
        vlad = Vlad.fit(features_of(tables, np.sort(sample)))
        vlad.save(path)
    parts = []
    for start in range(0, len(rows), BLOCK):
        parts.append(vlad.describe(features_of(tables, rows[start : start + BLOCK])))
        progress("describing", min(start + BLOCK, len(rows)), len(rows))
    vectors = np.concatenate(parts) if parts else np.empty((0, vlad.dim), np.float32)
    described = Described(rows, vectors, vlad.fingerprint, lambda queries: vlad.describe(list(local_features(queries))))
    _DESCRIBED[collection.tables] = described
    return described


def trained_similarity(collection: Collection, described: Described) -> Similarity:
    """The similarity that `train_similarity` kept. Raises `UsageError` when there is none, `StampMismatch` when the
    descriptors have changed since, by another whitening, say."""
    path = derived_path(collection.path, SIMILARITY)
    if not path.exists():
        raise UsageError(f"{collection.path} has no learned similarity: run resight fit similarity {collection.path}")
    return load_similarity(path, described.fingerprint)


def similarity_pipeline(collection: Collection, *, top: int = 1000) -> tuple[Pipeline, Described]:
    """Recipe `deep_similarity` over the collection, online, and what describes its queries."""
    described = describe_collection(collection)
    index = ExactIndex(described.vectors.shape[1])
    index.add(described.rows, described.vectors)
    similarity = trained_similarity(collection, described)
    return deep_similarity(index, similarity, described.rows, described.vectors, top=top), described


def search_by_similarity(
    collection: Collection, image: str | os.PathLike[str], box: Box | None = None, *, top: int = 20
) -> list[tuple[str, float]]:
    """Ids and learned scores of the photos most like `image`, best first, itself left out.

    Raises as `Collection.query` and `trained_similarity` do.
    """
    if top < 1:
        raise UsageError(f"{top} results were asked for: give at least 1")
    pipeline, described = similarity_pipeline(collection)
    query = collection.query(image, box)
    ranking = pipeline(Queries(vectors=described.describe(query.queries())))
    names = {row: id_ for id_, row in collection.ids.items()}
    found = zip(ranking.ids[0].tolist(), ranking.scores[0].tolist(), strict=True)
    return [(names[row], score) for row, score in found if row not in (-1, query.row)][:top]
