"""The command `resight experiment`: systems x benchmarks from a YAML file, as one table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resight.cli import console

if TYPE_CHECKING:
    from resight.evaluation.experiment import Run

KEYS = {"benchmarks", "systems", "baseline"}
SYSTEM_KEYS = {"recipe", "settings", "photos", "features", "query_features", "distractors", "uncropped", "stages"}
FORMATS = ("table", "json", "csv", "markdown", "latex")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(experiment)


def experiment(
    file: Annotated[Path, typer.Argument(help="A YAML file with `benchmarks`, `systems` and optionally `baseline`.")],
    form: Annotated[str, typer.Option("--format", help="table, json, csv, markdown or latex.")] = "table",
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Where features and finished runs are kept.")] = None,
) -> None:
    """Score several systems on several benchmarks; finished ones are not measured again."""
    from resight.errors import UsageError
    from resight.evaluation import results
    from resight.evaluation.evaluate import experiment as measure

    with console.one_sentence():
        chosen = "json" if json else form
        if chosen not in FORMATS:
            raise UsageError(f"--format {form} is unknown: choose one of {', '.join(FORMATS)}")
        runs, baseline = read_experiment(file)
        with console.progress(chosen != "table") as progress:
            table = measure(runs, baseline=baseline, cache=cache, progress=progress)
        if chosen == "json":
            console.print_json(results.table_json(table))
            return
        writers = {"csv": results.table_csv, "latex": results.table_latex}
        console.say(writers.get(chosen, results.table_markdown)(table))


def read_experiment(path: Path) -> tuple[dict[str, list[Run]], str | None]:
    """Label -> the runs of that system, one per benchmark, and the label of the baseline.

    `{benchmark}` in the paths of a system stands for the name of each benchmark. Raises `UsageError`, naming the file,
    for anything else than such an experiment.
    """
    import yaml

    from resight.errors import UsageError

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read as an experiment: {error}") from error
    _check_keys(path, "the file", content, KEYS, {"benchmarks", "systems"})
    benchmarks, systems = content["benchmarks"], content["systems"]
    if not isinstance(benchmarks, list) or not all(isinstance(b, str) and ":" in b for b in benchmarks):
        raise UsageError(f"{path}: benchmarks must be a list of NAME:PATH")
    _check_keys(path, "systems", systems, None, set())
    runs = {str(label): [_run(path, str(label), one, b) for b in benchmarks] for label, one in systems.items()}
    baseline = content.get("baseline")
    return runs, None if baseline is None else str(baseline)


def _run(path: Path, label: str, system: Any, benchmark: str) -> Run:
    from resight.evaluation.experiment import Run

    _check_keys(path, f"system {label}", system, SYSTEM_KEYS, {"recipe"})
    name, _, place = benchmark.partition(":")
    options: dict[str, Any] = {
        key: value.format(benchmark=name) if isinstance(value, str) else value
        for key, value in system.items()
        if value is not None
    }
    return Run(benchmark=name, path=place, **options)


def _check_keys(path: Path, what: str, value: Any, known: set[str] | None, needed: set[str]) -> None:
    from resight.errors import UsageError

    if not isinstance(value, Mapping) or not value:
        raise UsageError(f"{path}: {what} must be a mapping that holds something")
    if known is not None and (wrong := sorted(set(map(str, value)) - known)):
        raise UsageError(f"{path}: {what} has the unknown key {wrong[0]!r}: it may have {', '.join(sorted(known))}")
    if absent := sorted(needed - set(value)):
        raise UsageError(f"{path}: {what} lacks {absent[0]!r}")
