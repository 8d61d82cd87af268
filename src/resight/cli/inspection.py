"""The command `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resight.cli import console, options
from resight.errors import UsageError

if TYPE_CHECKING:
    from resight.reports.inspection import Inspection


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(inspect)


def inspect(
    photo: Annotated[str, typer.Argument(help="The path of a photo; with --from also the id of an indexed one.")],
    out: Annotated[
        Path,
        typer.Option(
            metavar="PLACE", help="Write a page to this file if it ends in .html, else pictures to this folder."
        ),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Show the features of this recipe or of this kind; classic by default."),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="NAME.resight", help="Use the settings, weights and learnt parts of this collection."
        ),
    ] = None,
    backbone: options.Backbone = None,
    weights: options.Weights = None,
    set_: options.Set = None,
    beside: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.onnx", help="Draw plain HOW over this network beside features that have no network of theirs."
        ),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y", help="Draw the edges of the cell at this point; may be given several times."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Draw what local features see in a photo: attention, chosen features, edges and smoothing, beside plain HOW."""
    parameters = {**options.settings(set_), **options.given(backbone=backbone, weights=weights)}
    if from_ is not None and (parameters or recipe is not None):
        raise UsageError("--from takes all settings from the collection: leave out --recipe, --set and the networks")
    with console.waiting(console.first_word("looking"), json):
        seen, written = _inspect(photo, out, recipe, from_, parameters, beside, [_point(one) for one in at or ()])
    if json:
        files = [str(file) for file in written]
        console.print_json({"photo": seen.name, "features": dict(seen.features), "written": files})
        return
    for name, count in seen.features.items():
        console.say(f"{name}: {console.count(count, 'feature')}")
    for file in written:
        console.say(f"written: {file}")
    if not seen.figures:
        console.warn("the photo is smaller than one cell of the network at every scale: there was nothing to draw")


def _inspect(
    photo: str,
    out: Path,
    recipe: str | None,
    from_: str | None,
    parameters: dict[str, Any],
    beside: Path | None,
    at: list[tuple[float, float]],
) -> tuple[Inspection, list[Path]]:
    from resight.features.local.trunk import open_trunk
    from resight.recipes.catalogue import DEFAULT, INDEXING
    from resight.reports import inspection

    inspection.check_out(out)
    options.checked_recipe(recipe, INDEXING)
    path, collection = Path(photo), None if from_ is None else options.opened(from_)
    if collection is None:
        encoders, side = inspection.encoders_of(recipe or DEFAULT, parameters)
    else:
        path = inspection.photo_of(collection, photo)
        encoders, side = inspection.encoders_in(collection)
    network = None if beside is None else open_trunk(beside, max_side=min(side, 512), enlarge_below=min(side, 512))
    seen = inspection.inspect_photo(path, encoders, network, at=at, max_side=side)
    return seen, inspection.save_inspection(out, seen)


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--at {text!r} is not of the form X,Y: give two numbers, in pixels of the photo") from error
    return x, y
