"""Published tables as YAML files: what was claimed, how to measure it again, what that needs, and the verdict.

A file holds `table`, `title`, `source`, `tolerance`, `columns`, `rows` and `files`. A column names a benchmark, its
`path`, the `level` of the score, and optionally `photos` and `distractors`. A row has a `name`, a `recipe`, its
`settings`, optionally `features`, `query_features` and `distractors` (files of descriptors), the number of `stages`
that count, what else it `needs`, and `published` scores per column. All paths, those in settings (`FILE_SETTINGS`)
among them, are relative to one data folder; `{benchmark}` in a path stands for the column's benchmark. `files` says
where a file comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from resight.errors import UsageError
from resight.evaluation.experiment import Evaluation, Run
from resight.evaluation.experiment_file import named
from resight.evaluation.ground_truth import KNOWN
from resight.evaluation.results import scaled
from resight.recipes.settings import MODEL_FILES
from resight.regular_files import open_regular
from resight.safe_yaml import read_yaml

FILE_SETTINGS = (*MODEL_FILES, "index_lists", "query_lists")  # settings that name a file
MOST = 1e6  # of any number in a table
CLOSE = 3.0  # tolerances within which a score that is not OK is close
MEMORY = "memory"  # a column that is not a score: GB for a million photos
Status = Literal["OK", "CLOSE", "FAIL", "MISSING"]
Aim = Literal["equal", "at least"]

TABLE_KEYS = {"table", "title", "source", "tolerance", "columns", "rows", "files"}
COLUMN_KEYS = {"benchmark", "path", "level", "photos", "distractors"}
ROW_KEYS = {"name", "recipe", "settings", "features", "query_features", "published", "tolerance", "aim", "stages"}
ROW_KEYS |= {"source", "note", "needs", "distractors"}


@dataclass(frozen=True, eq=False)
class Cell:
    """One published score and how to measure it again.

    `run`: with paths relative to the data folder. `level`: of the benchmark's scores. `aim`: the score is to be met
    (`equal`) or to be reached (`at least`), within `tolerance` points. `needs`: relative paths without which it cannot
    run. `sources`: path -> where it comes from.
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

    def at(self, data: Path) -> Run:
        """The run with the paths of a data folder."""
        names = ("path", "photos", "features", "query_features", "distractors")
        paths: dict[str, Any] = {
            name: str(data / value) for name in names if (value := getattr(self.run, name)) is not None
        }
        settings = {
            name: str(data / value) if name in FILE_SETTINGS else value for name, value in self.run.settings.items()
        }
        return replace(self.run, settings=settings, **paths)


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


