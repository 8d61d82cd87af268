"""The command `serve`, and `keys` for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resight.cli import console, options
from resight.errors import UsageError
from resight.extras import needed

keys = typer.Typer(help="Make, list and revoke the keys of a service.", no_args_is_help=True)
KeyFile = Annotated[Path, typer.Option("--keys", metavar="FILE", help="The file of keys; it holds only their hashes.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(serve)
    app.add_typer(keys, name="keys")


def serve(
    names: Annotated[list[str], typer.Argument(metavar="NAME.resight...", help="The folders of the collections.")],
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen on; beside this machine's it needs --keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="The port; 0 for any that is free.", min=0, max=65535)] = 8321,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Ask for a key of this file, which resight keys add makes.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Let nobody add, remove or fit anything.")] = False,
    originals: Annotated[
        bool, typer.Option("--originals", help="Give out the files of photos as they are, with their EXIF.")
    ] = False,
    allow_folder: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Let photos be added from this folder; may be given several times."),
    ] = None,
    uploads: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep uploaded photos here instead of beside their collection."),
    ] = None,
    workers: Annotated[
        int, typer.Option(metavar="N", help="Run this many searches at a time; 0 stands for one per processor.", min=0)
    ] = 0,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    json: options.Json = False,
) -> None:
    """Serve collections: a page that searches with photos dropped on it, and an HTTP API."""
    _need_extra()
    if keys is not None and not keys.exists():
        raise UsageError(f"the file of keys {keys} is not there: resight keys add --keys {keys} makes it")
    with console.waiting(console.first_word(f"opening {', '.join(names)}"), json):
        from resight.serving.server import log_to_stderr
        from resight.serving.server import serve as run
        from resight.serving.settings import ServeSettings

    settings = ServeSettings(
        host=host,
        port=port,
        keys=keys,
        read_only=read_only,
        originals=originals,
        allow_folders=tuple(allow_folder or ()),
        uploads=uploads,
        workers=workers,
    )
    log_to_stderr()

    def ready(url: str) -> None:
        if json:
            console.print_json({"url": url, "collections": names})
        else:
            console.say(f"page: {url}")
            console.say("Ctrl-C stops the service")
        console.out.file.flush()
        if open_:
            import webbrowser

            webbrowser.open(url)

    run(names, settings, ready)


@keys.command()
def add(
    keys: KeyFile,
    scope: Annotated[str, typer.Option(metavar="SCOPE", help="What it may do: read, write or admin.")] = "read",
    note: Annotated[str, typer.Option(metavar="TEXT", help="Say in the list of keys whom this key is for.")] = "",
    json: options.Json = False,
) -> None:
    """Make a key and print it: this is the only time that it is shown."""
    from resight.serving.keys import add_key

    key, text = add_key(keys, scope, note)
    console.print_json({"id": key.id, "key": text, "scope": scope}) if json else console.say(text)


@keys.command(name="list")
def list_(keys: KeyFile, json: options.Json = False) -> None:
    """List the keys, without their secrets."""
    from resight.serving.keys import read_keys

    found = read_keys(keys)
    if json:
        console.print_json([{"id": k.id, "scope": k.scope, "note": k.note, "created": k.created} for k in found])
        return
    console.print_table(
        str(keys), ("id", "scope", "note", "created"), [(k.id, k.scope, k.note, k.created) for k in found]
    )


@keys.command()
def revoke(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The id of the key, which its text begins with.")],
    keys: KeyFile,
    json: options.Json = False,
) -> None:
    """Revoke a key; services that run refuse it from their next request on."""
    from resight.serving.keys import revoke_key

    revoke_key(keys, id_)
    console.print_json({"revoked": id_}) if json else console.say(f"key {id_} revoked")


def _need_extra() -> None:
    with needed("resight serve"):
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
