"""The command `resight`: reads arguments, calls the library, prints. Heavy modules are imported by the command that
needs them, so that `resight --help` stays fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resight.cli import console
from resight.cli import evaluate as cli_evaluate
from resight.cli import experiment as cli_experiment
from resight.cli import fuse as cli_fuse
from resight.cli import graph as cli_graph
from resight.cli import models as cli_models
from resight.cli import refine as cli_refine
from resight.cli import train as cli_train
from resight.cli import whiten as cli_whiten
from resight.errors import ResightError
from resight.version import __version__

if TYPE_CHECKING:
    from resight.collection.answer import Answer
    from resight.collection.collection import Collection
    from resight.collection.ingest import Report
    from resight.images.scan import Scan

app = typer.Typer(
    help="Find every photograph of the same thing, with proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Argument(metavar="NAME.resight", help="The collection.")]
Photos = Annotated[list[str], typer.Argument(help="Files and folders; folders with all that lies in them.")]
Jobs = Annotated[int, typer.Option(help="Threads; 0: one per processor.", min=0)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Hidden = Annotated[bool, typer.Option(help="Also read files and folders whose name starts with a dot.")]
BoxText = Annotated[str | None, typer.Option("--box", metavar="X,Y,W,H", help="Part of the query, in its pixels.")]
Top = Annotated[int, typer.Option(help="How many results.", min=1)]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        console.say(f"resight {__version__}")
        raise typer.Exit


@app.command()
def index(
    photos: Photos,
    to: Annotated[str, typer.Option(metavar="NAME.resight", help="The collection to make or to continue.")],
    recipe: Annotated[
        str | None, typer.Option(help="How photos are described: classic (the default), gem, hybrid, ...")
    ] = None,
    backbone: Annotated[
        Path | None, typer.Option(help="Network of the global descriptor: an ONNX file, or a Hugging Face folder.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Published checkpoint of the global descriptor.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A csv file of photo,label: labelled photos to keep beside the collection.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the recipe.")
    ] = None,
    codebook: Annotated[Path | None, typer.Option(help="Use this codebook instead of learning one.")] = None,
    hidden: Hidden = False,
    jobs: Jobs = 0,
    json: Json = False,
) -> None:
    """Index photos into a collection; run it again to continue, or to take in what is new or changed."""
    from resight.collection.collection import open_or_create
    from resight.index.asmk import Codebook

    with console.one_sentence():
        words = None if codebook is None else Codebook.load(codebook)
        found = _scan(photos, hidden)
        files = {"backbone": backbone, "weights": weights}
        given = {name: str(path) for name, path in files.items() if path is not None}
        collection = open_or_create(to, recipe, {**cli_evaluate.settings(set_ or []), **given})
        _add(collection, found, jobs=jobs, codebook=words, json=json)
        if labels is not None:
            _label(collection, labels, json)


@app.command()
def add(name: Name, photos: Photos, hidden: Hidden = False, jobs: Jobs = 0, json: Json = False) -> None:
    """Add photos to a collection that exists."""
    from resight.collection.collection import open_collection

    with console.one_sentence():
        _add(open_collection(name), _scan(photos, hidden), jobs=jobs, json=json)


@app.command()
def remove(
    name: Name,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of the photos to take out.")] = None,
    missing: Annotated[bool, typer.Option(help="Take out the photos whose file is gone.")] = False,
    json: Json = False,
) -> None:
    """Take photos out of a collection; the files stay."""
    from resight.collection.collection import open_collection
    from resight.collection.ingest import missing_files
    from resight.errors import UsageError

    with console.one_sentence():
        collection = open_collection(name)
        chosen = [*(ids or []), *(missing_files(collection.tables) if missing else [])]
        if not chosen and not missing:
            raise UsageError("nothing to remove: give ids, or --missing")
        with console.progress(json) as progress:
            count = collection.remove(chosen, progress=progress) if chosen else 0
        console.print_json({"removed": count}) if json else console.say(f"removed {_photos(count)}")


@app.command()
def search(
    name: Name,
    image: Annotated[str, typer.Argument(help="A photo, or the id of an indexed one.")],
    box: BoxText = None,
    top: Top = 20,
    where: Annotated[str | None, typer.Option(help="An SQL condition, such as \"taken_at > '2020'\".")] = None,
    recipe: Annotated[str | None, typer.Option(help="How to rank, such as explore-exploit; else as indexed.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the recipe.")
    ] = None,
    json: Json = False,
    html: Annotated[Path | None, typer.Option(help="Write a report with the proofs as pictures.")] = None,
) -> None:
    """Find the photos that show what a photo shows."""
    from resight.collection.collection import open_collection
    from resight.reports.answers import answer_json, report_query, write_report
    from resight.reports.graph_figure import graph_figure
    from resight.types import Box

    with console.one_sentence():
        collection = open_collection(name)
        part = None if box is None else Box.parse(box)
        options = cli_evaluate.settings(set_ or [])
        answer = collection.search(image, part, top, where, recipe, **options)
        if html is not None:
            graph = graph_figure(collection, answer, recipe, options)
            write_report(html, _page(collection, answer, report_query(collection, answer), graph))
        if json:
            console.print_json(answer_json(answer))
            return
        _print_answer(answer)
        if html is not None:
            console.say(f"report: {html}")


@app.command()
def explain(
    name: Name,
    image: Annotated[str, typer.Argument(help="The query: a photo, or the id of an indexed one.")],
    result_id: Annotated[str, typer.Argument(help="The id of the result.")],
    out: Annotated[Path | None, typer.Option(help="Write the matched features as a picture.")] = None,
    box: BoxText = None,
    recipe: Annotated[str | None, typer.Option(help="As for `resight search`.")] = None,
    json: Json = False,
) -> None:
    """Say, and draw, why a photo was found."""
    from resight.collection.collection import open_collection
    from resight.reports.answers import explanation_json, match_picture, save_picture
    from resight.types import Box

    with console.one_sentence():
        collection = open_collection(name)
        explanation = collection.explain(image, result_id, None if box is None else Box.parse(box), recipe)
        if out is not None:
            save_picture(out, match_picture(collection, explanation.query, explanation.result))
        if json:
            console.print_json(explanation_json(explanation))
            return
        result = explanation.result
        verdict = "a match" if result.match else "no match"
        console.say(f"{result.id}: {verdict}, rank {result.rank}, score {result.score:.1f}")
        for item in explanation.evidence:
            console.say(f"  {item.stage}: {item.summary}")
        if out is not None:
            console.say(f"picture: {out}")


@app.command()
def info(name: Name, json: Json = False) -> None:
    """Say what a collection holds."""
    from dataclasses import asdict

    from resight.collection.collection import open_collection

    with console.one_sentence():
        facts = asdict(open_collection(name).info())
        if json:
            console.print_json(facts)
            return
        console.print_table(
            f"{name}", ("what", "value"), [(key.replace("_", " "), _plain(v)) for key, v in facts.items()]
        )


@app.command()
def check(
    name: Name,
    repair: Annotated[bool, typer.Option(help="Rebuild or remove what is broken.")] = False,
    json: Json = False,
) -> None:
    """Check a collection against its stamp, its features and its derived files."""
    from resight.collection.check import check_collection, repair_collection

    with console.one_sentence():
        if repair:
            with console.progress(json) as progress:
                findings = repair_collection(name, progress=progress)
        else:
            findings = check_collection(name)
        rows = [("ok" if f.ok else "BROKEN", f.name, f.message, f.repair or "") for f in findings]
        if json:
            console.print_json([dict(zip(("state", "name", "message", "repair"), row, strict=True)) for row in rows])
        else:
            console.print_table(name, ("state", "what", "finding", "resight check --repair would"), rows)
        if not all(finding.ok for finding in findings):
            raise typer.Exit(1)


@app.command()
def duplicates(
    name: Name,
    near: Annotated[bool, typer.Option(help="Also the same picture in other sizes, crops and edits.")] = True,
    json: Json = False,
) -> None:
    """List groups of photos that are the same file, or the same picture proven by geometry."""
    from resight.collection.collection import open_collection
    from resight.collection.duplicates import exact_duplicates, near_duplicates

    with console.one_sentence():
        collection = open_collection(name)
        groups = [("exact", group) for group in exact_duplicates(collection)]
        if near:
            with console.progress(json) as progress:
                groups += [("near", group) for group in near_duplicates(collection, progress=progress)]
        if json:
            console.print_json([{"kind": kind, "ids": group} for kind, group in groups])
        elif not groups:
            console.say("no duplicates")
        else:
            rows = [(number, kind, id_) for number, (kind, group) in enumerate(groups, 1) for id_ in group]
            console.print_table(name, ("group", "kind", "id"), rows)


@app.command()
def demo(
    to: Annotated[Path, typer.Option(help="Folder for the photos, the collection and the report.")] = Path("demo-out"),
    seed: Annotated[int, typer.Option(help="Makes other photographs.", min=0)] = 0,
    json: Json = False,
) -> None:
    """Make 200 photographs, index them, search for every object, and write the report."""
    from resight.demo.run import run_demo

    with console.one_sentence():
        with console.progress(json) as progress:
            outcome = run_demo(to, seed=seed, progress=progress)
        if json:
            console.print_json({"map": outcome.map, "report": str(outcome.report), "queries": outcome.rows()})
            return
        columns = ("query", "found", "of", "AP", "match / right", "ms")
        console.print_table("Where else is this thing?", columns, outcome.table())
        console.say(f"mAP {100 * outcome.map:.1f} over {len(outcome.queries)} queries, {outcome.photos} photos")
        console.say(f"report: {outcome.report}")
        console.say(f"try:    resight search {outcome.collection} {outcome.example}")


cli_evaluate.register(app)
cli_experiment.register(app)
cli_fuse.register(app)
cli_graph.register(app)
cli_models.register(app)
cli_refine.register(app)
cli_train.register(app)
cli_whiten.register(app)


def main() -> None:
    """Entry point of the command `resight`."""
    app()


def _scan(photos: list[str], hidden: bool) -> Scan:
    """The photos that are there; refuses to go on when there is none."""
    from resight.images.scan import scan

    found = scan(photos, hidden=hidden)
    if not found.photos and not found.problems:
        where = ", ".join(photos[:3]) + (", ..." if len(photos) > 3 else "")
        raise ResightError(f"there are no photos in {where}: give a folder that holds some, or the photos themselves")
    return found


def _add(collection: Collection, found: Scan, *, json: bool, **options: Any) -> None:
    with console.progress(json) as progress:
        report = collection.add(found, progress=progress, **options)
    _print_report(collection, report, json)
    if report.interrupted:
        console.leave_interrupted("stopped: what was read is indexed; run the same command again for the rest")
    if not len(collection.tables.feature_rows):
        raise ResightError(f"none of the files given to {collection.path} can be read as a photo: add some that can")


def _label(collection: Collection, path: Path, json: bool) -> None:
    from resight.fitting.improve import add_labels

    with console.progress(json) as progress:
        count, problems = add_labels(collection, path, progress=progress)
    if not json:
        console.say(f"{collection.path.name}: {_photos(count)} with labels beside it")
    for problem in problems:
        console.warn(problem.message)


def _print_report(collection: Collection, report: Report, json: bool) -> None:
    if json:
        problems = [{"path": p.path, "kind": p.kind, "message": p.message} for p in report.problems]
        counts = {key: getattr(report, key) for key in ("added", "updated", "unchanged", "skipped", "interrupted")}
        console.print_json({"collection": str(collection.path), **counts, "problems": problems})
        return
    if report.problems:
        rows = [(problem.kind, problem.message) for problem in report.problems[:20]]
        console.print_table(f"{len(report.problems)} files could not be used", ("kind", "what"), rows)
        if len(report.problems) > len(rows):
            console.say(f"... and {len(report.problems) - len(rows)} more: --json lists them all")
    console.say(
        f"{collection.path.name}: {_photos(len(collection.tables.feature_rows))} searchable "
        f"({report.added} added, {report.updated} updated, {report.unchanged} unchanged, {report.skipped} skipped)"
    )


def _print_answer(answer: Answer) -> None:
    proofs = [(r.inliers,) if answer.rule.proof else () for r in answer.results]
    rows = [
        (r.rank, r.id, r.score, *proof, "match" if r.match else "")
        for r, proof in zip(answer.results, proofs, strict=True)
    ]
    columns = ("rank", "id", "score", *(("inliers",) if answer.rule.proof else ()), "")
    console.print_table(answer.query.name, columns, rows)
    matches = sum(result.match for result in answer.results)
    verdict = f"{matches} match{'es' if matches > 1 else ''}" if matches else "no confident match"
    took = f"{1000 * answer.seconds[0]:.0f} ms to read the query, {1000 * answer.seconds[1]:.0f} ms to search"
    console.say(f"{verdict} ({answer.rule}); {took}")
    if answer.pending:
        console.warn(f"{_photos(answer.pending)} stored but not searchable yet: run resight index again to finish")


def _page(collection: Collection, answer: Answer, query: Any, graph: bytes | None) -> Any:
    from resight.viz.report import ReportPage

    summary = [("collection", collection.path.name), ("photos", str(len(collection.tables.feature_rows)))]
    summary.append(("search", f"{1000 * sum(answer.seconds):.0f} ms"))
    figures = [] if graph is None else [("How the first results hang together: green edges are proven", graph)]
    return ReportPage("Where else is this?", answer.query.name, summary, figures, [query])


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "defaults"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else console.cell(value)


def _photos(count: int) -> str:
    return f"{count} photo" + ("" if count == 1 else "s")
