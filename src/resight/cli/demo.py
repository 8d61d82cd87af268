"""The command `demo`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from resight.cli import console, options


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(demo)


def demo(
    to: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where the photos, the collection and the report are put.")
    ] = Path("demo-out"),
    seed: Annotated[
        int, typer.Option(metavar="N", help="Random seed: another one makes other photographs.", min=0)
    ] = 0,
    json: options.Json = False,
) -> None:
    """Make 200 photographs, index them, search for every object, and write a report."""
    from resight.demo.run import run_demo

    with console.progress(json) as progress:
        outcome = run_demo(to, seed=seed, progress=progress)
    if json:
        facts = {"map": outcome.map, "report": str(outcome.report), "queries": outcome.rows()}
        lonely = {"photos": len(outcome.lonely), "matches": sum(query.wrong_matches for query in outcome.lonely)}
        console.print_json({**facts, "without_partner": lonely})
        return
    rows = [(query, found, of, console.percent(ap), *rest) for query, found, of, ap, *rest in outcome.table()]
    console.print_table("Where else is this thing?", ("query", "found", "of", "AP", "match / right", "ms"), rows)
    score = console.percent(outcome.map)
    console.say(f"mAP {score} over {len(outcome.queries)} queries, {console.count(outcome.photos, 'photo')}")
    wrong = sum(query.wrong_matches for query in outcome.lonely)
    console.say(f"{console.count(len(outcome.lonely), 'photo')} without partner: {console.count(wrong, 'wrong match')}")
    console.say(f"report: {outcome.report}")
    collection = shlex.quote(str(outcome.collection))
    console.say(f"try:    {console.program()} search {collection} {outcome.example} --report answer.html")
    console.say(f"page:   {console.program()} serve {collection} --open")
