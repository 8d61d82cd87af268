"""Feature files instead of photos: descriptors of queries and a database to rankings, by a recipe for them.

All recipes (`resight.evaluation.feature_recipes`) rank the distractors too. Descriptors are used as they are: normalise
them before writing the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from resight.arrays import unit_rows
from resight.errors import UsageError
from resight.evaluation.benchmark import Benchmark, with_distractors
from resight.evaluation.feature_database import Database
from resight.evaluation.feature_files import Features, read_features
from resight.evaluation.feature_recipes import FEATURE_RECIPES
from resight.evaluation.named import holds_names, read_named
from resight.evaluation.streaming import stream_vectors
from resight.recipes.options import check_options
from resight.types import Float32, Queries, Ranking


@dataclass(frozen=True, eq=False)
class FeatureSearch:
    """One of `FEATURE_RECIPES` as a stage. Raises `UsageError` for an unknown recipe or setting."""

    database: Database
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_feature_recipe(self.name, self.settings)

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        if (queries.vectors is None and queries.local is None) or ranking is not None:
            raise UsageError(f"recipe {self.name} searches the whole database with descriptors: put it first")
        return FEATURE_RECIPES[self.name](queries, self.database, **self.settings)


def check_feature_recipe(name: str, settings: Mapping[str, Any]) -> None:
    """Raises `UsageError` unless there is such a recipe for feature files, with these settings."""
    if name not in FEATURE_RECIPES:
        raise UsageError(f"recipe {name!r} is unknown for descriptors: choose one of {', '.join(FEATURE_RECIPES)}")
    check_options(name, FEATURE_RECIPES[name], settings)


def read_for_benchmark(
    benchmark: Benchmark, features: str, queries: str | None, distractors: str | None, blend: str | None = None
) -> tuple[Benchmark, Float32, Database]:
    """Descriptors of a benchmark's queries (Q, D) and photos, from files; the benchmark with its distractors.

    Database rows stand in the order of the benchmark's images, or carry their numbers in `imids`, or their names, as in
    files of hloc. Queries that are database photos need no descriptors of their own. `blend`: a further file of
    both, whose descriptors stand behind those of the first, each normalised. Raises `UsageError` when numbers do not
    fit the benchmark, and for a blend with distractors, whose file holds one kind.
    """
    vectors, asked = _read(benchmark, features, queries)
    if blend is not None:
        if distractors is not None:
            raise UsageError(f"{distractors} holds one kind of descriptors: write a file of the blend for distractors")
        behind, asked_behind = _read(benchmark, blend, None)
        vectors, asked = _side_by_side(vectors, behind), _side_by_side(asked, asked_behind)
    if distractors is None:
        return benchmark, asked, Database(vectors)
    path = Path(distractors)
    count = sum(len(block) for block in stream_vectors(path, vectors.shape[1]))
    names = [f"distractor {number}" for number in range(count)]
    return with_distractors(benchmark, names), asked, Database(vectors, path)


def _read(benchmark: Benchmark, features: str, queries: str | None) -> tuple[Float32, Float32]:
    """Descriptors of the photos and of the queries."""
    if holds_names(Path(features)):
        read = read_named(Path(features), benchmark, None if queries is None else Path(queries))
    else:
        read = read_features(features, queries, rows=len(benchmark.images))
    vectors = _in_order(read, len(benchmark.images), features)
    return vectors, _query_vectors(benchmark, read, vectors, features)


def _side_by_side(first: Float32, second: Float32) -> Float32:
    """Two descriptors of each photo behind each other, with equal weight, L2-normalised together."""
    return np.hstack([unit_rows(first), unit_rows(second)]) * np.float32(np.sqrt(0.5))


def _in_order(features: Features, images: int, path: str) -> Float32:
    if len(features.vectors) != images:
        raise UsageError(f"{path} holds {len(features.vectors)} descriptors, the benchmark has {images} images")
    if features.images is None:
        return features.vectors
    order = np.argsort(features.images, kind="stable")
    if not np.array_equal(features.images[order], np.arange(images)):
        raise UsageError(
            f"{path} does not hold one descriptor for each of the {images} images: its imids say otherwise"
        )
    return features.vectors[order]


def _query_vectors(benchmark: Benchmark, features: Features, vectors: Float32, path: str) -> Float32:
    rows = [query.row for query in benchmark.queries]
    if features.queries is None:
        if any(row is None for row in rows):
            raise UsageError(
                f"{path} holds no query descriptors and the queries of {benchmark.name} are not database photos: "
                "give them with --query-features"
            )
        return vectors[np.array(rows, np.int64)]
    if len(features.queries) != len(rows):
        raise UsageError(f"there are {len(features.queries)} query descriptors for {len(rows)} queries")
    if features.query_images is None:
        return features.queries
    order = np.argsort(features.query_images, kind="stable")
    if not np.array_equal(features.query_images[order], np.arange(len(rows))):
        raise UsageError(f"the qimids of {path} do not name each of the {len(rows)} queries once")
    return features.queries[order]
