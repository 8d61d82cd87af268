"""The commands `models list` and `models pull`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resight.cli import console, options

if TYPE_CHECKING:
    from resight.features.checkpoints.catalogue import KnownModel

app = typer.Typer(help="List the published models, and fetch their weights.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    """Add the commands to `root`."""
    root.add_typer(app, name="models")


@app.command("list")
def list_(json: options.Json = False) -> None:
    """List the published models, their licences, and which are available locally."""
    from resight.features.checkpoints.catalogue import KNOWN, at_hand, models_folder

    folder = models_folder()
    places = {model.name: at_hand(model, folder) for model in KNOWN}
    if json:
        paths = {name: None if path is None else str(path) for name, path in places.items()}
        console.print_json([{**asdict(model), "path": paths[model.name]} for model in KNOWN])
        return
    columns = ("name", "recipe", "network", "size", "SHA-256", "licence", "available")
    rows = [_row(model, places[model.name] is not None) for model in KNOWN]
    console.print_table(f"models (weights in {folder})", columns, rows)
    console.say("resight models pull NAME fetches one; --weights FILE takes any file; --json prints addresses, papers")


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="The name of a model that `models list` prints.")],
    json: options.Json = False,
) -> None:
    """Fetch the weights of a model, or continue fetching them, and check them."""
    from resight.features.checkpoints.catalogue import fetch, known_model, models_folder

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


def _row(model: KnownModel, present: bool) -> tuple[Any, ...]:
    size = "unknown" if model.size is None else f"{model.size / 1e6:.1f} MB"
    digest = "unknown" if model.sha256 is None else model.sha256[:8]
    state = "yes" if present else "by hand" if model.url is None or not model.url.startswith("https://") else "pull"
    return model.name, model.recipe, model.architecture, size, digest, model.licence, state
