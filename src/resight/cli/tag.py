"""The command `tag`: words of one's own on photos."""

from __future__ import annotations

from typing import Annotated

import typer

from resight.cli import console, options
from resight.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(tag)


def tag(
    name: options.Name,
    photos: Annotated[
        list[str] | None, typer.Argument(help="Photos of the collection: their ids, or the paths of their files.")
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar="TAG", help="Give photos this tag; may be given several times.")
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="TAG", help="Take this tag away; may be given several times."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            "--where", metavar="SQL", help="Change the photos that fulfil this condition, such as \"id LIKE 'rome/%'\"."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Give photos tags, or take them away; without --add and --remove, list all tags."""
    from resight.collection.tags import tag_counts

    collection = options.opened(name)
    if not add and not remove:
        if photos or where is not None:
            raise UsageError("there is nothing to do: give --add TAG or --remove TAG for these photos")
        _list(name, tag_counts(collection.snapshot.tables), json)
        return
    if bool(photos) == (where is not None):
        raise UsageError("it is not clear which photos are meant: name some, or give --where, and not both")
    meant = collection.snapshot.rows_where(where) if where is not None else photos or []
    changed = collection.tag(meant, add=add or (), remove=remove or ())
    if json:
        console.print_json({"changed": changed, "meant": len(meant)})
    else:
        console.say(f"the tags of {console.count(changed, 'photo')} changed, of {len(meant)} that were meant")


def _list(name: str, counts: dict[str, int], json: bool) -> None:
    if json:
        console.print_json({"tags": counts})
    elif counts:
        console.print_table(f"tags of {name}", ("tag", "photos"), list(counts.items()))
    else:
        console.say(f"{name} has no tags: give some with resight tag {name} PHOTO --add TAG")
