"""The commands `resight evaluate`, `benchmarks` and `reproduce`: read arguments, call the library, print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resight.cli import console

if TYPE_CHECKING:
    from resight.evaluation.experiment import Evaluation, Run
    from resight.evaluation.published import Outcome
    from resight.evaluation.significance import Comparison

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Cache = Annotated[Path | None, typer.Option(help="Where features are kept; else $RESIGHT_CACHE or ~/.cache/resight.")]
Data = Annotated[Path | None, typer.Option(help="The folder of data sets; else $RESIGHT_DATA or ./data.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (evaluate, benchmarks, reproduce):
        app.command()(command)


def evaluate(
    benchmark: Annotated[str, typer.Argument(metavar="BENCHMARK:PATH", help="As `resight benchmarks` lists them.")],
    recipe: Annotated[str | None, typer.Option(help="classic, gem, hybrid, ...; for --features: search, ...")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the recipe.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Network of a global descriptor, as for index.")] = None,
    weights: Annotated[str | None, typer.Option(help="Published checkpoint of a global descriptor.")] = None,
    photos: Annotated[str | None, typer.Option(help="The folder of the photos, where it is not PATH.")] = None,
    features: Annotated[str | None, typer.Option(help="Descriptors of the database, instead of photos.")] = None,
    query_features: Annotated[
        str | None, typer.Option(help="Descriptors of the queries, when in a second file.")
    ] = None,
    distractors: Annotated[str | None, typer.Option(help="A folder of photos, or a file of descriptors.")] = None,
    uncropped: Annotated[bool, typer.Option(help="Queries are whole photos although the benchmark crops.")] = False,
    stages: Annotated[int | None, typer.Option(help="Only the first stages of the recipe.", min=1)] = None,
    against: Annotated[Path | None, typer.Option(help="Compare with a result that --json printed.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with curves, worst and best queries.")] = None,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Score a recipe, or a file of descriptors, on a benchmark."""
    from resight.evaluation.evaluate import evaluate as run_evaluation
    from resight.evaluation.experiment import Run
    from resight.evaluation.results import compare_evaluations, read_evaluation

    with console.one_sentence():
        name, _, path = benchmark.partition(":")
        chosen = recipe or ("classic" if features is None else "search")
        run = Run(
            benchmark=name,
            path=path,
            recipe=chosen,
            settings={**settings(set_ or []), **_given(backbone=backbone, weights=weights)},
            photos=photos,
            features=features,
            query_features=query_features,
            distractors=distractors,
            uncropped=uncropped,
            stages=stages,
        )
        _need_folder(html)
        earlier = None if against is None else read_evaluation(against)
        with console.progress(json) as progress:
            evaluation = run_evaluation(run, cache=cache, progress=progress)
        comparisons = {} if earlier is None else compare_evaluations(evaluation, earlier)
        if html is not None:
            _write(html, _page(run, evaluation, comparisons))
        if json:
            _print_json(evaluation, comparisons)
            return
        _print_evaluation(evaluation, comparisons)
        if html is not None:
            console.say(f"page: {html}")


