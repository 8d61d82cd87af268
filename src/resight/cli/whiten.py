"""The commands `resight whiten fit` and `resight whiten use`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resight.cli import console

Name = Annotated[str, typer.Argument(metavar="NAME.resight", help="The collection.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

app = typer.Typer(help="Whitening of global descriptors, fitted to your own photos.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    """Add the commands to `root`."""
    root.add_typer(app, name="whiten")


@app.command()
def fit(
    name: Name,
    method: Annotated[str, typer.Option(help="zca, pca; from --pairs: learned, adapted.")] = "zca",
    dim: Annotated[int | None, typer.Option(help="Dimensions to keep.", min=1)] = None,
    pairs: Annotated[Path | None, typer.Option(help="A csv file of two ids per line that show one thing.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the whitening to this file, for other uses.")] = None,
    json: Json = False,
) -> None:
    """Fit a whitening to the photos of a collection, and search with it from now on."""
    from resight.collection.collection import open_collection
    from resight.fitting.improve import use_whitening
    from resight.fitting.whitening import fit_for

    with console.one_sentence():
        collection = open_collection(name)
        whitening = fit_for(collection, method, dim=dim, pairs=pairs)
        if out is not None:
            whitening.save(out)
        with console.progress(json) as progress:
            use_whitening(collection, whitening, progress=progress)
        facts = {"collection": name, "dim": whitening.dim, **whitening.provenance}
        if json:
            console.print_json(facts)
        else:
            console.print_table(name, ("what", "value"), [(key, str(value)) for key, value in facts.items()])


@app.command()
def use(
    name: Name, file: Annotated[Path, typer.Argument(help="What `whiten fit --out` wrote.")], json: Json = False
) -> None:
    """Search a collection with a whitening that was fitted elsewhere."""
    from resight.collection.collection import open_collection
    from resight.features.whitening import Whitening
    from resight.fitting.improve import use_whitening

    with console.one_sentence():
        collection = open_collection(name)
        whitening = Whitening.load(file)
        with console.progress(json) as progress:
            use_whitening(collection, whitening, progress=progress)
        facts = {"collection": name, "dim": whitening.dim, **whitening.provenance}
        console.print_json(facts) if json else console.say(f"{name} is whitened by {file} from now on")
