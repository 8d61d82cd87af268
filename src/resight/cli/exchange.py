"""The commands `export` and `import`: collections in the formats of other tools, and what those made as collections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resight.cli import console, options

NEIGHBOURS = 20


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(export)


def export(
    name: options.Name,
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="hloc-pairs, hloc-h5, colmap-db, faiss, parquet, npy, fiftyone or hf-dataset.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="The file or folder to write; it must be new.")],
    top: Annotated[
        int,
        typer.Option("--top", metavar="N", help="Length of the ranked list of every photo, where lists are.", min=1),
    ] = NEIGHBOURS,
    recipe: options.Ranked = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Write a collection in the format of another tool."""
    from resight.exchange.formats import FORMATS
    from resight.exchange.formats import export as write
    from resight.exchange.request import Request
    from resight.recipes.catalogue import RECIPES

    chosen = options.settings(set_)
    ranked = options.checked_recipe(recipe, RECIPES)
    collection = options.opened(name)
    with console.progress(json) as progress:
        written = write(to, Request(collection, out, top, ranked, chosen, progress))
    if json:
        console.print_json({"collection": str(collection.path), "format": to, "out": str(out), "written": written})
        return
    console.say(f"{out}: {written}")
    console.say(f"opens in: {FORMATS[to].opens}")
