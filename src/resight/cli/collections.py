"""The commands that make, change and look after a collection: index, add, remove, relearn, codebook, label, info,
check, and
those that look through it: duplicates, group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resight.cli import console, options
from resight.cli.ending import INTERRUPTED
from resight.errors import ResightError, UsageError

if TYPE_CHECKING:
    from resight.collection.collection import Collection
    from resight.collection.ingest import Report
    from resight.images.scan import Scan

PROBLEMS = 20  # files that could not be used of which the text says why


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (index, add, remove, relearn, codebook, label, info, check, duplicates, group):
        app.command()(command)


def index(
    photos: options.Photos,
    to: Annotated[str, typer.Option(metavar="NAME.resight", help="The collection to make or to continue.")],
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="How photos are described: classic by default; gem, ...")
    ] = None,
    backbone: options.Backbone = None,
    weights: options.Weights = None,
    second: options.Second = None,
    set_: options.Set = None,
    codebook: options.Codebooks = None,
    hidden: options.Hidden = False,
    device: options.RunsOn = None,
    jobs: options.Jobs = 0,
    json: options.Json = False,
) -> None:
    """Index photos into a collection; run it again to continue, or to take in what is new or changed."""
    from resight.collection.codebooks import codebook_file
    from resight.collection.open import open_or_create
    from resight.exchange.photo_sources import listed_tags
    from resight.features.networks.device import use_device
    from resight.index.asmk import Codebook
    from resight.recipes.catalogue import INDEXING

    use_device(device)
    options.checked_recipe(recipe, INDEXING)
    words = {kind: Codebook.load(file) for kind, file in map(codebook_file, codebook or ())}
    found = scanned(photos, hidden)
    parameters = {**options.settings(set_), **options.given(backbone=backbone, weights=weights, second=second)}
    tags = listed_tags(photos)
    _add(open_or_create(to, recipe, parameters), found, tags, jobs=jobs, codebooks=words, json=json)


def add(
    name: options.Name,
    photos: options.Photos,
    hidden: options.Hidden = False,
    device: options.RunsOn = None,
    jobs: options.Jobs = 0,
    json: options.Json = False,
) -> None:
    """Add photos to a collection that exists."""
    from resight.exchange.photo_sources import listed_tags

    tags = listed_tags(photos)
    _add(options.opened(name, device), scanned(photos, hidden), tags, jobs=jobs, json=json)


def remove(
    name: options.Name,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of the photos to take out.")] = None,
    missing: options.Missing = False,
    folders: Annotated[
        bool, typer.Option("--folders", help="With --missing: forget photos whose whole folder is gone, too.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Take photos out of a collection; the files stay."""
    from resight.collection.ingest import absent_roots, missing_files

    collection = options.opened(name)
    if missing and not folders and (absent := absent_roots(collection.snapshot.tables)):
        folder, count = next(iter(absent.items()))
        raise UsageError(
            f"the folder {folder} of {console.count(count, 'photo')} is not there, as if its disk were unplugged: "
            "bring it back, or forget its photos with --missing --folders"
        )
    chosen = [*(ids or []), *(missing_files(collection.snapshot.tables) if missing else [])]
    if not chosen and not missing:
        raise UsageError("there is nothing to remove: give ids, or --missing")
    with console.progress(json) as progress:
        count = collection.remove(chosen, progress=progress) if chosen else 0
    console.print_json({"removed": count}) if json else console.say(f"{console.count(count, 'photo')} removed")


def relearn(name: options.Name, json: options.Json = False) -> None:
    """Learn visual words and calibration anew from all photos of a collection, as indexing them at once would."""
    collection = options.opened(name)
    with console.progress(json) as progress:
        collection.relearn(progress=progress)
    words, photos = collection.info().words, collection.snapshot.tables.readable
    if json:
        console.print_json({"words": words, "photos": photos, "threshold": collection.threshold})
        return
    console.say(f"{name}: {words:,} visual words and the calibration learned from {console.count(photos, 'photo')}")


