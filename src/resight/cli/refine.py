"""The command `resight refine`: reads arguments, calls the library, prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import resight
from resight.cli import console

if TYPE_CHECKING:
    from resight.collection.collection import Collection
    from resight.fitting.separation import Drift, Refinement
    from resight.training.loop import Epoch

METHODS = ("separation",)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(refine)


def refine(
    name: Annotated[str, typer.Argument(metavar="NAME.resight", help="The collection.")],
    method: Annotated[str, typer.Option(help="separation")] = "separation",
    verified: Annotated[bool, typer.Option(help="Join only photos that geometry proves to show one thing.")] = False,
    k: Annotated[
        int | None, typer.Option(help="Neighbours per photo; as many as stand out if not given.", min=1)
    ] = None,
    epochs: Annotated[int, typer.Option(help="Most epochs to train.", min=0)] = 200,
    seed: Annotated[int, typer.Option(help="Of the training.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda.")] = "cpu",
    retrain: Annotated[bool, typer.Option(help="Train anew, although there are refined descriptors.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with figures of the training.")] = None,
    log: Annotated[Path | None, typer.Option(help="A folder for event files that TensorBoard shows.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Refine the global descriptors of a collection by their neighbours; run it again to take in new photos."""
    from resight.errors import UsageError
    from resight.fitting.separation import drift, extend_refinement, load_refinement, refinement_exists

    with console.one_sentence():
        if method not in METHODS:
            raise UsageError(f"method {method!r} is unknown: choose one of {', '.join(METHODS)}")
        collection = resight.open(name)
        if refinement_exists(collection) and not retrain:
            refinement = extend_refinement(collection, load_refinement(collection))
        else:
            refinement = _train(collection, verified, k, epochs, seed, device, log, json)
        moved = drift(collection, refinement)
        if html is not None:
            from resight.reports.answers import write_report
            from resight.reports.separation_page import refinement_page

            write_report(html, refinement_page(collection, refinement))
        _print(refinement, moved, name, html, json)


def _train(
    collection: Collection,
    verified: bool,
    k: int | None,
    epochs: int,
    seed: int,
    device: str,
    log: Path | None,
    quiet: bool,
) -> Refinement:
    from resight.fitting.separation import refine as train
    from resight.fitting.separation_graph import verified_graph

    record = _recorder(log)
    with console.progress(quiet) as progress:

        def show(epoch: Epoch) -> None:
            record(epoch)
            progress("training", epoch.number, epochs)

        graph = verified_graph(collection, progress=progress) if verified else None
        return train(collection, k=k, verified=graph, epochs=epochs, seed=seed, device=device, on_epoch=show)


def _recorder(log: Path | None) -> Callable[[Epoch], None]:
    if log is None:
        return lambda _: None
    from resight.training.loop import tensorboard_log

    return tensorboard_log(log)


def _print(refinement: Refinement, moved: Drift, name: str, html: Path | None, json: bool) -> None:
    from dataclasses import asdict

    facts = refinement.facts
    if json:
        console.print_json({"photos": len(refinement.rows), **facts, "drift": asdict(moved)})
        return
    edges = "verified neighbours" if facts["verified"] else "neighbours"
    count = f"{facts['neighbours']:.1f} {edges} each"
    console.say(f"{len(refinement.rows)} photos refined, trained on {facts['photos']} with {count}")
    console.say(f"epoch {facts['best']} of {len(facts['epochs'])} was kept, beta {facts['beta']:.3f}")
    if facts["stopped"] == "diverged":
        console.warn("the loss diverged: the last good state was kept")
    if moved.new or moved.gone:
        console.say(f"since the training {moved.new} photos came and {moved.gone} went")
    if moved.retrain:
        console.warn(f"{moved.retrain}: run resight refine {name} --retrain")
    if html is not None:
        console.say(f"report: {html}")
