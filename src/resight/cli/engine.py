"""The commands `engine fill` and `engine drop`."""

from __future__ import annotations

from typing import Annotated

import typer

from resight.cli import console, options

app = typer.Typer(help="Hand the global descriptors of a collection to Milvus.", no_args_is_help=True)
Address = Annotated[
    str,
    typer.Argument(
        metavar="ENGINE", help="Where Milvus is: milvus://HOST:PORT/NAME, or milvus://FILE.db/NAME for Milvus Lite."
    ),
]


def register(root: typer.Typer) -> None:
    """Add the commands to `root`."""
    root.add_typer(app, name="engine")


@app.command()
def fill(name: options.Name, engine: Address, json: options.Json = False) -> None:
    """Send what Milvus lacks and take out what is gone; run it again after photos came or went."""
    from resight.cluster.on_milvus import fill as bring

    with console.progress(json) as progress:
        added, removed = bring(name, engine, progress=progress)
    if json:
        console.print_json({"engine": engine, "added": added, "removed": removed})
        return
    console.say(f"{engine}: {console.count(added, 'vector')} added, {removed} removed")
    console.say(f"resight search {name} PHOTO --engine {engine} searches there")


@app.command()
def drop(
    name: options.Name,
    engine: Address,
    force: Annotated[bool, typer.Option("--force", help="Drop even the vectors of another collection.")] = False,
    json: options.Json = False,
) -> None:
    """Delete from Milvus what it holds of a collection; the collection stays as it is."""
    from resight.cluster.on_milvus import milvus_index
    from resight.collection.open import open_collection

    milvus_index(open_collection(name).snapshot, engine).drop(force=force)
    if json:
        console.print_json({"engine": engine, "dropped": True})
        return
    console.say(f"{engine}: dropped")
