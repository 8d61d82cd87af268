"""The commands `export` and `import`: collections in the formats of other tools, and what those made as collections."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from resight.cli import console, options
from resight.errors import UsageError

NEIGHBOURS = 20  # in the ranked list of every photo, where a format has lists


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(export)
    app.command("import")(import_)


def export(
    name: options.Name,
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="The format: hloc-pairs, hloc-h5, colmap-db, faiss, parquet, npy, fiftyone or hf-dataset.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="The file or folder to write; it must be new.")],
    top: options.Top = NEIGHBOURS,
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


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="HDF5 features of hloc, a COLMAP database, a folder of .delf files, or a dataset of Hugging Face.",
        ),
    ],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="NAME.resight", help="The collection to make of the features.")
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            "--photos",
            metavar="FOLDER",
            help="The folder of the photos that SOURCE names; the new one to write, where it carries them.",
        ),
    ] = None,
    verified: Annotated[
        Path | None,
        typer.Option(
            "--verified", metavar="FILE.csv", help="Write the verified pairs to this file, for fit similarity --pairs."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Make a collection of features that another tool extracted, or write out the photos of a dataset."""
    from resight.exchange.imported import import_features, write_pairs
    from resight.exchange.photo_sources import holds_dataset, unpack_photos

    if holds_dataset(source):
        if photos is None or to is not None or verified is not None:
            raise UsageError(f"{source} carries photos: give --photos NEW-FOLDER alone, and index that folder")
        _print_unpacked(photos, unpack_photos(source, photos), json)
        return
    if to is None and verified is None:
        raise UsageError("nothing is asked for: give --to NAME.resight with --photos FOLDER, or --verified FILE.csv")
    if to is not None and photos is None:
        raise UsageError("--to needs the photos that the features are of: give their folder with --photos")
    said: dict[str, Any] = {"source": str(source)}
    if to is not None and photos is not None:
        with console.progress(json) as progress:
            made = import_features(source, photos, to, progress=progress)
        said |= {"collection": str(to), "photos": made.photos, "missing": list(made.missing)}
    if verified is not None:
        said |= {"verified": str(verified), "pairs": write_pairs(source, verified)}
    if json:
        console.print_json(said)
        return
    _print_imported(said)


def _print_unpacked(photos: Path, count: int, json: bool) -> None:
    if json:
        console.print_json({"folder": str(photos), "photos": count})
        return
    console.say(f"{photos}: {console.count(count, 'photo')}; index them with resight index {photos} --to NAME.resight")


def _print_imported(said: Mapping[str, Any]) -> None:
    if "collection" in said:
        console.say(f"{said['collection']}: {console.count(said['photos'], 'photo')} with features of {said['source']}")
        if missing := said["missing"]:
            first = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            console.warn(f"{console.count(len(missing), 'photo')} named there are not in the folder: {first}")
    if "pairs" in said:
        console.say(f"{said['verified']}: {console.count(said['pairs'], 'verified pair')}")
