"""Published scores, how to measure them again, what that needs, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from resight.errors import UsageError
from resight.evaluation.experiment import Evaluation, Run, names_file
from resight.evaluation.results import scaled
from resight.training.orders import Ordered

CLOSE = 3.0  # tolerances within which a score that is not OK is close
MEMORY = "memory"  # a column that is not a score: 2^30 bytes for a million photos, which is what the papers call GB
Status = Literal["OK", "CLOSE", "FAIL", "MISSING"]
Aim = Literal["equal", "at least"]


@dataclass(frozen=True, eq=False)
class Cell:
    """One published score and how to measure it again.

    `run`: with paths relative to the data folder. `level`: of the benchmark's scores. `aim`: the score is to be met
    (`equal`) or to be reached (`at least`), within `tolerance` points. `needs`: relative paths without which it cannot
    run. `sources`: path -> where it comes from. `orders`: trainings that give some of what it needs.
    """

    table: str
    row: str
    column: str
    published: float
    tolerance: float
    aim: Aim
    source: str
    note: str
    run: Run
    level: str
    needs: tuple[str, ...]
    sources: Mapping[str, str]
    orders: tuple[Ordered, ...] = ()

    def at(self, data: Path) -> Run:
        """The run with the paths of a data folder."""
        names = ("path", "photos", "features", "query_features", "blend", "distractors")
        paths: dict[str, Any] = {
            name: str(data / value) for name in names if (value := getattr(self.run, name)) is not None
        }
        words = {kind: str(data / file) for kind, file in self.run.codebooks.items()}
        settings = {name: str(data / value) if names_file(name) else value for name, value in self.run.settings.items()}
        return replace(self.run, settings=settings, codebooks=words, **paths)


@dataclass(frozen=True, eq=False)
class PublishedTable:
    """A published table: its letter, title, source, column names in order, and cells row by row."""

    name: str
    title: str
    source: str
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, eq=False)
class Outcome:
    """The verdict on a cell: `measured` in the unit of the table, None when missing; `missing` says what and where to
    put it; `command` gives the number.
    """

    cell: Cell
    status: Status
    measured: float | None
    missing: tuple[str, ...]
    command: str


def select(tables: Sequence[PublishedTable], table: str | None, row: str | None) -> tuple[PublishedTable, ...]:
    """The tables, or one of them, or one row of it (by name, or a part of it), any case.

    Raises `UsageError` when there is none.
    """
    chosen = [t for t in tables if table is None or t.name.lower() == table.lower()]
    if not chosen:
        raise UsageError(f"there is no table {table!r}: choose among {', '.join(t.name for t in tables)}")
    if row is None:
        return tuple(chosen)
    exact = [cell for t in chosen for cell in t.cells if cell.row.lower() == row.lower()]
    cells = exact or [cell for t in chosen for cell in t.cells if row.lower() in cell.row.lower()]
    if not cells:
        names = ", ".join(dict.fromkeys(cell.row for t in chosen for cell in t.cells))
        raise UsageError(f"there is no row {row!r}: choose among {names}")
    kept = [replace(t, cells=tuple(cell for cell in t.cells if cell in cells)) for t in chosen]
    return tuple(t for t in kept if t.cells)


def missing_files(cell: Cell, data: Path) -> tuple[str, ...]:
    """What is not in the data folder, one sentence each: the file, where to put it, where it comes from. Of a file that
    can be trained, what the training lacks."""
    trained = {path: order for order in cell.orders for path in order.outputs}
    absent: dict[str, None] = {}
    for path in cell.needs:
        if not (data / path).exists():
            needed = trained[path].needs if path in trained else (path,)
            absent |= dict.fromkeys(one for one in needed if not (data / one).exists())
    return tuple(f"{data / path}" + (f" ({cell.sources[path]})" if path in cell.sources else "") for path in absent)


def judge(cell: Cell, evaluation: Evaluation) -> tuple[Status, float]:
    """Verdict and score of a finished run. Raises `UsageError` when its benchmark has no such level, or it measures no
    memory and that is asked for.

    OK: within the tolerance of the published score, or above it where the aim is `at least`. CLOSE: within three
    tolerances. The score is rounded to two decimals first, the most that the tables print.
    """
    measured = _measured(cell, evaluation)
    short = cell.published - round(measured, 2)
    off = max(short, 0.0) if cell.aim == "at least" else abs(short)
    slack = 1e-9  # decimal scores are not exact in binary
    if off <= cell.tolerance + slack:
        return "OK", measured
    return ("CLOSE" if off <= CLOSE * cell.tolerance + slack else "FAIL"), measured


def _measured(cell: Cell, evaluation: Evaluation) -> float:
    scores = evaluation.final.scores
    if cell.level == MEMORY:
        if evaluation.memory_per_million is None:
            raise UsageError(f"row {cell.row} asks for memory, which recipe {cell.run.recipe} does not measure here")
        return evaluation.memory_per_million / 2**30
    if cell.level not in scores:
        raise UsageError(f"row {cell.row} asks for level {cell.level!r}, {cell.run.benchmark} has {', '.join(scores)}")
    return scaled(scores[cell.level])


def reproduce_cell(cell: Cell, data: Path, measure: Callable[[Run], Evaluation]) -> Outcome:
    """The outcome of one cell. `measure` does the run and raises `UsageError` when that cannot be done here."""
    run = cell.at(data)
    missing = missing_files(cell, data)
    if missing:
        return Outcome(cell, "MISSING", None, missing, command_of(cell, data))
    try:
        status, measured = judge(cell, measure(run))
    except UsageError as error:
        return Outcome(cell, "MISSING", None, (str(error),), command_of(cell, data))
    return Outcome(cell, status, measured, (), command_of(cell, data))


def command_of(cell: Cell, data: Path) -> str:
    """The command lines that give the number: trainings first."""
    return " && ".join([*(order.command(data) for order in cell.orders), cell.at(data).command])


def printed(score: float) -> str:
    """A score with one decimal, or two where it has them."""
    return f"{score:.1f}" if abs(score - round(score, 1)) < 1e-9 else f"{score:.2f}"
