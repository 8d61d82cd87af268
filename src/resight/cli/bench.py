"""The commands `bench list`, `bench compare`, `bench study` and `bench reproduce`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resight.cli import console, options
from resight.errors import UsageError

if TYPE_CHECKING:
    from resight.evaluation.available import AtHand
    from resight.evaluation.ground_truth import KnownBenchmark
    from resight.evaluation.published import Outcome
    from resight.progress import Progress
    from resight.training.orders import Ordered

FORMATS = ("table", "json", "csv", "markdown", "latex")

app = typer.Typer(
    help="List the benchmarks, compare systems on them, and measure published tables again.", no_args_is_help=True
)


def register(root: typer.Typer) -> None:
    """Add the commands to `root`."""
    root.add_typer(app, name="bench")


@app.command("list")
def list_(data: options.Data = None, json: options.Json = False) -> None:
    """List the benchmarks that resight knows, and which are available locally."""
    from resight.evaluation.available import benchmarks_at_hand
    from resight.evaluation.ground_truth import KNOWN
    from resight.evaluation.reproduce import data_folder

    folder = data_folder(data)
    with console.waiting(f"looking through {folder}", json):
        found = {item.name: item for item in benchmarks_at_hand(folder)}
    rows = [_described(name, known, found.get(name), folder) for name, known in KNOWN.items()]
    if json:
        console.print_json(rows)
        return
    console.print_table(
        f"benchmarks (data in {folder})",
        ("name", "place", "available"),
        [(row["name"], _place(row, folder), _available(row)) for row in rows],
    )
    console.say("resight evaluate NAME:PATH scores one; --json says what each needs, its licence and its source")


@app.command()
def compare(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.yaml", help="The experiment: `benchmarks`, `systems`, perhaps a `baseline`.")
    ],
    form: Annotated[
        str,
        typer.Option("--format", metavar="FORMAT", help="Format of the table: table, json, csv, markdown or latex."),
    ] = "table",
    cache: options.Cache = None,
    json: options.Json = False,
) -> None:
    """Score several systems on several benchmarks; finished ones are not measured again."""
    from resight.evaluation import results
    from resight.evaluation.evaluate import experiment as measure
    from resight.evaluation.experiment_file import read_experiment

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
    console.say_lines(writers.get(chosen, results.table_markdown)(table))


@app.command()
def study(
    benchmark: Annotated[str, typer.Argument(metavar="BENCHMARK:PATH", help="A benchmark as `evaluate` takes it.")],
    vary: Annotated[
        str, typer.Option("--vary", metavar="KEY=[A,B,...]", help="The setting of the recipe and its values.")
    ],
    recipe: Annotated[str, typer.Option(metavar="NAME", help="What is scored, as for `evaluate`.")],
    features: Annotated[
        str | None, typer.Option(metavar="FILE", help="Descriptors of the database, in place of photos.")
    ] = None,
    set_: options.Set = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.png", help="Draw the score over the setting into this file.")
    ] = None,
    time: Annotated[
        Path | None, typer.Option("--time", metavar="FILE.png", help="Draw the seconds over the setting into this one.")
    ] = None,
    cache: options.Cache = None,
    json: options.Json = False,
) -> None:
    """Score a recipe with several values of one setting, such as the layers of a network, and time it."""
    from resight.evaluation.experiment import Run
    from resight.evaluation.study import run_study
    from resight.reports.files import need_folder
    from resight.store.folder import write_atomic

    for path in (out, time):
        need_folder(path)
    name, _, place = benchmark.partition(":")
    (varied,) = options.settings([vary]).items()
    run = Run(benchmark=name, path=place, recipe=recipe, settings=options.settings(set_), features=features)
    with console.progress(json) as progress:
        found = run_study(run, *varied, cache=cache, progress=progress)
    for path, figure in ((out, found.score_figure), (time, found.time_figure)):
        if path is not None:
            write_atomic(path, figure())
    if json:
        console.print_json({"setting": found.name, "scores": found.scores, "seconds": found.seconds})
        return
    rows = [
        (f"{value:g}", *(f"{points[i][1]:.1f}" for points in found.scores.values()), f"{found.seconds[i][1]:.2f}")
        for i, value in enumerate(found.values)
    ]
    levels = ["mAP" if level == "plain" else level for level in found.scores]
    console.print_table(f"{recipe} on {name}", (found.name, *levels, "seconds"), rows)


@app.command()
def reproduce(
    table: Annotated[str | None, typer.Argument(help="The letter of a table; all by default.")] = None,
    row: Annotated[str | None, typer.Argument(help="The name of a row, or a part of it; all by default.")] = None,
    data: options.Data = None,
    tables: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Measure your own tables, *.yaml in this folder.")
    ] = None,
    report: options.Report = Path("reproduction.html"),
    cache: options.Cache = None,
    json: options.Json = False,
) -> None:
    """Measure published tables again: OK, CLOSE, FAIL, or MISSING with the files to get. Networks that nobody
    published are trained first, where their data is."""
    from resight.evaluation.matrix import matrix_page
    from resight.evaluation.published import select
    from resight.evaluation.published_file import read_tables
    from resight.evaluation.reproduce import data_folder, outcome_json
    from resight.evaluation.reproduce import reproduce as measure
    from resight.reports.files import need_folder, write_page

    need_folder(report)
    chosen = select(read_tables(tables), table, row)
    outcomes = []
    total = sum(len(one.cells) for one in chosen)
    with console.progress(json) as progress:
        progress("scores", 0, total)
        for outcome in measure(chosen, data_folder(data), cache=cache, train=_train, progress=progress):
            outcomes.append(outcome)
            progress("scores", len(outcomes), total)
    if report is not None:
        write_page(report, matrix_page(chosen, outcomes))
    if json:
        console.print_json([outcome_json(outcome) for outcome in outcomes])
    else:
        _print_outcomes(outcomes)
        console.say(f"report: {report}")
    if any(outcome.status == "FAIL" for outcome in outcomes):
        raise typer.Exit(1)


def _train(order: Ordered, data: Path, progress: Progress) -> None:
    """Only rows that are trained need torch."""
    from resight.fitting.ordered import train_ordered

    train_ordered(order, data, progress)


def _described(name: str, known: KnownBenchmark, item: AtHand | None, folder: Path) -> dict[str, Any]:
    """One benchmark for machines: what it needs, and what of that lies in the data folder."""
    held = None if item is None else item.benchmark
    return {
        "name": name,
        "title": known.title,
        "needs": known.files,
        "protocol": str(known.protocol),
        "licence": known.licence,
        "source": known.source,
        "place": None if item is None else str(folder / item.expected),
        "path": None if item is None or item.path is None else str(item.path),
        "images": None if held is None else len(held.images),
        "queries": None if held is None else len(held.queries),
        "photos": 0 if item is None else item.photos,
        "problem": "" if item is None else item.problem,
    }


def _place(row: Mapping[str, Any], folder: Path) -> str:
    """Where the files lie, or are to be put, below the data folder; what PATH is for your own photos."""
    place = row["path"] or row["place"]
    return str(row["needs"]) if place is None else Path(place).relative_to(folder).as_posix()


def _available(row: Mapping[str, Any]) -> str:
    if row["problem"]:
        return str(row["problem"])
    if row["path"] is None:
        return "your photos" if row["place"] is None else "no"
    photos = "all photos" if row["photos"] == row["images"] else console.count(row["photos"], "photo")
    return f"{row['queries']} queries, {row['images']} images, {photos}"


def _print_outcomes(outcomes: Sequence[Outcome]) -> None:
    from resight.evaluation.published import printed

    rows = [
        (
            o.cell.table,
            o.cell.row,
            o.cell.column,
            f"{'>= ' if o.cell.aim == 'at least' else ''}{printed(o.cell.published)}",
            "" if o.measured is None else printed(round(o.measured, 2)),
            o.status,
        )
        for o in outcomes
    ]
    console.print_table("", ("table", "row", "column", "published", "measured", "status"), rows)
    missing = Counter(what for outcome in outcomes for what in outcome.missing)
    for what, scores in missing.items():
        console.say(f"missing for {console.count(scores, 'score')}: {what}")
    counts = {status: sum(o.status == status for o in outcomes) for status in ("OK", "CLOSE", "FAIL", "MISSING")}
    console.say(", ".join(f"{count} {status}" for status, count in counts.items()))
