"""The command `resight`: reads arguments, calls the library, prints. Heavy modules are imported by the command that
needs them, so that `resight --help` stays fast.
"""

from __future__ import annotations

from typing import Annotated

import typer

from resight.cli import bench, collections, console, demo, evaluate, fit, graph, models, search, train
from resight.cli.ending import Commands
from resight.version import __version__

app = typer.Typer(
    cls=Commands,
    help="Find every photograph of the same thing, with proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        console.say(f"resight {__version__}")
        raise typer.Exit


for group in (collections, search, fit, train, graph, evaluate, bench, models, demo):
    group.register(app)


def main() -> None:
    """Entry point of the command `resight`."""
    app()