def benchmarks(data: Data = None, json: Json = False) -> None:
    """List the benchmarks that resight knows, and what of them is at hand."""
    from resight.evaluation.available import benchmarks_at_hand
    from resight.evaluation.ground_truth import KNOWN
    from resight.evaluation.reproduce import data_folder

    with console.one_sentence():
        folder = data_folder(data)
        found = {item.name: item for item in benchmarks_at_hand(folder)}
        rows = []
        for name, known in KNOWN.items():
            item = found.get(name)
            held = None if item is None else item.benchmark
            rows.append(
                {
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
            )
        if json:
            console.print_json(rows)
            return
        console.print_table(
            f"benchmarks (data in {folder})",
            ("name", "place", "at hand"),
            [(row["name"], _place(row, folder), _at_hand(row)) for row in rows],
        )
        console.say("resight evaluate NAME:PATH scores one; --json says what each needs, its licence and its source")


def reproduce(
    table: Annotated[str | None, typer.Argument(help="The letter of a table; all by default.")] = None,
    row: Annotated[str | None, typer.Argument(help="The name of a row, or a part of it.")] = None,
    data: Data = None,
    tables: Annotated[Path | None, typer.Option(help="A folder of your own tables, *.yaml.")] = None,
    html: Annotated[Path, typer.Option(help="Where the matrix is written.")] = Path("reproduction.html"),
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Measure published tables again: OK, CLOSE, FAIL, or MISSING with the files to get."""
    from resight.evaluation.matrix import matrix_page
    from resight.evaluation.published import read_tables, select
    from resight.evaluation.reproduce import data_folder, outcome_json
    from resight.evaluation.reproduce import reproduce as measure

    with console.one_sentence():
        _need_folder(html)
        chosen = select(read_tables(tables), table, row)
        outcomes = []
        total = sum(len(one.cells) for one in chosen)
        with console.progress(json) as progress:
            for outcome in measure(chosen, data_folder(data), cache=cache, progress=progress):
                outcomes.append(outcome)
                progress("scores", len(outcomes), total)
        _write(html, matrix_page(chosen, outcomes))
        if json:
            console.print_json([outcome_json(outcome) for outcome in outcomes])
        else:
            _print_outcomes(outcomes)
            console.say(f"matrix: {html}")
        if any(outcome.status == "FAIL" for outcome in outcomes):
            raise typer.Exit(1)


def settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`key=value` arguments; values as YAML writes them, so `false`, `8192` and `0.02` are what they look like."""
    import yaml

    from resight.errors import UsageError

    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair} is not of the form KEY=VALUE")
        try:
            values[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {pair}: {value!r} is no value, give a number, true or false") from error
    return values


def _given(**files: str | None) -> dict[str, Any]:
    return {name: path for name, path in files.items() if path is not None}


def _page(run: Run, evaluation: Evaluation, comparisons: Mapping[str, Comparison]) -> str:
    from resight.evaluation.evaluate import opened
    from resight.evaluation.page import evaluation_page
    from resight.evaluation.photos import shown_files

    return evaluation_page(evaluation, shown_files(run, opened(run)), comparisons)


def _write(path: Path, page: str) -> None:
    from resight.store.folder import write_atomic

    _need_folder(path)
    write_atomic(path, page.encode())


def _need_folder(path: Path | None) -> None:
    """Checked before the work as well: nobody should measure for an hour and then lose the page."""
    from resight.errors import UsageError

    if path is not None and not path.absolute().parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {path.absolute().parent}, make it first")


def _print_json(evaluation: Evaluation, comparisons: Mapping[str, Comparison]) -> None:
    from dataclasses import asdict

    from resight.evaluation.results import evaluation_json

    content = evaluation_json(evaluation)
    if comparisons:
        content["comparison"] = {level: asdict(comparison) for level, comparison in comparisons.items()}
    console.print_json(content)


def _print_evaluation(evaluation: Evaluation, comparisons: Mapping[str, Comparison]) -> None:
    from resight.evaluation.results import milliseconds

    run, scores = evaluation.run, evaluation.final.scores
    names = [
        ("N-S" if s.metric == "N-S" else "mAP") + ("" if len(scores) == 1 else f" {level}")
        for level, s in scores.items()
    ]
    at = [(level, i, k) for level, s in scores.items() for i, k in enumerate(s.at)]
    columns = [
        "stages",
        *names,
        *(f"mP@{k}{'' if len(scores) == 1 else ' ' + level}" for level, _, k in at),
        "ms a query",
    ]
    rows = []
    for result in evaluation.results:
        means = [f"{one.map:.3f}" for one in result.scores.values()]
        means += [f"{result.scores[level].mp_at[i]:.3f}" for level, i, _ in at]
        rows.append((result.system, *means, milliseconds(result, len(evaluation.queries))))
    console.print_table(f"{run.recipe} on {run.benchmark}", columns, rows)
    console.say(f"protocol: {evaluation.protocol}")
    console.say(
        f"{evaluation.images} images, {len(evaluation.queries)} queries; features in {evaluation.seconds:.1f} s"
    )
    for level, one in scores.items():
        if one.empty:
            console.say(
                f"{one.empty} queries without positives{'' if len(scores) == 1 else f' ({level})'} are left out"
            )
    for note in evaluation.notes:
        console.say(f"note: {note}")
    for level, c in comparisons.items():
        console.say(
            f"{level}: {c.difference:+.4f} against the earlier result, 95 % between {c.low:+.4f} and {c.high:+.4f}, "
            f"p = {c.p_value:.3g} ({c.queries} queries)"
        )


def _place(row: Mapping[str, Any], folder: Path) -> str:
    """Where the files lie, or are to be put, below the data folder; what PATH is for your own photos."""
    place = row["path"] or row["place"]
    return str(row["needs"]) if place is None else Path(place).relative_to(folder).as_posix()


def _at_hand(row: Mapping[str, Any]) -> str:
    if row["problem"]:
        return str(row["problem"])
    if row["path"] is None:
        return "your photos" if row["place"] is None else "no"
    photos = "all photos" if row["photos"] == row["images"] else f"{row['photos']} photos"
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
    missing: dict[str, int] = {}
    for outcome in outcomes:
        for what in outcome.missing:
            missing[what] = missing.get(what, 0) + 1
    for what, scores in missing.items():
        console.say(f"missing for {scores} score{'s' if scores > 1 else ''}: {what}")
    counts = {status: sum(o.status == status for o in outcomes) for status in ("OK", "CLOSE", "FAIL", "MISSING")}
    console.say(", ".join(f"{count} {status}" for status, count in counts.items()))
