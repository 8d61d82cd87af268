"""The commands `resight models` and `resight models pull`: read arguments, call the library, print."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resight.cli import console

if TYPE_CHECKING:
    from resight.features.checkpoints.catalogue import KnownModel

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

models = typer.Typer(
    help="List the known models and what of them is at hand; fetch their weights.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(models, name="models")


@models.callback()
def _all(context: typer.Context, json: Json = False) -> None:
    if context.invoked_subcommand is None:
        _list(json)


@models.command("list")
def list_(json: Json = False) -> None:
    """List the known models, their licences, and where their weights lie."""
    _list(json)


@models.command()
def pull(
    name: Annotated[str, typer.Argument(help="A model, as `resight models` lists them.")], json: Json = False
) -> None:
    """Fetch the weights of a model, or continue fetching them, and check them."""
    from resight.features.checkpoints.catalogue import fetch, known_model, models_folder

    with console.one_sentence():
        model = known_model(name)
        with console.progress(json) as progress:
            path = fetch(model, models_folder(), progress)
        if json:
            console.print_json({**asdict(model), "path": str(path)})
            return
        console.say(f"{model.name}: {path}")
        console.say(f"licence: {model.licence}")
        if model.sha256 is None:
            console.warn("no checksum of this file is published: it was not checked")


def _list(json: bool) -> None:
    from resight.features.checkpoints.catalogue import KNOWN, at_hand, models_folder

    with console.one_sentence():
        folder = models_folder()
        places = {model.name: at_hand(model, folder) for model in KNOWN}
        if json:
            paths = {name: None if path is None else str(path) for name, path in places.items()}
            console.print_json([{**asdict(model), "path": paths[model.name]} for model in KNOWN])
            return
        columns = ("name", "recipe", "network", "size", "SHA-256", "licence", "at hand")
        rows = [_row(model, places[model.name] is not None) for model in KNOWN]
        console.print_table(f"models (weights in {folder})", columns, rows)
        console.say(
            "resight models pull NAME fetches one; --weights FILE takes any file; --json gives addresses, papers"
        )


def _row(model: KnownModel, present: bool) -> tuple[Any, ...]:
    size = "unknown" if model.size is None else f"{model.size / 1e6:.1f} MB"
    digest = "unknown" if model.sha256 is None else model.sha256[:8]
    state = "yes" if present else "by hand" if model.url is None or not model.url.startswith("https://") else "pull"
    return model.name, model.recipe, model.architecture, size, digest, model.licence, state
