"""Several systems on one benchmark: shared first stages run once, every stage is timed, per-query scores are kept."""

from __future__ import annotations

import json
import resource
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from resight.errors import UsageError
from resight.evaluation.benchmark import Benchmark
from resight.evaluation.metrics import Scores
from resight.evaluation.misses import Misses
from resight.features.local.encoders import MODEL_FILES
from resight.progress import Progress, silent
from resight.recipes.catalogue import DEFAULT
from resight.types import Int64, Queries, Ranking, Stage

LISTS = "lists"  # the recipe of a run that reads ranked lists
# Settings that name a file: of networks, lists of neighbours, training photos, and what geometry proves of them.
FILE_SETTINGS = (*MODEL_FILES, "index_lists", "query_lists", "training", "labels", "proven", "query_proven")


def names_file(setting: str) -> bool:
    """Whether a setting, of one part such as `how.weights` or of all, names a file."""
    return setting.rpartition(".")[2] in FILE_SETTINGS


@dataclass(frozen=True)
class Run:
    """What to evaluate, as the arguments of `resight evaluate`; paths as text.

    `benchmark` and `path`: as in BENCHMARK:PATH. `index`: the recipe that photos are indexed with, for a recipe that
    indexes none; None for the usual one. `photos`: folder of the images, where it is not `path`. `features`
    and `query_features`: files of descriptors instead of photos. `blend`: a further file, whose descriptors stand
    behind those of `features`. `distractors`: a folder of photos, or a file of
    descriptors. `uncropped`: queries are whole photos although the benchmark crops them. `stages`: only the first so
    many stages of the recipe. `lists`: a file of ranked lists instead of photos, with the recipe `LISTS`. `codebooks`:
    files of visual words that were learnt on other photos, by name of their local features, "" for the only kind.
    """

    benchmark: str
    path: str
    recipe: str = DEFAULT
    settings: Mapping[str, Any] = field(default_factory=dict)
    index: str | None = None
    photos: str | None = None
    features: str | None = None
    query_features: str | None = None
    blend: str | None = None
    distractors: str | None = None
    uncropped: bool = False
    stages: int | None = None
    lists: str | None = None
    codebooks: Mapping[str, str] = field(default_factory=dict)

    @property
    def reads_photos(self) -> bool:
        """Whether photos are described, not descriptors or lists read."""
        return self.features is None and self.lists is None

    @property
    def command(self) -> str:
        """The command line that does this run."""
        words = ["resight", "evaluate", f"{self.benchmark}:{self.path}"]
        words += [] if self.lists is not None else ["--recipe", self.recipe]
        for name, value in self.settings.items():
            words += ["--set", f"{name}={_as_yaml(value)}"]
        for name in ("index", "photos", "features", "query_features", "blend", "lists", "distractors"):
            if (value := getattr(self, name)) is not None:
                words += [f"--{name.replace('_', '-')}", value]
        for kind, file in self.codebooks.items():
            words += ["--codebook", f"{kind}={file}" if kind else file]
        words += ["--uncropped"] if self.uncropped else []
        return shlex.join(words + ([] if self.stages is None else ["--stages", str(self.stages)]))

    @property
    def setting_files(self) -> tuple[str, ...]:
        """The files that settings name."""
        return tuple(str(value) for name, value in self.settings.items() if value and names_file(name))

    def as_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {**asdict(self), "settings": dict(self.settings), "codebooks": dict(self.codebooks)}


@dataclass(frozen=True, eq=False)
class Task:
    """A benchmark made ready for stages.

    `batches`: its queries in order, a few at a time, read when they are needed. `rows` (R,) int64: the benchmark row of
    each database row that stages rank, -1 for a photo that is not of the benchmark; None where both are the same.
    """

    benchmark: Benchmark
    batches: Iterable[Queries]
    rows: Int64 | None = None


@dataclass(frozen=True, eq=False)
class System:
    """Stages under a name. Two systems share the work of their first stages where these are the same objects."""

    name: str
    stages: Sequence[Stage]


