"""The command `resight`: reads arguments, calls the library, prints. Heavy modules are imported by the command that
needs them, so that `resight --help` stays fast.
"""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from resight.cli import (
    bench,
    collections,
    console,
    demo,
    doctor,
    engine,
    evaluate,
    exchange,
    fit,
    graph,
    inspection,
    models,
    search,
    serve,
    shards,
    tag,
    train,
)
from resight.cli.ending import Commands
from resight.version import __version__

app = typer.Typer(
    cls=Commands,
    help="Find every photograph of the same thing, with proof.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, help="Say on standard error what is done; twice: in every detail."),
    ] = 0,
) -> None:
    console.log_to_stderr((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
    if version:
        console.say(f"resight {__version__}")
        raise typer.Exit


for group in (
    collections,
    search,
    serve,
    tag,
    inspection,
    fit,
    train,
    graph,
    evaluate,
    exchange,
    shards,
    engine,
    bench,
    models,
    doctor,
    demo,
):
    group.register(app)


def main() -> None:
    """Entry point of the command `resight`."""
    app()
