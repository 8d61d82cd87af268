"""The commands `graph build` and `graph tune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resight.cli import console, options

if TYPE_CHECKING:
    from resight.ranking.tuning import Tuned

app = typer.Typer(help="Build the kNN graph of a collection, for the recipes that follow it.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    """Add the commands to `root`."""
    root.add_typer(app, name="graph")


@app.command()
def build(
    name: options.Name,
    k: options.Neighbours = 50,
    verified: Annotated[
        bool, typer.Option("--verified", help="Build the graph of neighbours that geometry proves, too.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Solve diffusion for every photo, too, which makes its queries fast.")
    ] = False,
    spectral: Annotated[
        bool,
        typer.Option("--spectral", help="Compute the eigenvectors of spectral ranking, too, which makes it fast."),
    ] = False,
    manifold: Annotated[
        bool,
        typer.Option("--manifold", help="Compute the manifold embedding, too, of up to 10 000 photos."),
    ] = False,
    augmented: Annotated[
        bool,
        typer.Option(
            "--augmented", help="Build the verified graph, and that of photos moved towards what it proves, too."
        ),
    ] = False,
    least: Annotated[
        int, typer.Option(metavar="N", help="With --augmented, inliers that a photo needs to be moved towards.", min=1)
    ] = 20,
    json: options.Json = False,
) -> None:
    """Build the graph; run it again to continue a verified graph that was stopped."""
    from dataclasses import asdict

    from resight.fitting.graphs import build_graph
    from resight.ranking.expansion_stages import Augmentation

    collection = options.opened(name)
    with console.progress(json) as progress:
        moved = Augmentation(least=least) if augmented else None
        reports = build_graph(
            collection,
            k,
            verified=verified,
            offline=offline,
            spectral=spectral,
            manifold=manifold,
            augmented=moved,
            progress=progress,
        )
    if json:
        console.print_json([asdict(report) for report in reports])
        return
    rows = [(report.kind, report.nodes, report.edges, report.k, f"{report.recall:.4f}") for report in reports]
    console.print_table(name, ("graph", "photos", "edges", "k", "recall"), rows)


@app.command()
def tune(name: options.Name, json: options.Json = False) -> None:
    """Choose the options of expansion, traversal and diffusion for a collection, without labels, and keep them."""
    from dataclasses import asdict

    from resight.fitting.graphs import tune as choose

    with console.waiting("trying settings", json):
        chosen = choose(options.opened(name))
    console.print_json(asdict(chosen)) if json else _print_choices(name, chosen)


def _print_choices(name: str, chosen: Tuned) -> None:
    choices = (chosen.expansion, chosen.traversal, chosen.diffusion)
    rows = [
        (
            choice.method,
            ", ".join(f"{key}={value:g}" for key, value in choice.settings.items()),
            console.percent(choice.plain),
            console.percent(choice.score),
            "yes" if choice.worthwhile else "no",
        )
        for choice in choices
    ]
    console.print_table(name, ("method", "chosen", "mAP without", "mAP with", "worth it"), rows)
    console.say(
        f"judged by {chosen.queries} queries of {chosen.groups} groups found through {chosen.source}, not by labels"
    )
    for choice in choices:
        console.say(f"{choice.method}: {choice.reason}")
