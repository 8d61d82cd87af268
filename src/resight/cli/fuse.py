"""The command `resight fuse`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from resight.cli import console


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(fuse)


def fuse(
    name: Annotated[str, typer.Argument(metavar="NAME.resight", help="The collection, of recipe hybrid.")],
    pairs: Annotated[
        Path | None, typer.Option(help="A csv file of two ids per line that show one thing; else geometry finds some.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Learn how much the global descriptor counts beside the local features, and search so from now on."""
    from resight.collection.collection import open_collection
    from resight.fitting.improve import learn_fusion

    with console.one_sentence():
        learnt = learn_fusion(open_collection(name), pairs)
        if json:
            console.print_json(asdict(learnt))
            return
        console.say(
            f"{name}: a standard deviation of the global descriptor counts {learnt.weight:.2f} of one of the local "
            f"features (from {learnt.queries} queries with {learnt.matches} matches: {learnt.source})"
        )
