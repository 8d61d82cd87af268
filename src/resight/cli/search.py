"""The commands `search` and `explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resight.cli import console, options
from resight.errors import UsageError

if TYPE_CHECKING:
    from resight.collection.answer import Answer, Explanation
    from resight.collection.collection import Collection


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(search)
    app.command()(explain)


def search(
    name: options.Name,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="The query: the path of a photo, or the id of an indexed one. Of several, each is searched for, and a "
            "result has the best of its scores.",
        ),
    ],
    box: options.Box = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--not", metavar="IMAGE", help="Leave out this photo and what matches it; may be given several times."
        ),
    ] = None,
    top: options.Top = 20,
    where: options.Where = None,
    recipe: options.Ranked = None,
    set_: options.Set = None,
    device: options.RunsOn = None,
    report: options.Report = None,
    inspect: Annotated[
        bool, typer.Option("--inspect", help="Show in the report what the local features of the query see, too.")
    ] = False,
    engine: options.Engine = None,
    partial: options.Partial = False,
    json: options.Json = False,
) -> None:
    """Find the photos that show what a photo shows, or several do."""
    chosen = options.settings(set_)
    if inspect and report is None:
        raise UsageError("--inspect adds pictures to a report: name its file with --report FILE.html")
    with console.waiting(console.first_word(f"opening {name}"), json) as say:
        from resight.reports.answer_json import answer_json
        from resight.reports.files import need_folder

        need_folder(report)
        collection = options.searched(name, device, engine, partial)
        _check_recipe(collection, recipe, chosen)
        say(console.first_word("searching"))
        first, *also = images
        answer = collection.search(first, _part(box), top, where, recipe, also, without or (), **chosen)
        if report is not None:
            say("drawing the report")
            _write(report, collection, answer, recipe, chosen, inspect)
    if json:
        console.print_json(answer_json(answer, also, without or ()))
        return
    _print_answer(answer, len(images) > 1)
    if report is not None:
        console.say(f"report: {report}")


def explain(
    name: options.Name,
    image: options.Image,
    result_id: Annotated[str, typer.Argument(help="The id of the result.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Write the matched features as a picture to this file.")
    ] = None,
    box: options.Box = None,
    top: options.Top = 20,
    recipe: options.Ranked = None,
    set_: options.Set = None,
    device: options.RunsOn = None,
    engine: options.Engine = None,
    json: options.Json = False,
) -> None:
    """Say, and draw, why a photo was found; its rank is that of a search with the same options."""
    chosen = options.settings(set_)
    with console.waiting(console.first_word(f"opening {name}"), json) as say:
        from resight.reports.answer_json import explanation_json
        from resight.reports.files import need_folder, save_picture
        from resight.reports.pictures import match_picture

        need_folder(out)
        collection = options.searched(name, device, engine)
        _check_recipe(collection, recipe, chosen)
        say(console.first_word("searching"))
        explanation = collection.explain(image, result_id, _part(box), recipe, **chosen)
        if out is not None:
            say("drawing the picture")
            save_picture(out, match_picture(collection, explanation.query, explanation.result))
    if json:
        console.print_json({**explanation_json(explanation), "shown": 1 <= explanation.result.rank <= top})
        return
    _print_explanation(explanation, top)
    if out is not None:
        console.say(f"picture: {out}")


def _part(box: str | None) -> Any:
    from resight.types import Box

    return None if box is None else Box.parse(box)


def _check_recipe(collection: Collection, recipe: str | None, chosen: dict[str, Any]) -> None:
    """Options of the recipe alone are set: what the search itself takes has an option of the command."""
    from resight.recipes.catalogue import RECIPES, check_recipe

    check_recipe(options.checked_recipe(recipe, RECIPES) or collection.snapshot.stamp.recipe, chosen)


def _write(
    path: Path, collection: Collection, answer: Answer, recipe: str | None, chosen: dict[str, Any], inspect: bool
) -> None:
    from resight.reports.files import write_page
    from resight.reports.graph_figure import graph_figure
    from resight.reports.search_page import search_page
    from resight.viz.report import render

    graph = graph_figure(collection, answer, recipe, chosen)
    figures = _inspected(collection, answer) if inspect else []
    write_page(path, render(search_page(collection, answer, graph, figures)))


def _inspected(collection: Collection, answer: Answer) -> list[tuple[str, bytes]]:
    from resight.reports.inspection import query_figures

    return [(figure.title, figure.png) for figure in query_figures(collection, answer.query)]


def _print_answer(answer: Answer, several: bool) -> None:
    proof = answer.rule.proof
    columns = ("rank", "id", "score", *(("inliers",) if proof else ()), "", *(("found by",) if several else ()))
    rows = [
        (
            *(r.rank, r.id, r.score, *((r.inliers,) if proof else ()), "match" if r.match else ""),
            *((answer.found_by(r).name,) if several else ()),
        )
        for r in answer.results
    ]
    console.print_table(answer.query.name, columns, rows)
    matches = sum(result.match for result in answer.results)
    verdict = console.count(matches, "match") if matches else "no confident match"
    took = f"{1000 * answer.seconds[0]:.0f} ms to read the query, {1000 * answer.seconds[1]:.0f} ms to search"
    console.say(f"{verdict} ({answer.rule}); {took}")
    if not answer.calibrated:
        console.warn(
            "it is not known what unrelated photos score, as a run over this collection was stopped: matches rest on "
            "geometry alone; run the same command again, or resight check --repair, to finish"
        )
    if answer.absent:
        console.warn(f"photos of shards that are gone are not in this answer: {', '.join(answer.absent)}")
    if answer.pending:
        console.warn(
            f"{console.count(answer.pending, 'photo')} stored but not searchable yet: run resight index again to finish"
        )


def _print_explanation(explanation: Explanation, top: int) -> None:
    result = explanation.result
    verdict = "a match" if result.match else "no match"
    rank = f"rank {result.rank}" if result.rank else "not ranked"
    beyond = f", beyond the first {top}" if result.rank > top else ""
    console.say(f"{result.id}: {verdict}, {rank}{beyond}, score {result.score:.1f}")
    for item in explanation.evidence:
        console.say(f"  {item.stage}: {item.summary}")
