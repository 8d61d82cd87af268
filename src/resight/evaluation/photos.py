"""Photos of a benchmark made ready for evaluation: which files they are, and what a recipe makes of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resight.collection.collection import Collection
from resight.collection.info import memory_note, memory_per_million
from resight.collection.regions import describe_regions
from resight.errors import CollectionError, ImageError, UsageError
from resight.evaluation.benchmark import Benchmark, BenchmarkQuery, refuse_names, with_distractors
from resight.evaluation.experiment import Run, System, Task, prefixes
from resight.evaluation.feature_cache import cached_collection
from resight.evaluation.feature_database import Database
from resight.evaluation.image_files import ImageFiles, find_images, image_names
from resight.evaluation.vectors import FeatureSearch
from resight.features.colour_histogram import colour_histogram
from resight.images.decode import decode
from resight.images.loader import map_ordered
from resight.images.transform import decode_crop
from resight.index.codebook import Codebook
from resight.progress import Progress
from resight.recipes.catalogue import (
    RECIPES,
    check_recipe,
    find_recipe,
    indexed_with,
    search_options,
    setting_names,
    settings_of,
)
from resight.recipes.options import check_values
from resight.types import Float32, Int64, Queries

PHOTO_RECIPES = (*(name for name, recipe in RECIPES.items() if not recipe.taught), "colour-histogram")
HISTOGRAM_SIDE = 512  # pixels of the photos that colours are counted in


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a recipe made of a benchmark: queries that wait, systems that answer them."""

    task: Task
    systems: Sequence[System]
    notes: tuple[str, ...] = ()
    memory_per_million: float | None = None  # bytes


@dataclass(frozen=True, eq=False)
class Photos:
    """The photos of a benchmark, distractors behind its own."""

    benchmark: Benchmark
    images: tuple[Path, ...]
    queries: tuple[Path, ...]


def check_photo_recipe(run: Run) -> None:
    """Raises `UsageError` unless there is such a recipe for photos, with these settings, over what photos are indexed
    with.
    """
    keeps_local = False
    if run.recipe not in PHOTO_RECIPES:
        raise UsageError(f"recipe {run.recipe!r} is unknown for photos: choose one of {', '.join(PHOTO_RECIPES)}")
    if run.recipe not in RECIPES:
        check_values(f"recipe {run.recipe}", run.settings, {}, {})
    if run.index is not None and (run.recipe not in RECIPES or RECIPES[run.recipe].indexes):
        raise UsageError(f"recipe {run.recipe} describes photos itself: leave out --index {run.index}")
    if run.recipe in RECIPES:
        indexing, searching = split_settings(_indexed_with(run), run.recipe, run.settings)
        keeps_local = bool(settings_of(_indexed_with(run), indexing).kinds)
        check_recipe(run.recipe, searching)
    if run.codebooks and not keeps_local:
        raise UsageError(f"recipe {run.recipe} keeps no local features: leave out --codebook")


def photo_files(run: Run, benchmark: Benchmark) -> ImageFiles | None:
    """Where the photos of a run's benchmark are, None where there is no folder of them. Some may be missing."""
    path = Path(run.path).expanduser()
    folder = Path(run.photos).expanduser() if run.photos else path if path.is_dir() else path.parent
    if run.photos is None and not image_names(folder):
        return None
    return find_images(benchmark, folder)


def find_photos(run: Run, benchmark: Benchmark) -> Photos:
    """Raises `UsageError`, with number and names, when a photo of the benchmark is missing."""
    found = photo_files(run, benchmark)
    if found is None:
        raise UsageError(f"there are no photos beside {run.path}: name their folder with --photos")
    found.require()
    images = tuple(path for path in found.images if path is not None)
    queries = tuple(path for path in found.queries if path is not None)
    if run.distractors is None:
        return Photos(benchmark, images, queries)
    folder = Path(run.distractors).expanduser()
    names = image_names(folder)
    if not names:
        raise UsageError(f"{folder} holds no distractors: give a folder of photos")
    more = with_distractors(benchmark, [f"{folder.name}/{name}" for name in names])
    return Photos(more, (*images, *(folder / name for name in names)), queries)


def shown_files(run: Run, benchmark: Benchmark) -> ImageFiles | None:
    """The files that a page about `run` shows, those of photo distractors included; None where there are none."""
    if not run.reads_photos:
        return photo_files(run, benchmark)
    photos = find_photos(run, benchmark)
    return ImageFiles(photos.images, photos.queries, ())


def prepare_photos(run: Run, photos: Photos, cache: Path, progress: Progress) -> Prepared:
    """What the recipe of `run` makes of `photos`. Raises `UsageError` when queries cannot be read."""
    if run.recipe in RECIPES:
        return _prepare_collection(run, photos, cache, progress)
    return _prepare_histogram(run, photos, progress)


