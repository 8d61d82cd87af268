"""The commands `resight graph build` and `resight graph tune`."""

from __future__ import annotations

from typing import Annotated

import typer

from resight.cli import console

Name = Annotated[str, typer.Argument(metavar="NAME.resight", help="The collection.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

app = typer.Typer(help="The kNN graph of a collection, for recipes that follow it.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    """Add the commands to `root`."""
    root.add_typer(app, name="graph")


@app.command()
def build(
    name: Name,
    k: Annotated[int, typer.Option(help="Neighbours of every photo.", min=1)] = 50,
    verified: Annotated[bool, typer.Option(help="Also the graph of neighbours that geometry proves.")] = False,
    offline: Annotated[bool, typer.Option(help="Also solve diffusion for every photo, for fast queries.")] = False,
    json: Json = False,
) -> None:
    """Build the graph; run it again to continue a verified graph that was stopped."""
    from dataclasses import asdict

    from resight.collection.collection import open_collection
    from resight.fitting.improve import build_graph

    with console.one_sentence():
        collection = open_collection(name)
        with console.progress(json) as progress:
            reports = build_graph(collection, k, verified=verified, offline=offline, progress=progress)
        if json:
            console.print_json([asdict(report) for report in reports])
        else:
            rows = [(report.kind, report.nodes, report.edges, report.k) for report in reports]
            console.print_table(name, ("graph", "photos", "edges", "k"), rows)


@app.command()
def tune(name: Name, json: Json = False) -> None:
    """Choose the options of expansion, traversal and diffusion for a collection, without labels, and keep them."""
    from dataclasses import asdict

    from resight.collection.collection import open_collection
    from resight.fitting.improve import tune as choose

    with console.one_sentence():
        chosen = choose(open_collection(name))
        if json:
            console.print_json(asdict(chosen))
            return
        choices = (chosen.expansion, chosen.traversal, chosen.diffusion)
        rows = [
            (
                choice.method,
                ", ".join(f"{key}={value:g}" for key, value in choice.settings.items()),
                f"{100 * choice.plain:.1f}",
                f"{100 * choice.score:.1f}",
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
