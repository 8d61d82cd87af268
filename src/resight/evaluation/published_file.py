"""Published tables (`resight.evaluation.published`) out of YAML files.

A file holds `table`, `title`, `source`, `tolerance`, `columns`, `rows` and `files`. A column names a benchmark, its
`path`, the `level` of the score, and optionally `photos` and `distractors`. A row has a `name`, a `recipe`, its
`settings`, `benchmarks` with settings for single ones, optionally the recipe `index` of the photos, `features`,
`query_features`, `blend` and `distractors` (files of descriptors), a `codebook` learnt on other photos (a file, or
KIND=FILE), the number of `stages` that count, what else it `needs`, and `published` scores per column. All paths, those
in settings (`FILE_SETTINGS`) among them, are relative to one data folder; `{benchmark}` in a path stands for the
column's benchmark. `files` says where a file comes from, and `trainings` how one is trained here (`published_orders`).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from resight.collection.codebooks import codebook_file
from resight.errors import UsageError
from resight.evaluation.experiment import Run, names_file
from resight.evaluation.experiment_file import named
from resight.evaluation.ground_truth import KNOWN
from resight.evaluation.published import Aim, Cell, PublishedTable
from resight.evaluation.published_orders import read_orders, read_similarities
from resight.evaluation.table_checks import inside, keys, mapping, number, text
from resight.regular_files import open_regular
from resight.safe_yaml import read_yaml
from resight.training.orders import Ordered

TABLE_KEYS = {"table", "title", "source", "tolerance", "columns", "rows", "files", "trainings", "similarities"}
COLUMN_KEYS = {"benchmark", "path", "level", "photos", "distractors"}
ROW_KEYS = {"name", "recipe", "settings", "features", "query_features", "blend", "published", "tolerance", "aim"}
ROW_KEYS |= {"index", "benchmarks", "stages", "source", "note", "needs", "distractors", "codebook"}


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
    keys("a table", content, TABLE_KEYS, {"table", "title", "source", "tolerance", "columns", "rows"})
    columns = {str(name): _column(str(name), value) for name, value in mapping("columns", content["columns"]).items()}
    sources = {str(path): str(where) for path, where in mapping("files", content.get("files") or {}).items()}
    if not isinstance(content["rows"], list):
        raise UsageError("rows must be a list")
    orders = read_orders(content.get("trainings") or {}) | read_similarities(content.get("similarities") or {})
    cells: list[Cell] = []
    for row in content["rows"]:
        cells += _row(content, columns, sources, orders, row)
    table = PublishedTable(
        str(content["table"]), str(content["title"]), str(content["source"]), tuple(columns), tuple(cells)
    )
    places = [(cell.row, cell.column) for cell in cells]
    if len(set(places)) < len(places):
        raise UsageError(f"table {table.name} has two rows of one name")
    return table


def _row(
    table: Any,
    columns: Mapping[str, dict[str, str]],
    sources: Mapping[str, str],
    orders: Mapping[str, Ordered],
    row: Any,
) -> list[Cell]:
    keys("a row", row, ROW_KEYS, {"name", "recipe", "published"})
    what = f"row {row['name']}"
    published = mapping(f"published scores of {what}", row["published"])
    cells = []
    for column, score in published.items():
        if column not in columns:
            raise UsageError(f"{what} has a score in column {column!r}, which the table does not have")
        run = _run(what, row, columns[column])
        files_needed = (run.path, run.photos, run.features, run.query_features, run.blend, run.distractors)
        extra = [*_files_of(run), *_needs(what, row.get("needs"), run.benchmark)]
        cells.append(
            Cell(
                table=str(table["table"]),
                row=str(row["name"]),
                column=str(column),
                published=number(what, score),
                tolerance=number(what, row.get("tolerance", table["tolerance"])),
                aim=_aim(what, row.get("aim", "equal")),
                source=str(row.get("source", table["source"])),
                note=str(row.get("note", "")),
                run=run,
                level=columns[column]["level"],
                needs=tuple(dict.fromkeys([path for path in files_needed if path is not None] + extra)),
                sources=sources,
                orders=tuple({orders[path].out: orders[path] for path in _files_of(run) if path in orders}.values()),
            )
        )
    return cells


def _run(what: str, row: Mapping[str, Any], column: Mapping[str, str]) -> Run:
    def at(key: str) -> str | None:
        return None if row.get(key) is None else named(text(f"{key} of {what}", row[key]), column["benchmark"])

    features, words = at("features"), at("codebook")
    distractors = None
    if "distractors" in column:
        distractors = column["distractors"] if features is None else at("distractors")
    run = Run(
        benchmark=column["benchmark"],
        path=column["path"],
        recipe=str(row["recipe"]),
        settings=_settings(what, _of_benchmark(what, row, column["benchmark"]), column["benchmark"]),
        index=None if row.get("index") is None else text(f"index of {what}", row["index"]),
        photos=column.get("photos") if features is None else None,
        features=features,
        query_features=at("query_features"),
        blend=at("blend"),
        distractors=distractors,
        stages=None if row.get("stages") is None else _stages(what, row["stages"]),
        codebooks={} if words is None else dict([codebook_file(words)]),
    )
    if "distractors" in column and distractors is None:
        raise UsageError(f"{what} has a score with distractors and names no file of their descriptors")
    for path in (run.path, run.photos, run.features, run.query_features, run.blend, run.distractors, *_files_of(run)):
        inside(what, path)
    return run


def _of_benchmark(what: str, row: Mapping[str, Any], benchmark: str) -> dict[str, Any]:
    """The settings of a row, with those that it has for this benchmark alone."""
    own = mapping(f"benchmarks of {what}", row.get("benchmarks") or {})
    for name in own:
        if name not in KNOWN:
            raise UsageError(f"{what} has settings for the unknown benchmark {name!r}")
    return {
        **mapping(f"settings of {what}", row.get("settings") or {}),
        **mapping(f"settings of {what} for {benchmark}", own.get(benchmark) or {}),
    }


def _settings(what: str, value: Any, benchmark: str) -> dict[str, Any]:
    """Settings of a row; `{benchmark}` in those that name a file stands for the column's benchmark."""
    settings = {str(name): setting for name, setting in mapping(f"settings of {what}", value).items()}
    paths = {n: named(text(f"{n} of {what}", settings[n]), benchmark) for n in settings if names_file(n)}
    return {**settings, **paths}


