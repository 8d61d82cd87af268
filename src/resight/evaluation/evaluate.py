"""Run a recipe on a benchmark: photos or a feature file in, scores per query out.

evaluation = evaluate(Run("holidays", "holidays/images"))
evaluation.final.scores["plain"].map
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from resight.collection.info import MILLION
from resight.errors import UsageError
from resight.evaluation.benchmark import Benchmark
from resight.evaluation.experiment import LISTS, Evaluation, Run, System, Task, evaluate_systems, peak_memory
from resight.evaluation.feature_cache import cache_folder
from resight.evaluation.feature_database import Database
from resight.evaluation.feature_recipes import FEATURE_RECIPES
from resight.evaluation.ground_truth import KNOWN, open_benchmark
from resight.evaluation.local_files import ASMK, read_local
from resight.evaluation.named import Listed, read_lists
from resight.evaluation.photos import PHOTO_RECIPES, Prepared, check_photo_recipe, find_photos, prepare_photos
from resight.evaluation.results import Table, evaluation_json, parse_evaluation, tabulate
from resight.evaluation.sources import program_hash
from resight.evaluation.vectors import FeatureSearch, check_feature_recipe, read_for_benchmark
from resight.evaluation.witness import explained, witness
from resight.progress import Progress, silent
from resight.regular_files import read_regular
from resight.store.folder import write_atomic
from resight.types import Queries

RECIPES = (*PHOTO_RECIPES, *FEATURE_RECIPES)


def evaluate(run: Run, *, cache: Path | None = None, progress: Progress = silent, misses: bool = False) -> Evaluation:
    """Do `run` and score it under the protocol of its benchmark, after every stage of its recipe.

    Features of photos are kept in the folder `cache` (None: `feature_cache.cache_folder`), so that a second run, or one
    that was stopped, only searches. `misses`: say, too, why geometry missed what it did. Raises `UsageError` for an
    unknown benchmark, recipe or setting, images that are not there (with their number and names), queries that cannot
    be read, and feature files that do not fit.
    """
    check_run(run)
    started = time.perf_counter()
    benchmark = opened(run)
    if run.lists is not None:
        prepared = _prepare_lists(run.lists, benchmark)
    elif run.features is not None:
        prepared = _prepare_features(run, benchmark)
    else:
        prepared = prepare_photos(run, find_photos(run, benchmark), cache or cache_folder(), progress)
    seconds = time.perf_counter() - started
    if run.stages is not None and run.stages > len(prepared.systems):
        raise UsageError(f"recipe {run.recipe} has {len(prepared.systems)} stages, not {run.stages}")
    systems = prepared.systems[: run.stages]
    seen = witness(prepared.task, systems[-1], run.recipe) if misses else None
    watched = [] if seen is None else [System(seen.name, (*systems[-1].stages, seen))]
    results = evaluate_systems(prepared.task, [*systems, *watched], progress)[: len(systems)]
    benchmark = prepared.task.benchmark
    return Evaluation(
        run=run,
        images=len(benchmark.images),
        queries=tuple(query.name for query in benchmark.queries),
        checksum=benchmark.checksum,
        protocol=str(benchmark.protocol),
        results=results,
        notes=(*_count_notes(run, benchmark), *prepared.notes),
        seconds=seconds,
        peak_memory=peak_memory(),
        benchmark=benchmark,
        memory_per_million=prepared.memory_per_million,
        misses=None if seen is None else explained(seen, results, systems[-1].stages),
    )


def evaluate_once(run: Run, *, cache: Path | None = None, progress: Progress = silent) -> Evaluation:
    """As `evaluate`, but a result that the same program, benchmark and files gave before is read, not measured again.

    Rankings are not kept, so that results stay small.
    """
    check_run(run)
    folder = (cache or cache_folder()) / "results"
    path = folder / f"{_result_key(run)}.json"
    if path.exists():
        try:
            return parse_evaluation(json.loads(read_regular(path)))
        except (OSError, ValueError, RecursionError):
            path.unlink()  # torn or of an older format: it is measured again
    evaluation = evaluate(run, cache=cache, progress=progress)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(evaluation_json(evaluation), allow_nan=False).encode())
    return evaluation


def experiment(
    runs: Mapping[str, Sequence[Run]],
    *,
    baseline: str | None = None,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Table:
    """Systems x benchmarks: label -> the runs of that system, one per benchmark. Finished runs are not done again.

    All others are compared to the system `baseline`. `resight.evaluation.results` writes the table as JSON, csv,
    Markdown and LaTeX. Raises as `evaluate` and `tabulate` do.
    """
    done = [(label, evaluate_once(run, cache=cache, progress=progress)) for label, each in runs.items() for run in each]
    return tabulate(done, baseline)


def check_run(run: Run) -> None:
    """Raises `UsageError` for an unknown recipe or setting, and options that do not go together."""
    if run.stages is not None and run.stages < 1:
        raise UsageError(f"{run.stages} stages were asked for: at least 1 is needed")
    if (run.lists is None) != (run.recipe != LISTS):
        raise UsageError(f"recipe {LISTS} and --lists FILE stand together: give both, or neither")
    if run.lists is not None:
        if run.settings or run.features or run.query_features or run.distractors or run.codebooks:
            raise UsageError(
                "--lists are ranked already: leave out --set, --features, --query-features, --distractors, --codebook"
            )
        return
    if run.features is not None:
        if run.index is not None:
            raise UsageError(f"--index {run.index} is for photos: leave it out with --features")
        if run.codebooks:
            raise UsageError("--codebook is for photos: leave it out with --features")
        check_feature_recipe(run.recipe, run.settings)
        return
    if run.query_features is not None:
        raise UsageError("--query-features needs --features: the descriptors of the database")
    if run.blend is not None:
        raise UsageError("--blend needs --features: the descriptors that its own stand behind")
    if run.recipe in FEATURE_RECIPES and run.recipe not in PHOTO_RECIPES:
        raise UsageError(f"recipe {run.recipe} works on descriptors: give a file of them with --features")
    check_photo_recipe(run)


def opened(run: Run) -> Benchmark:
    """The benchmark of a run, marked where its queries are not cropped. Raises as `open_benchmark`."""
    benchmark = open_benchmark(f"{run.benchmark}:{run.path}")
    return benchmark.uncropped() if run.uncropped else benchmark


def _prepare_features(run: Run, benchmark: Benchmark) -> Prepared:
    assert run.features is not None
    if run.recipe == ASMK:
        return _prepare_local(run, benchmark, Path(run.features))
    benchmark, queries, database = read_for_benchmark(
        benchmark, run.features, run.query_features, run.distractors, run.blend
    )
    stage = FeatureSearch(database, run.recipe, run.settings)
    notes: tuple[str, ...] = ()
    if benchmark.protocol.crop == "box":
        notes = (f"the queries of {run.features} are taken to be cropped to their boxes: the file cannot tell",)
    own = np.array([-1 if query.row is None else query.row for query in benchmark.queries], np.int64)
    task = Task(benchmark, [Queries(vectors=queries, rows=own)])
    vectors = database.vectors  # all that plain searches hold; graphs and neighbours take more
    held = MILLION * vectors.nbytes / len(vectors) if run.recipe == "search" else None
    return Prepared(task, [System(run.recipe, (stage,))], notes, held)


def _prepare_local(run: Run, benchmark: Benchmark, path: Path) -> Prepared:
    if run.distractors is not None:
        raise UsageError(f"recipe {ASMK} takes no --distractors: put their descriptors into {path}")
    asked = None if run.query_features is None else Path(run.query_features)
    queries, vectors, images = read_local(benchmark, path, asked)
    stage = FeatureSearch(Database(vectors, images=images), run.recipe, run.settings)
    return Prepared(Task(benchmark, [queries]), [System(run.recipe, (stage,))])


def _prepare_lists(path: str, benchmark: Benchmark) -> Prepared:
    ranking = read_lists(Path(path), benchmark)
    empty = int((ranking.lengths == 0).sum())
    notes = (f"{empty} queries have no list in {path}: they find nothing",) if empty else ()
    queries = Queries(rows=np.arange(len(ranking)))
    return Prepared(Task(benchmark, [queries]), [System(LISTS, (Listed(ranking, LISTS),))], notes)


def _count_notes(run: Run, benchmark: Benchmark) -> tuple[str, ...]:
    known = KNOWN[run.benchmark]
    pairs = ((known.images, benchmark.annotated, "images"), (known.queries, len(benchmark.queries), "queries"))
    return tuple(
        f"{ours} {what} instead of the published {theirs}" for theirs, ours, what in pairs if theirs not in (None, ours)
    )


def _result_key(run: Run) -> str:
    """Hash of all that decides a result: the run, the program, and size and time of every file it reads."""
    benchmark = opened(run)
    paths = [
        Path(name)
        for name in (
            run.features,
            run.query_features,
            run.blend,
            run.lists,
            *run.setting_files,
            *run.codebooks.values(),
        )
        if name is not None
    ]
    if run.reads_photos:
        photos = find_photos(run, benchmark)
        benchmark, paths = photos.benchmark, [*paths, *photos.images, *photos.queries]
    elif run.distractors is not None:
        paths.append(Path(run.distractors))
    try:
        states = [(os.fspath(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    except OSError as error:
        raise UsageError(f"cannot read {error.filename}: {error.strerror}") from error
    text = json.dumps((run.as_json(), benchmark.checksum, str(benchmark.protocol), states, program_hash()))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