@dataclass(frozen=True, eq=False)
class Result:
    """One system on one benchmark: `scores` per level, `seconds` per stage over all queries, and the `ranking` in
    benchmark rows, None when the result was read from a file.
    """

    system: str
    scores: Mapping[str, Scores]
    seconds: Mapping[str, float]
    ranking: Ranking | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one run gave: the results of a system and of its first stages alone, the whole system last.

    `protocol` says every choice, `protocol: uncropped` among them. `notes`: what a reader of the numbers must know.
    `seconds`: of preparing the features. `peak_memory`: bytes, the most this process has held. `benchmark`: with its
    distractors, None when the evaluation was read from a file. `memory_per_million`: bytes that searches would hold of
    a million photos like these; None where that is not known. `misses`: what it missed and why, where that was asked.
    """

    run: Run
    images: int
    queries: tuple[str, ...]
    checksum: str
    protocol: str
    results: tuple[Result, ...]
    notes: tuple[str, ...]
    seconds: float
    peak_memory: int
    benchmark: Benchmark | None = None
    memory_per_million: float | None = None
    misses: Misses | None = None

    @property
    def final(self) -> Result:
        """The result of the whole system."""
        return self.results[-1]


@dataclass(eq=False)
class _Node:
    """A stage in the tree of all systems: systems that begin alike share a path from the root."""

    name: str
    stage: Stage
    children: list[_Node] = field(default_factory=list)
    seconds: float = 0.0
    rankings: list[Ranking] = field(default_factory=list)


def evaluate_systems(task: Task, systems: Sequence[System], progress: Progress = silent) -> tuple[Result, ...]:
    """Rank all queries with every system and score the rankings: one `Result` per system, in their order.

    Peak memory: 12 bytes x queries x results per system, besides what stages need. Raises `UsageError` for a system
    without stages, results outside the benchmark and another number of queries, `ArrayError` for bad rankings.
    """
    roots: list[_Node] = []
    paths = [_path(roots, system) for system in systems]
    kept = {id(path[-1]) for path in paths}
    total, done, reading, mark = len(task.benchmark.queries), 0, 0.0, time.perf_counter()
    for batch in task.batches:
        reading += time.perf_counter() - mark
        _descend(roots, batch, None, kept)
        done += len(batch)
        progress("searching", done, total)
        mark = time.perf_counter()
    if done != total:
        raise UsageError(f"benchmark {task.benchmark.name} has {total} queries, {done} were searched")
    results = []
    for system, path in zip(systems, paths, strict=True):
        ranking = _in_benchmark(task, _joined(path[-1].rankings))
        seconds = {"reading queries": reading, **{node.name: node.seconds for node in path}}
        results.append(Result(system.name, task.benchmark.score(ranking.ids), seconds, ranking))
    return tuple(results)


def prefixes(stages: Sequence[Stage]) -> list[System]:
    """A pipeline cut after each of its stages, so that a table shows what every stage adds."""
    names = _stage_names(stages)
    return [System(name if i == 0 else f"+ {name}", stages[: i + 1]) for i, name in enumerate(names)]


def peak_memory() -> int:
    """The most memory this process has held so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _path(roots: list[_Node], system: System) -> list[_Node]:
    """The nodes of a system, found or made."""
    if not system.stages:
        raise UsageError(f"system {system.name} has no stages")
    path: list[_Node] = []
    level = roots
    for name, stage in zip(_stage_names(system.stages), system.stages, strict=True):
        node = next((known for known in level if known.stage is stage), None)
        if node is None:
            node = _Node(name, stage)
            level.append(node)
        path.append(node)
        level = node.children
    return path


def _stage_names(stages: Sequence[Stage]) -> list[str]:
    """Class or function names; a second stage of the same kind is numbered, since each is timed on its own."""
    names: list[str] = []
    for stage in stages:
        kind = str(getattr(stage, "name", "") or getattr(stage, "__name__", type(stage).__name__))
        count = sum(name == kind or name.startswith(f"{kind} ") for name in names)
        names.append(f"{kind} {count + 1}" if count else kind)
    return names


def _descend(nodes: list[_Node], queries: Queries, before: Ranking | None, kept: set[int]) -> None:
    for node in nodes:
        started = time.perf_counter()
        ranking = node.stage(queries, before)
        node.seconds += time.perf_counter() - started
        if len(ranking) != len(queries):
            raise UsageError(f"stage {node.name} gave {len(ranking)} rankings for {len(queries)} queries")
        if id(node) in kept:
            node.rankings.append(ranking)
        _descend(node.children, queries, ranking, kept)


def _joined(parts: Sequence[Ranking]) -> Ranking:
    """Rankings of consecutive queries as one, padded to the longest."""
    width = max((part.ids.shape[1] for part in parts), default=0)
    ids = np.full((sum(len(part) for part in parts), width), -1, np.int64)
    scores = np.full(ids.shape, -np.inf, np.float32)
    start = 0
    for part in parts:
        span = slice(start, start + len(part))
        ids[span, : part.ids.shape[1]], scores[span, : part.ids.shape[1]] = part.ids, part.scores
        start += len(part)
    return Ranking(ids, scores)


def _in_benchmark(task: Task, ranking: Ranking) -> Ranking:
    """The ranking with benchmark rows in place of database rows."""
    size = len(task.benchmark.images) if task.rows is None else len(task.rows)
    if ranking.ids.max(initial=-1) >= size:
        raise UsageError(f"a ranking of {task.benchmark.name} holds row {ranking.ids.max()} of {size}")
    if task.rows is None:
        return ranking
    ids = np.where(ranking.ids >= 0, np.append(task.rows, -1)[ranking.ids], -1)
    strangers = np.unique(ranking.ids[(ids < 0) & (ranking.ids >= 0)])
    if len(strangers):
        raise UsageError(f"{len(strangers)} photos were found that are not of benchmark {task.benchmark.name}")
    return Ranking(ids, ranking.scores)


def _as_yaml(value: Any) -> str:
    """A setting as `--set` reads it: JSON is YAML too."""
    return value if isinstance(value, str) else json.dumps(value)