def _files_of(run: Run) -> list[str]:
    """The files that settings of a run name, and its codebooks."""
    return [*run.setting_files, *run.codebooks.values()]


def _needs(what: str, value: Any, benchmark: str) -> list[str]:
    """What a row needs besides, below the data folder."""
    if not isinstance(value, list | None):
        raise UsageError(f"needs of {what} must be a list of paths")
    paths = [named(text(f"needs of {what}", path), benchmark) for path in value or ()]
    for path in paths:
        inside(what, path)
    return paths


def _column(name: str, value: Any) -> dict[str, str]:
    keys(f"column {name}", value, COLUMN_KEYS, {"benchmark", "path"})
    if text(f"benchmark of column {name}", value["benchmark"]) not in KNOWN:
        raise UsageError(f"column {name} is on benchmark {value['benchmark']!r}, which is not known")
    given = {key: text(f"{key} of column {name}", item) for key, item in value.items() if item is not None}
    return {"level": "plain", **given}


def _stages(what: str, value: Any) -> int:
    if int(number(what, value)) != value or value < 1:
        raise UsageError(f"{what} has stages {value!r}: 1 or more whole stages of its recipe count")
    return int(value)


def _aim(what: str, value: Any) -> Aim:
    if value not in ("equal", "at least"):
        raise UsageError(f"{what} has aim {value!r}: it is 'equal' or 'at least'")
    return "equal" if value == "equal" else "at least"
