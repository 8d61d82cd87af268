"""Local descriptors of a benchmark out of one file, searched by ASMK: the files of HOW and of its `asmk` package.

`vecs` (n, D) and `imids` (n,) are the descriptors of all images and the number of the image of each; `qvecs` and
`qimids` the same of the queries. Positions are not in these files, so there is no verification.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resight.errors import UsageError
from resight.evaluation.benchmark import Benchmark
from resight.evaluation.feature_files import Features, read_features
from resight.features.local.packed import empty_features
from resight.types import Float32, Int64, LocalFeatures, Queries

ASMK = "asmk"  # the recipe for such files


def read_local(benchmark: Benchmark, path: Path, queries: Path | None) -> tuple[Queries, Float32, Int64]:
    """Queries, descriptors (n, D) and the image (n,) of each. Queries that are images need no descriptors of their own.

    Raises `UsageError` when the file does not say which image a descriptor is of, or numbers images that are not there.
    """
    found = read_features(path, queries)
    images = _numbers(path, "imids", found.images, len(benchmark.images))
    rows = np.array([-1 if query.row is None else query.row for query in benchmark.queries], np.int64)
    return Queries(local=_queries(benchmark, path, found, images, rows), rows=rows), found.vectors, images


def _queries(
    benchmark: Benchmark, path: Path, found: Features, images: Int64, rows: Int64
) -> tuple[LocalFeatures, ...]:
    if found.queries is not None:
        numbers = _numbers(path, "qimids", found.query_images, len(rows))
        return _grouped(found.queries, numbers, np.arange(len(rows)))
    if (rows < 0).any():
        raise UsageError(
            f"{path} holds no query descriptors and the queries of {benchmark.name} are not database photos: "
            "give them with --query-features"
        )
    return _grouped(found.vectors, images, rows)


def _numbers(path: Path, name: str, numbers: Int64 | None, count: int) -> Int64:
    """The image of each descriptor, checked."""
    if numbers is None:
        raise UsageError(f"{path} does not say which image each descriptor is of: it needs {name}")
    if len(numbers) and (numbers.min() < 0 or numbers.max() >= count):
        raise UsageError(f"{path}: {name} run from {numbers.min()} to {numbers.max()}, and there are {count}")
    return numbers


def _grouped(vectors: Float32, numbers: Int64, wanted: Int64) -> tuple[LocalFeatures, ...]:
    """The descriptors of each image of `wanted`, at no place."""
    order = np.argsort(numbers, kind="stable")
    starts, ends = (np.searchsorted(numbers[order], wanted, side) for side in ("left", "right"))
    return tuple(_placeless(vectors[order[a:b]]) for a, b in zip(starts, ends, strict=True))


def _placeless(descriptors: Float32) -> LocalFeatures:
    if not len(descriptors):
        return empty_features(descriptors.shape[1])
    blank = np.zeros(len(descriptors), np.float32)
    return LocalFeatures(np.zeros((len(descriptors), 2), np.float32), blank, blank, blank, descriptors)