def _prepare_collection(run: Run, photos: Photos, cache: Path, progress: Progress) -> Prepared:
    indexing, searching = split_settings(_indexed_with(run), run.recipe, run.settings)
    words = _codebooks(run)
    collection = cached_collection(
        cache, photos.benchmark, photos.images, _indexed_with(run), indexing, progress, codebooks=words
    )
    rows, unreadable = _rows(collection, photos)
    task = Task(photos.benchmark, _queries(collection, photos, rows), rows)
    notes = (*_unreadable_note(photos.benchmark, unreadable), memory_note(collection.snapshot))
    if RECIPES[run.recipe].regions:
        describe_regions(collection, progress=progress)
    progress("preparing the search", 0, 1)
    found = replace(collection.snapshot, builds=True).pipeline(None, run.recipe, searching)
    progress("preparing the search", 1, 1)
    return Prepared(task, prefixes(found.stages), notes, memory_per_million(collection.snapshot))


def _codebooks(run: Run) -> dict[str, Codebook]:
    try:
        return {kind: Codebook.load(file) for kind, file in run.codebooks.items()}
    except CollectionError as error:
        raise UsageError(f"--codebook cannot be used: {error}") from error


def _indexed_with(run: Run) -> str:
    """The recipe that the photos of a run are indexed with."""
    if run.index is None:
        return indexed_with(run.recipe)
    find_recipe(run.index)  # says which there are
    return run.index


def _prepare_histogram(run: Run, photos: Photos, progress: Progress) -> Prepared:
    """Global colour histograms, computed on every run: that is as fast as reading the photos."""
    benchmark = photos.benchmark
    described = map_ordered(_histogram, [(path, None) for path in photos.images])
    vectors: list[Float32 | None] = []
    for vector in described:
        vectors.append(vector)
        progress("reading photos", len(vectors), len(photos.images))
    asked = list(map_ordered(_histogram, zip(photos.queries, benchmark.queries, strict=True)))
    refuse_names(
        f"benchmark {benchmark.name}",
        "query photos cannot be read",
        [query.name for query, vector in zip(benchmark.queries, asked, strict=True) if vector is None],
    )
    readable = np.array([row for row, vector in enumerate(vectors) if vector is not None], np.int64)
    unreadable = np.setdiff1d(np.arange(len(vectors)), readable)
    database = Database(np.stack([vector for vector in vectors if vector is not None]))
    queries = Queries(vectors=np.stack([vector for vector in asked if vector is not None]))
    systems = [System(run.recipe, (FeatureSearch(database, "search"),))]
    return Prepared(Task(benchmark, [queries], readable), systems, _unreadable_note(benchmark, unreadable))


def _histogram(item: tuple[Path, BenchmarkQuery | None]) -> Float32 | None:
    path, query = item
    try:
        if query is None or query.box is None:
            return colour_histogram(decode(path, max_side=HISTOGRAM_SIDE).pixels)
        return colour_histogram(decode_crop(path, query.box, max_side=HISTOGRAM_SIDE).pixels)
    except ImageError:
        return None  # counted and named by the caller


def _rows(collection: Collection, photos: Photos) -> tuple[Int64, Int64]:
    """Collection row -> benchmark row, (R,) int64 with -1 where there is none; benchmark rows that cannot be read."""
    table = collection.snapshot.tables.images(["row", "path_bytes", "error_kind"])
    place = {os.path.abspath(path): row for row, path in enumerate(photos.images)}
    known = [place.get(os.fsdecode(path), -1) for path in table["path_bytes"].to_pylist()]
    held = table["row"].to_numpy()
    rows = np.full(int(held.max(initial=-1)) + 1, -1, np.int64)
    rows[held] = known
    absent = np.setdiff1d(np.arange(len(photos.images)), rows)
    refuse_names(
        f"benchmark {photos.benchmark.name}",
        "images are links to others of its images",
        [photos.benchmark.images[row] for row in absent],
    )
    broken = np.array([kind is not None for kind in table["error_kind"].to_pylist()], bool)
    return rows, np.array(known, np.int64)[broken]


def _queries(collection: Collection, photos: Photos, rows: Int64) -> Iterator[Queries]:
    """The queries of a benchmark, one at a time, cut to their boxes. Raises `UsageError` when some cannot be read."""
    of_benchmark = np.full(len(photos.benchmark.images), -1, np.int64)
    of_benchmark[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    own = [-1 if query.row is None else int(of_benchmark[query.row]) for query in photos.benchmark.queries]
    readable = set(collection.snapshot.tables.feature_rows.tolist())
    queries = list(zip(photos.benchmark.queries, photos.queries, own, strict=True))
    refuse_names(
        f"benchmark {photos.benchmark.name}",
        "query photos cannot be read",
        [query.name for query, _, row in queries if row >= 0 and row not in readable],
    )
    for query, path, row in queries:
        if row >= 0 and query.box is None:
            yield collection.query(collection.snapshot.photo(row)["id"]).queries()
        else:
            yield replace(collection.query(path, query.box), row=row).queries()


def split_settings(indexed: str, recipe: str, settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of a run: those that its collection is made with, by recipe `indexed`, and those of a search by
    `recipe`."""
    options, made_with = search_options(recipe), setting_names(indexed, settings)
    searching = {name: value for name, value in settings.items() if name in options}
    return {name: value for name, value in settings.items() if name not in searching or name in made_with}, searching


def _unreadable_note(benchmark: Benchmark, rows: Int64) -> tuple[str, ...]:
    if not len(rows):
        return ()
    names = [benchmark.images[row] for row in np.sort(rows)]
    first = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return (f"{len(names)} images cannot be read and are never found: {first}",)