def read_tables(folder: Path | None = None) -> tuple[PublishedTable, ...]:
    """All tables in a folder of YAML files, by name; None: those that come with resight.

    Raises `UsageError`, naming the file, for anything that is not such a table.
    """
    root = files("resight.evaluation").joinpath("tables") if folder is None else folder
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder of tables")
    found = sorted((file for file in root.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    tables = []
    for file in found:
        try:
            with open_regular(file) if isinstance(file, Path) else file.open("rb") as opened:
                tables.append(parse_table(read_yaml(opened)))
        except (OSError, ValueError, UsageError) as error:
            raise UsageError(f"{file} is not a table to reproduce: {error}") from error
    if not tables:
        raise UsageError(f"{root} holds no tables: files *.yaml are needed")
    return tuple(tables)


def parse_table(content: Any) -> PublishedTable:
    """A table out of what YAML gives. Raises `UsageError` on unknown or absent keys, and on wrong kinds of values."""
    _keys("a table", content, TABLE_KEYS, {"table", "title", "source", "tolerance", "columns", "rows"})
    columns = {str(name): _column(str(name), value) for name, value in _mapping("columns", content["columns"]).items()}
    sources = {str(path): str(where) for path, where in _mapping("files", content.get("files") or {}).items()}
    if not isinstance(content["rows"], list):
        raise UsageError("rows must be a list")
    cells: list[Cell] = []
    for row in content["rows"]:
        cells += _row(content, columns, sources, row)
    table = PublishedTable(
        str(content["table"]), str(content["title"]), str(content["source"]), tuple(columns), tuple(cells)
    )
    keys = [(cell.row, cell.column) for cell in cells]
    if len(set(keys)) < len(keys):
        raise UsageError(f"table {table.name} has two rows of one name")
    return table


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
    """What is not in the data folder, one sentence each: the file, where to put it, where it comes from."""
    absent = [path for path in cell.needs if not (data / path).exists()]
    return tuple(f"{data / path}" + (f" ({cell.sources[path]})" if path in cell.sources else "") for path in absent)


def judge(cell: Cell, evaluation: Evaluation) -> tuple[Status, float]:
    """Verdict and score of a finished run. Raises `UsageError` when its benchmark has no such level.

    OK: within the tolerance of the published score, or above it where the aim is `at least`. CLOSE: within three
    tolerances. The score is rounded to two decimals first, the most that the tables print.
    """
    scores = evaluation.final.scores
    if cell.level not in scores:
        raise UsageError(f"row {cell.row} asks for level {cell.level!r}, {cell.run.benchmark} has {', '.join(scores)}")
    measured = scaled(scores[cell.level])
    short = cell.published - round(measured, 2)
    off = max(short, 0.0) if cell.aim == "at least" else abs(short)
    slack = 1e-9  # decimal scores are not exact in binary
    if off <= cell.tolerance + slack:
        return "OK", measured
    return ("CLOSE" if off <= CLOSE * cell.tolerance + slack else "FAIL"), measured


def reproduce_cell(cell: Cell, data: Path, measure: Callable[[Run], Evaluation]) -> Outcome:
    """The outcome of one cell. `measure` does the run and raises `UsageError` when that cannot be done here."""
    run = cell.at(data)
    missing = missing_files(cell, data)
    if missing:
        return Outcome(cell, "MISSING", None, missing, run.command)
    if cell.level == MEMORY:
        return Outcome(cell, "MISSING", None, ("no run of this version measures memory for a million photos",), "")
    try:
        status, measured = judge(cell, measure(run))
    except UsageError as error:
        return Outcome(cell, "MISSING", None, (str(error),), run.command)
    return Outcome(cell, status, measured, (), run.command)


def printed(score: float) -> str:
    """A score with one decimal, or two where it has them."""
    return f"{score:.1f}" if abs(score - round(score, 1)) < 1e-9 else f"{score:.2f}"


def _row(table: Any, columns: Mapping[str, dict[str, str]], sources: Mapping[str, str], row: Any) -> list[Cell]:
    _keys("a row", row, ROW_KEYS, {"name", "recipe", "published"})
    what = f"row {row['name']}"
    published = _mapping(f"published scores of {what}", row["published"])
    cells = []
    for column, score in published.items():
        if column not in columns:
            raise UsageError(f"{what} has a score in column {column!r}, which the table does not have")
        run = _run(what, row, columns[column])
        files_needed = (run.path, run.photos, run.features, run.query_features, run.distractors)
        extra = [*_files_of(run), *_needs(what, row.get("needs"), run.benchmark)]
        cells.append(
            Cell(
                table=str(table["table"]),
                row=str(row["name"]),
                column=str(column),
                published=_number(what, score),
                tolerance=_number(what, row.get("tolerance", table["tolerance"])),
                aim=_aim(what, row.get("aim", "equal")),
                source=str(row.get("source", table["source"])),
                note=str(row.get("note", "")),
                run=run,
                level=columns[column]["level"],
                needs=tuple(dict.fromkeys([path for path in files_needed if path is not None] + extra)),
                sources=sources,
            )
        )
    return cells


def _run(what: str, row: Mapping[str, Any], column: Mapping[str, str]) -> Run:
    def at(key: str) -> str | None:
        return None if row.get(key) is None else named(_text(f"{key} of {what}", row[key]), column["benchmark"])

    features = at("features")
    distractors = None
    if "distractors" in column:
        distractors = column["distractors"] if features is None else at("distractors")
    run = Run(
        benchmark=column["benchmark"],
        path=column["path"],
        recipe=str(row["recipe"]),
        settings=_settings(what, row.get("settings") or {}, column["benchmark"]),
        photos=column.get("photos") if features is None else None,
        features=features,
        query_features=at("query_features"),
        distractors=distractors,
        stages=None if row.get("stages") is None else _stages(what, row["stages"]),
    )
    if "distractors" in column and distractors is None:
        raise UsageError(f"{what} has a score with distractors and names no file of their descriptors")
    for path in (run.path, run.photos, run.features, run.query_features, run.distractors, *_files_of(run)):
        _inside(what, path)
    return run


def _settings(what: str, value: Any, benchmark: str) -> dict[str, Any]:
    """Settings of a row; `{benchmark}` in those that name a file stands for the column's benchmark."""
    settings = {str(name): setting for name, setting in _mapping(f"settings of {what}", value).items()}
    paths = {n: named(_text(f"{n} of {what}", settings[n]), benchmark) for n in FILE_SETTINGS if n in settings}
    return {**settings, **paths}


def _files_of(run: Run) -> list[str]:
    """The files that settings of a run name."""
    return [run.settings[name] for name in FILE_SETTINGS if name in run.settings]


def _needs(what: str, value: Any, benchmark: str) -> list[str]:
    """What a row needs besides, below the data folder."""
    if not isinstance(value, list | None):
        raise UsageError(f"needs of {what} must be a list of paths")
    paths = [named(_text(f"needs of {what}", path), benchmark) for path in value or ()]
    for path in paths:
        _inside(what, path)
    return paths


def _column(name: str, value: Any) -> dict[str, str]:
    _keys(f"column {name}", value, COLUMN_KEYS, {"benchmark", "path"})
    if _text(f"benchmark of column {name}", value["benchmark"]) not in KNOWN:
        raise UsageError(f"column {name} is on benchmark {value['benchmark']!r}, which is not known")
    given = {key: _text(f"{key} of column {name}", item) for key, item in value.items() if item is not None}
    return {"level": "plain", **given}


def _inside(what: str, path: str | None) -> None:
    """Tables come from anyone: a path of theirs must not leave the data folder."""
    if path is not None and (PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts):
        raise UsageError(f"{what} names {path}, which is not inside the data folder")


def _keys(what: str, value: Any, known: set[str], needed: set[str]) -> None:
    _mapping(what, value)
    if wrong := sorted(map(str, set(value) - known)):
        raise UsageError(f"{what} has the unknown keys {', '.join(wrong)}")
    if absent := sorted(needed - set(value)):
        raise UsageError(f"{what} lacks {', '.join(absent)}")


def _mapping(what: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{what} must be a mapping, not {type(value).__name__}")
    return value


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{what} is {str(value)[:60]}, which must be text, in quotes if need be")
    return value


def _number(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MOST:
        raise UsageError(f"{what} has {repr(value)[:60]} where a number is needed")
    return float(value)


def _stages(what: str, value: Any) -> int:
    if int(_number(what, value)) != value or value < 1:
        raise UsageError(f"{what} has stages {value!r}: 1 or more whole stages of its recipe count")
    return int(value)


def _aim(what: str, value: Any) -> Aim:
    if value not in ("equal", "at least"):
        raise UsageError(f"{what} has aim {value!r}: it is 'equal' or 'at least'")
    return "equal" if value == "equal" else "at least"
