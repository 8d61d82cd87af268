"""The commands `shards split` and `shards add`."""

from __future__ import annotations

from typing import Annotated

import typer

from resight.cli import console, options
from resight.cli.ending import INTERRUPTED

app = typer.Typer(help="Spread a collection over shards, which one search asks together.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    """Add the commands to `root`."""
    root.add_typer(app, name="shards")


@app.command()
def split(
    name: options.Name,
    to: Annotated[str, typer.Option(metavar="NAME.shards", help="The folder to make, with a collection per shard.")],
    shards: Annotated[int, typer.Option("--shards", metavar="N", min=1, help="The number of shards to make.")] = 2,
    json: options.Json = False,
) -> None:
    """Copy a collection into shards, each a collection of neighbouring photos; nothing is extracted again."""
    from resight.cluster.split import split as divide

    with console.progress(json) as progress:
        layout = divide(name, to, shards, progress=progress)
    if json:
        console.print_json({"folder": str(layout.folder), "shards": [str(path) for path in layout.shards]})
        return
    console.say(f"{to}: {console.count(len(layout.shards), 'shard')}; resight search {to} PHOTO searches all of them")


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME.shards", help="The folder of a collection in shards.")],
    photos: options.Photos,
    engine: options.Engine = None,
    hidden: options.Hidden = False,
    jobs: options.Jobs = 0,
    json: options.Json = False,
) -> None:
    """Add photos to the shards of a collection; run it again to continue."""
    from resight.cli.collections import print_report, scanned
    from resight.cluster.engines import THREADS
    from resight.cluster.grow import add_photos
    from resight.cluster.sharded import open_shards

    found = scanned(photos, hidden)
    with console.progress(json) as progress:
        report = add_photos(name, found, engine or THREADS, jobs=jobs, progress=progress)
    print_report(open_shards(name), report, json)
    if report.interrupted:
        console.leave(INTERRUPTED, "stopped: what was read is indexed; run the same command again for the rest")