def codebook(
    name: options.Name,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Write the codebook to this file.")],
    features: Annotated[
        str | None, typer.Option(metavar="KIND", help="Write those of this kind of features, where several are kept.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Write the visual words of a collection to a file, for index --codebook of other collections."""
    from resight.collection.codebooks import codebook_of

    found = codebook_of(options.opened(name).snapshot, features)
    found.save(out)
    if json:
        console.print_json({"words": len(found), "dim": found.dim, "file": str(out)})
    else:
        console.say(f"{out}: {len(found):,} visual words of {found.dim} dimensions")


def label(
    name: options.Name,
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="Labelled photos with the header photo,label: paths and labels.")
    ],
    verified: Annotated[
        bool, typer.Option("--verified", help="Let geometry name labels, too, beside those that look-alikes vote for.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Keep labelled photos beside a collection, which recipe semi-supervised follows and never returns."""
    from resight.fitting.labels import label as add_labels

    with console.progress(json) as progress:
        count, problems = add_labels(options.opened(name), file, verified=verified, progress=progress)
    if json:
        console.print_json({"labelled": count, "problems": [_problem(problem) for problem in problems]})
        return
    console.say(f"{name}: {console.count(count, 'photo')} with labels beside it")
    for problem in problems:
        console.warn(problem.message)


def info(name: options.Name, json: options.Json = False) -> None:
    """Print what a collection holds."""
    from dataclasses import asdict

    facts = asdict(options.searched(name).info())
    if json:
        console.print_json(facts)
        return
    parts = facts.pop("parts")
    console.print_table(name, ("what", "value"), [(key.replace("_", " "), _plain(v)) for key, v in facts.items()])
    columns = ("disk", "disk_per_photo", "memory", "memory_per_photo")
    rows = [(part, *(f"{size[column]:,}" for column in columns)) for part, size in parts.items()]
    heads = ("bytes of", *(column.replace("_", " ") for column in columns))
    console.print_table("what each part takes", heads, rows)


def check(
    name: options.Name,
    repair: Annotated[bool, typer.Option("--repair", help="Rebuild or remove what is broken.")] = False,
    json: options.Json = False,
) -> None:
    """Check a collection against its stamp, its features and its derived files."""
    from resight.collection.check import check_collection, repair_collection

    if repair:
        with console.progress(json) as progress:
            findings = repair_collection(name, progress=progress)
    else:
        with console.waiting(f"checking {name}", json):
            findings = check_collection(name)
    rows = [("ok" if f.ok else "BROKEN", f.name, f.message, f.repair or "") for f in findings]
    if json:
        console.print_json([dict(zip(("state", "name", "message", "repair"), row, strict=True)) for row in rows])
    else:
        console.print_table(name, ("state", "what", "finding", "resight check --repair would"), rows)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def duplicates(
    name: options.Name,
    near: Annotated[bool, typer.Option(help="List the same picture in other sizes, crops and edits, too.")] = True,
    report: options.Report = None,
    json: options.Json = False,
) -> None:
    """List groups of photos that are the same file, or the same picture proven by geometry."""
    from resight.collection.duplicates import exact_duplicates, near_duplicates

    collection = _opened_for(report, name)
    groups = [("exact", group) for group in exact_duplicates(collection)]
    with console.progress(json) as progress:
        if near:
            groups += [("near", group) for group in near_duplicates(collection, progress=progress)]
    if report is not None:
        titles = {"exact": "The same file", "near": "The same picture"}
        shown = [(f"{titles[kind]}, {len(ids)} times", ids, [""] * len(ids)) for kind, ids in groups]
        meaning = ["The same file means the same content; the same picture is proven by geometry, whatever its size."]
        _write_groups(report, collection, "Duplicates", shown, meaning, "There are no duplicates.")
    if json:
        console.print_json([{"kind": kind, "ids": group} for kind, group in groups])
    elif not groups:
        console.say("no duplicates")
    else:
        rows = [(number, kind, id_) for number, (kind, group) in enumerate(groups, 1) for id_ in group]
        console.print_table(name, ("group", "kind", "id"), rows)
    if report is not None and not json:
        console.say(f"report: {report}")


def group(name: options.Name, report: options.Report = None, json: options.Json = False) -> None:
    """List the photos by the thing they show, as far as geometry proves it."""
    from resight.collection.groups import proven_groups

    collection = _opened_for(report, name)
    with console.progress(json) as progress:
        groups = proven_groups(collection, progress=progress)
    if report is not None:
        shown = [(f"{len(g.ids)} photos of one thing", g.ids, [_joined(count) for count in g.inliers]) for g in groups]
        meaning = [
            "Geometry proves that the photos of a group show one thing, some of them through others.",
            "Inliers are features that one change of view carries from one photo to another; the most are given.",
        ]
        _write_groups(
            report, collection, "What is here?", shown, meaning, "No two photos are proven to show one thing."
        )
    if json:
        console.print_json([{"ids": g.ids, "inliers": g.inliers} for g in groups])
    elif not groups:
        console.say("no two photos are proven to show one thing")
    else:
        rows = [
            (number, id_, _joined(count))
            for number, g in enumerate(groups, 1)
            for id_, count in zip(g.ids, g.inliers, strict=True)
        ]
        console.print_table(name, ("group", "id", "joined by"), rows)
    if report is not None and not json:
        console.say(f"report: {report}")


def _opened_for(report: Path | None, name: str) -> Collection:
    """The collection, when there is a folder to write the report in."""
    from resight.reports.files import need_folder

    need_folder(report)
    return options.opened(name)


def _joined(inliers: int | None) -> str:
    return "the same file" if inliers is None else f"{inliers} inliers"


def _write_groups(
    path: Path,
    collection: Collection,
    title: str,
    groups: Sequence[tuple[str, Sequence[str], Sequence[str]]],
    legend: Sequence[str],
    nothing: str,
) -> None:
    from resight.reports.files import write_page
    from resight.reports.groups_page import ShownGroup, groups_page

    shown = [ShownGroup(*group) for group in groups]
    write_page(path, groups_page(collection, title, shown, legend, nothing))


def scanned(photos: list[str], hidden: bool) -> Scan:
    """The photos that are there; refuses to go on when there is none."""
    from resight.exchange.photo_sources import listed_photos
    from resight.images.scan import scan

    found = scan(listed_photos(photos), hidden=hidden)
    if not found.photos and not found.problems:
        where = ", ".join(photos[:3]) + (", ..." if len(photos) > 3 else "")
        raise ResightError(f"there are no photos in {where}: give a folder that holds some, or the photos themselves")
    return found


def _add(collection: Collection, found: Scan, tags: Mapping[str, Sequence[str]], *, json: bool, **how: Any) -> None:
    with console.progress(json) as progress:
        report = collection.add(found, progress=progress, **how)
    for tag, photos in tags.items() if not report.interrupted else ():
        collection.tag(photos, add=[tag])
    print_report(collection, report, json)
    if report.interrupted:
        console.leave(INTERRUPTED, "stopped: what was read is indexed; run the same command again for the rest")
    if not collection.snapshot.tables.readable:
        raise ResightError(f"none of the files given to {collection.path} can be read as a photo: add some that can")


def print_report(collection: Collection, report: Report, json: bool) -> None:
    """What came of adding photos."""
    if json:
        counts = {
            key: getattr(report, key) for key in ("added", "updated", "moved", "unchanged", "skipped", "interrupted")
        }
        problems = [_problem(problem) for problem in report.problems]
        notes = {"problems": problems, "notes": report.notes}
        console.print_json({"collection": str(collection.path), **counts, **notes})
        return
    if report.problems:
        rows = [(problem.kind, problem.message) for problem in report.problems[:PROBLEMS]]
        console.print_table(f"{console.count(len(report.problems), 'file')} could not be used", ("kind", "what"), rows)
        if len(report.problems) > len(rows):
            console.say(f"... and {len(report.problems) - len(rows)} more: --json lists them all")
    console.say(
        f"{collection.path.name}: {console.count(collection.snapshot.tables.readable, 'photo')} searchable "
        f"({report.added} added, {report.updated} updated, {report.moved} moved, {report.unchanged} unchanged, "
        f"{report.skipped} skipped)"
    )
    for note in report.notes:
        console.warn(note)


def _problem(problem: Any) -> dict[str, str]:
    return {"path": problem.path, "kind": problem.kind, "message": problem.message}


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "defaults"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else console.cell(value)
