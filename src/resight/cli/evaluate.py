"""The command `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resight.cli import console, options

if TYPE_CHECKING:
    from resight.evaluation.experiment import Evaluation, Run
    from resight.evaluation.metrics import Scores
    from resight.evaluation.significance import Comparison

OPENING = "opening the benchmark"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(evaluate)


def evaluate(
    benchmark: Annotated[
        str,
        typer.Argument(metavar="BENCHMARK:PATH", help="A benchmark that `bench list` prints, and where its files lie."),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What is scored: classic by default, gem, ...; with --features: search, ..."),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="How photos are described for a recipe that searches what others indexed: gem, ..."
        ),
    ] = None,
    set_: options.Set = None,
    backbone: options.Backbone = None,
    weights: options.Weights = None,
    second: options.Second = None,
    codebook: options.Codebooks = None,
    photos: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="The folder of the photos, where it is not PATH.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Descriptors of the database, which are searched in place of photos."),
    ] = None,
    query_features: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Descriptors of the queries, when they are in a file of their own."),
    ] = None,
    lists: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Ranked lists of another tool, lines of query and image, which are scored as they are."
        ),
    ] = None,
    blend: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Further descriptors of all: they stand side by side with the first."),
    ] = None,
    distractors: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="A folder of photos, or a file of descriptors, to search among, too."),
    ] = None,
    uncropped: Annotated[
        bool, typer.Option("--uncropped", help="Search with whole photos, although the benchmark crops its queries.")
    ] = False,
    stages: Annotated[
        int | None, typer.Option(metavar="N", help="Number of stages of the recipe that run; all by default.", min=1)
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Compare with a result that --json printed earlier.")
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Write the first 100 results of every query as lines id,images, too."),
    ] = None,
    report: options.Report = None,
    failures: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Write a page of the right photos that were missed, with their causes and matched features.",
        ),
    ] = None,
    cache: options.Cache = None,
    json: options.Json = False,
) -> None:
    """Score a recipe, a file of descriptors, or ranked lists on a benchmark."""
    with console.waiting(console.first_word(f"opening {benchmark}"), json):
        from resight.collection.codebooks import codebook_file
        from resight.evaluation.evaluate import RECIPES
        from resight.evaluation.evaluate import evaluate as run_evaluation
        from resight.evaluation.experiment import LISTS, Run
        from resight.evaluation.results import compare_evaluations, read_evaluation
        from resight.evaluation.submission import write_submission
        from resight.recipes.catalogue import DEFAULT
        from resight.reports.files import need_folder

    name, _, place = benchmark.partition(":")
    run = Run(
        benchmark=name,
        path=place,
        recipe=options.checked_recipe(recipe, RECIPES) or (LISTS if lists else "search" if features else DEFAULT),
        settings={**options.settings(set_), **options.given(backbone=backbone, weights=weights, second=second)},
        index=index,
        photos=photos,
        features=features,
        query_features=query_features,
        blend=blend,
        lists=lists,
        distractors=distractors,
        uncropped=uncropped,
        stages=stages,
        codebooks=dict(map(codebook_file, codebook or ())),
    )
    need_folder(report)
    need_folder(failures)
    need_folder(submission)
    earlier = None if against is None else read_evaluation(against)
    with console.progress(json) as progress:
        progress(OPENING, 0, 1)

        def show(step: str, done: int, total: int) -> None:
            progress(OPENING, 1, 1)
            progress(step, done, total)

        evaluation = run_evaluation(run, cache=cache, progress=show, misses=failures is not None)
        progress(OPENING, 1, 1)
    comparisons = {} if earlier is None else compare_evaluations(evaluation, earlier)
    if submission is not None:
        write_submission(submission, evaluation)
    with console.waiting("drawing the pages", json):
        _write_pages(report, failures, run, evaluation, comparisons)
    if json:
        _print_json(evaluation, comparisons)
        return
    _print_scores(evaluation)
    _print_notes(evaluation, comparisons)
    for what, path in (("report", report), ("failures", failures), ("submission", submission)):
        if path is not None:
            console.say(f"{what}: {path}")


def _write_pages(
    report: Path | None,
    failures: Path | None,
    run: Run,
    evaluation: Evaluation,
    comparisons: Mapping[str, Comparison],
) -> None:
    if report is None and failures is None:
        return
    from resight.evaluation.evaluate import opened
    from resight.evaluation.misses_page import misses_page
    from resight.evaluation.page import evaluation_page
    from resight.evaluation.photos import shown_files
    from resight.reports.files import write_page

    files = shown_files(run, opened(run))
    if report is not None:
        write_page(report, evaluation_page(evaluation, files, comparisons))
    if failures is not None:
        write_page(failures, misses_page(evaluation, files))


def _print_json(evaluation: Evaluation, comparisons: Mapping[str, Comparison]) -> None:
    from dataclasses import asdict

    from resight.evaluation.results import evaluation_json

    content = evaluation_json(evaluation)
    if comparisons:
        content["comparison"] = {level: asdict(comparison) for level, comparison in comparisons.items()}
    console.print_json(content)


def _print_scores(evaluation: Evaluation) -> None:
    """A row per stage: means in percent, N-S scores as they are, and the time of a query."""
    from resight.evaluation.results import milliseconds, scaled

    run, scores = evaluation.run, evaluation.final.scores
    at = [(level, i, k) for level, one in scores.items() for i, k in enumerate(one.at)]
    columns = ["stages", *(f"{_metric(one)}{_of(scores, level)}" for level, one in scores.items())]
    columns += [*(f"mP@{k}{_of(scores, level)}" for level, _, k in at), "ms a query"]
    rows = []
    for result in evaluation.results:
        means = [f"{scaled(one):.{_digits(one)}f}" for one in result.scores.values()]
        means += [console.percent(result.scores[level].mp_at[i]) for level, i, _ in at]
        rows.append((result.system, *means, milliseconds(result, len(evaluation.queries))))
    console.print_table(f"{run.recipe} on {run.benchmark}", columns, rows)


def _print_notes(evaluation: Evaluation, comparisons: Mapping[str, Comparison]) -> None:
    from resight.evaluation.results import SEED, spread
    from resight.evaluation.significance import interval

    scores = evaluation.final.scores
    for level, one in scores.items():
        if one.empty < len(one):
            between = " and ".join(f"{value:.{_digits(one)}f}" for value in spread(one))
            console.say(f"{_metric(one)}{_of(scores, level)}: 95 % between {between} over the queries")
            if one.at == (1,):
                low, high = interval(one.p_at[:, 0], seed=SEED)
                between = f"{console.percent(low)} and {console.percent(high)}"
                console.say(f"mP@1{_of(scores, level)}: 95 % between {between}")
    console.say(f"protocol: {evaluation.protocol}")
    console.say(
        f"{evaluation.images} images, {len(evaluation.queries)} queries; features in {evaluation.seconds:.1f} s"
    )
    for level, one in scores.items():
        if one.empty:
            console.say(f"{one.empty} queries without positives{_of(scores, level)} are left out")
    for note in evaluation.notes:
        console.say(f"note: {note}")
    if evaluation.misses is not None:
        console.say(evaluation.misses.sentence)
    for level, c in comparisons.items():
        unit = 1 if scores[level].metric == "N-S" else 100
        low, high = unit * c.low, unit * c.high
        console.say(
            f"{level}: {unit * c.difference:+.1f} against the earlier result, 95 % between {low:+.1f} and {high:+.1f}, "
            f"p = {c.p_value:.3g} ({c.queries} queries)"
        )


def _digits(scores: Scores) -> int:
    """Decimals that are worth printing: N-S scores are near 4, AP is in percent."""
    return 2 if scores.metric == "N-S" else 1


def _metric(scores: Scores) -> str:
    return "N-S" if scores.metric == "N-S" else "mAP"


def _of(scores: Mapping[str, Scores], level: str) -> str:
    return "" if len(scores) == 1 else f" {level}"
