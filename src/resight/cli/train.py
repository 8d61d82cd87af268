"""The command `resight train similarity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resight.cli import console

Name = Annotated[str, typer.Argument(metavar="NAME.resight", help="The collection.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

app = typer.Typer(help="Train models on your own photos.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    """Add the commands to `root`."""
    root.add_typer(app, name="train")


@app.callback()
def _group() -> None:
    """Keeps `similarity` a command of its own, although it is the only one."""


@app.command()
def similarity(
    name: Name,
    pairs: Annotated[Path | None, typer.Option(help="A csv file with columns left,right,matching (1 or 0).")] = None,
    groups: Annotated[Path | None, typer.Option(help="A csv file with columns id,group.")] = None,
    photos: Annotated[int, typer.Option(help="Without labels: photos whose results are proven.", min=2)] = 500,
    epochs: Annotated[int, typer.Option(help="At most, for each of the last two stages.", min=1)] = 30,
    seed: Annotated[int, typer.Option(help="Of every random choice.", min=0)] = 0,
    checkpoints: Annotated[Path | None, typer.Option(help="A folder, to continue when stopped.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the similarity to this file.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Write the plots of the training to this folder.")] = None,
    json: Json = False,
) -> None:
    """Learn which photos show the same thing, from csv files or from pairs that geometry proves."""
    from dataclasses import replace

    from resight.collection.collection import open_collection
    from resight.fitting.similarity import COSINE, PAIRS, train_similarity, write_pictures
    from resight.store.folder import faults

    with console.one_sentence():
        collection = open_collection(name)
        for folder in (checkpoints, pictures):
            if folder is not None:
                with faults("make", folder):
                    folder.mkdir(parents=True, exist_ok=True)
        with console.progress(json) as progress:
            training = train_similarity(
                collection,
                pairs=pairs,
                groups=groups,
                photos=photos,
                cosine=replace(COSINE, seed=seed),
                options=replace(PAIRS, epochs=epochs, seed=seed),
                checkpoints=checkpoints,
                progress=progress,
            )
        if out is not None:
            training.similarity.save(out)
        if pictures is not None:
            write_pictures(training, pictures)
        match = int(training.pairs.matching.sum())
        if json:
            facts = {"matching": match, "other": len(training.pairs) - match, "kept": training.kept}
            console.print_json({"collection": name, **facts, "right_order": dict(training.order)})
            return
        rows = [(which, share, "kept" if which == training.kept else "") for which, share in training.order.items()]
        console.say(
            f"{match} matching and {len(training.pairs) - match} other pairs; a quarter of the groups held back"
        )
        console.print_table("pairs of unseen photos in the right order", ("similarity", "share", ""), rows)
        if training.order["cosine"] >= training.order[training.kept]:
            console.warn("the plain cosine is as good on unseen photos: more pairs are needed before this helps")
