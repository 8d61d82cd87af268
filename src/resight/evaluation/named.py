"""What other tools say of images by name: ranked lists as pairs of names, and descriptors in groups of an HDF5 file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from resight.errors import UsageError
from resight.evaluation.array_files import DAMAGED, h5_array, open_h5
from resight.evaluation.benchmark import Benchmark, refuse_names
from resight.evaluation.feature_files import Features
from resight.regular_files import open_regular, read_regular
from resight.types import Float32, Queries, Ranking

GLOBAL = "global_descriptor"
HDF5 = b"\x89HDF\r\n\x1a\n"  # how such a file begins


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """The pairs of names in a list of pairs, in order. Raises `UsageError` for a line that is not two names."""
    try:
        text = read_regular(path).decode("utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read pairs from {path}: {error}") from error
    pairs = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    wrong = [number for number, words in pairs if len(words) != 2]
    if wrong:
        raise UsageError(f"{path}: {len(wrong)} lines do not hold two names, the first is line {wrong[0]}")
    return [(words[0], words[1]) for _, words in pairs]


def read_lists(path: Path, benchmark: Benchmark) -> Ranking:
    """The ranked list of each query of `benchmark`: lines `query image`, best first, as hloc writes pairs.

    Queries without a line have an empty list. Scores count down. Raises `UsageError` for names that are not of the
    benchmark, `ArrayError` when a list names an image twice.
    """
    pairs = read_pairs(path)
    queries = find_names(path, [a for a, _ in pairs], [query.image for query in benchmark.queries])
    images = find_names(path, [b for _, b in pairs], benchmark.images)
    lists: list[list[int]] = [[] for _ in benchmark.queries]
    for query, image in zip(queries, images, strict=True):
        lists[query].append(image)
    return Ranking.from_lists(lists, [range(len(one), 0, -1) for one in lists])


@dataclass(frozen=True, eq=False)
class Listed:
    """Ranked lists of all queries as a stage."""

    ranking: Ranking
    name: str

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        return self.ranking


def holds_names(path: Path) -> bool:
    """Whether a feature file is an HDF5 file of groups with a global descriptor each, as hloc writes them."""
    try:
        with open_regular(path) as file:
            if file.read(len(HDF5)) != HDF5:
                return False
        with open_h5(path) as content:
            return bool(_groups(content))
    except DAMAGED as error:
        raise UsageError(f"cannot read descriptors from {path}: {error}") from error


def read_named(path: Path, benchmark: Benchmark, queries: Path | None = None) -> Features:
    """The global descriptors of a benchmark's images and, unless all are images, of its queries, by name.

    Raises `UsageError` when an image has none, and for files that are not such.
    """
    names, vectors = _read(path)
    database = _matched(path, names, vectors, benchmark.images)
    if queries is None and all(query.row is not None for query in benchmark.queries):
        return Features(database)
    asked = (names, vectors) if queries is None else _read(queries)
    return Features(database, _matched(queries or path, *asked, [query.image for query in benchmark.queries]))


def find_names(path: Path, names: Sequence[str], known: Sequence[str], where: str = "the benchmark") -> list[int]:
    """The place of each of `names` among `known`: by the whole name, else without suffix, else without folders too.

    Raises `UsageError`, with number and names, for those that fit none, or several, of what `where` holds.
    """
    places = [_by(known, form) for form in _FORMS]
    found = [next((table[key] for form, table in zip(_FORMS, places, strict=True)
                   if (key := form(name)) in table), None) for name in names]  # fmt: skip
    refuse_names(str(path), f"names are not in {where}", _first(names, found, None))
    refuse_names(str(path), f"names fit several images of {where}", _first(names, found, -1))
    return [place for place in found if place is not None]


_FORMS: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    lambda name: str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).name else name,
    lambda name: PurePosixPath(name).stem,
)


def _by(known: Sequence[str], form: Callable[[str], str]) -> dict[str, int]:
    """Place by form of the name, -1 where several share it."""
    table: dict[str, int] = {}
    for place, name in enumerate(known):
        key = form(name)
        table[key] = -1 if key in table else place
    return table


def _first(names: Sequence[str], found: Sequence[int | None], what: int | None) -> list[str]:
    return list(dict.fromkeys(name for name, place in zip(names, found, strict=True) if place == what))


def _matched(path: Path, names: Sequence[str], vectors: Float32, wanted: Sequence[str]) -> Float32:
    """Descriptors in the order of `wanted` names."""
    return vectors[find_names(path, wanted, names, "the file")]


def _groups(file: Any) -> list[str]:
    """Names of groups that hold a global descriptor; links are not followed."""
    found: list[str] = []

    def visit(name: str) -> None:
        group, _, last = name.rpartition("/")
        if last == GLOBAL and group:
            found.append(group)

    file.visit(visit)
    return found


def _read(path: Path) -> tuple[list[str], Float32]:
    try:
        with open_h5(path) as file:
            names = _groups(file)
            arrays = [np.ravel(h5_array(file, f"{name}/{GLOBAL}")[()]) for name in names]
    except DAMAGED as error:
        raise UsageError(f"cannot read descriptors from {path}: {error}") from error
    if len({len(array) for array in arrays}) != 1:
        raise UsageError(f"{path} does not hold global descriptors of one length")
    return names, np.stack(arrays).astype(np.float32)
