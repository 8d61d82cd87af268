"""The commands `fit ...`: what can be learned about a collection from its own photos, in minutes, and is kept in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resight.cli import console, options
from resight.errors import UsageError

if TYPE_CHECKING:
    from resight.artifacts.separation import Drift, Separated
    from resight.collection.collection import Collection
    from resight.fitting.similarity import Training
    from resight.types import Int64

app = typer.Typer(
    help="Fit something to your own photos: it is kept in the collection, which searches with it from then on.",
    no_args_is_help=True,
)


def register(root: typer.Typer) -> None:
    """Add the commands to `root`."""
    root.add_typer(app, name="fit")


@app.command()
def whitening(
    name: options.Name,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="zca, the default, or pca; with --pairs or --groups: learned, the default, or adapted.",
        ),
    ] = None,
    dim: Annotated[int | None, typer.Option(metavar="N", help="Number of dimensions to keep.", min=1)] = None,
    pairs: options.Pairs = None,
    groups: options.Groups = None,
    from_: options.From = None,
    out: options.Out = None,
    json: options.Json = False,
) -> None:
    """Whiten the global descriptors: their common directions count less."""
    from resight.features.whitening import Whitening
    from resight.fitting.whitening import fit_whitening_to, use_whitening
    from resight.reports.files import need_folder

    need_folder(out)
    if from_ is not None and any(option is not None for option in (method, dim, pairs, groups)):
        raise UsageError(f"--from {from_} is a finished whitening: leave out the options of the fit")
    collection = options.opened(name)
    if from_ is not None:
        fitted = Whitening.load(from_)
    else:
        chosen = method or ("zca" if pairs is None and groups is None else "learned")
        with console.waiting("fitting the whitening", json):
            fitted = fit_whitening_to(collection, chosen, dim=dim, pairs=pairs, groups=groups)
    with console.progress(json) as progress:
        use_whitening(collection, fitted, progress=progress)
    if out is not None:
        fitted.save(out)
    _print_facts(name, {**fitted.provenance, "dim": fitted.dim}, json)


@app.command()
def fusion(
    name: options.Name, pairs: options.Pairs = None, groups: options.Groups = None, json: options.Json = False
) -> None:
    """Learn how much each kind of local features, and the global descriptor, counts when several are searched.

    Without examples, photos that geometry proves to match are the examples.
    """
    from resight.fitting.fusion import fit_fusion

    _not_both(pairs, groups)
    with console.waiting("comparing photos", json):
        learned = fit_fusion(options.opened(name), pairs, groups)
    if json:
        console.print_json({**asdict(learned), "weight": learned.weight})
        return
    first, *others = learned.weights
    counts = ", ".join(f"one of {console.part(key)} counts {learned.weights[key]:.2f}" for key in others)
    console.say(
        f"{name}: beside one standard deviation of {console.part(first)}, {counts} (from {learned.queries} queries "
        f"with {learned.matches} matches: {learned.source})"
    )


@app.command()
def separation(
    name: options.Name,
    verified: Annotated[
        bool, typer.Option("--verified", help="Join only photos that geometry proves to match.")
    ] = False,
    k: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of neighbours per photo; by default as many as stand out.", min=1),
    ] = None,
    published: Annotated[
        bool,
        typer.Option("--published", help="Train as in the paper: 5 neighbours, all epochs, descriptors as they are."),
    ] = False,
    epochs: options.Epochs = 200,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train from the start, although there are descriptors of a training.")
    ] = False,
    report: options.Report = None,
    log: options.Log = None,
    json: options.Json = False,
) -> None:
    """Pull the descriptors of neighbours together and push others apart, for recipe separation.

    Run it again to take in new photos without training.
    """
    from resight.artifacts.separation import drift
    from resight.fitting.separation import extend_separation
    from resight.reports.files import need_folder

    need_folder(report)
    collection = options.opened(name)
    stored = None if retrain else extend_separation(collection)
    if stored is None:
        how = {"verified": verified, "published": published, "k": k, "seed": seed, "device": device}
        stored = _train_separation(collection, log, json, epochs=epochs, **how)
    descriptors = collection.snapshot.descriptors
    assert descriptors is not None
    moved = drift(stored, descriptors)
    if report is not None:
        _write_separation(report, collection, stored)
    if json:
        console.print_json({"photos": len(stored.rows), **stored.facts, "drift": asdict(moved)})
        return
    _print_separation(name, stored, moved)
    if report is not None:
        console.say(f"report: {report}")


@app.command()
def regional(
    photos: options.Photos,
    backbone: Annotated[Path, typer.Option(metavar="FILE.onnx", help="Network whose maps are pooled.")],
    out: Annotated[Path, typer.Option(metavar="FILE.safetensors", help="Where the whitening is written.")],
    dim: Annotated[int | None, typer.Option(metavar="N", help="Number of dimensions to keep.", min=1)] = None,
    json: options.Json = False,
) -> None:
    """Learn the PCA whitening of regions of photos, for recipe rmac: index with --set region_whitening=FILE."""
    from resight.features.region_whitening import fit_region_whitening
    from resight.images.scan import scan
    from resight.recipes.catalogue import open_descriptor
    from resight.recipes.settings import GlobalSettings
    from resight.reports.files import need_folder

    need_folder(out)
    network = open_descriptor("rmac", GlobalSettings(backbone=str(backbone), pool="rmac"))
    with console.progress(json) as progress:
        fitted = fit_region_whitening(network, [photo.path for photo in scan(photos).photos], dim, progress=progress)
    fitted.save(out)
    _print_facts(str(out), {**fitted.provenance, "dim": fitted.dim}, json)


@app.command()
def regions(name: options.Name, json: options.Json = False) -> None:
    """Describe photos by regions of the network's maps, for recipe deep-spatial; run it again to take in new photos."""
    from resight.collection.regions import describe_regions

    with console.progress(json) as progress:
        count, problems = describe_regions(options.opened(name), progress=progress)
    if json:
        console.print_json({"described": count, "problems": [asdict(problem) for problem in problems]})
        return
    console.say(f"{name}: {console.count(count, 'photo')} with regions")
    for problem in problems:
        console.warn(problem.message)


@app.command()
def similarity(
    name: options.Name,
    pairs: options.Pairs = None,
    groups: options.Groups = None,
    photos: Annotated[
        int,
        typer.Option(
            metavar="N", help="Number of photos whose results geometry proves, where no examples are given.", min=2
        ),
    ] = 500,
    epochs: Annotated[
        int, typer.Option(metavar="N", help="Maximum number of epochs of each stage that learns pairs.", min=1)
    ] = 30,
    seed: options.Seed = 0,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE",
            help="The stage that searches use: DeepCosine, DeepSim or DeepSimH; by default the better of the last two.",
        ),
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep the state of the training in this folder, to continue when stopped."),
    ] = None,
    report: options.Report = None,
    out: options.Out = None,
    json: options.Json = False,
) -> None:
    """Train a network to tell which photos show the same thing, for recipe deep-similarity.

    Without examples, photos that geometry proves to match are the examples.
    """
    from resight.fitting.similarity import COSINE, PAIRS, fit_similarity
    from resight.reports.files import need_folder
    from resight.store.folder import faults

    _not_both(pairs, groups)
    need_folder(report)
    need_folder(out)
    collection = options.opened(name)
    if checkpoints is not None:
        with faults("make", checkpoints):
            checkpoints.mkdir(parents=True, exist_ok=True)
    with console.progress(json) as progress:
        training = fit_similarity(
            collection,
            pairs=pairs,
            groups=groups,
            photos=photos,
            cosine=replace(COSINE, seed=seed),
            options=replace(PAIRS, epochs=epochs, seed=seed),
            keep=keep,
            checkpoints=checkpoints,
            progress=progress,
        )
    if out is not None:
        training.similarity.save(out)
    if report is not None:
        _write_similarity(report, collection, training)
    _print_similarity(name, training, json)
    if report is not None and not json:
        console.say(f"report: {report}")


def _not_both(pairs: Path | None, groups: Path | None) -> None:
    if pairs is not None and groups is not None:
        raise UsageError("give --pairs or --groups, not both")


def _print_facts(name: str, facts: Mapping[str, Any], json: bool) -> None:
    if json:
        console.print_json({"collection": name, **facts})
    else:
        console.print_table(name, ("what", "value"), [(key, str(value)) for key, value in facts.items()])


def _train_separation(collection: Collection, log: Path | None, quiet: bool, *, epochs: int, **how: Any) -> Separated:
    from resight.fitting.separation import fit_separation_to

    record = _recorder(log)
    with console.progress(quiet) as progress:

        def show(epoch: Any) -> None:
            record(epoch)
            progress("training", epoch.number, epochs)

        stored = fit_separation_to(collection, epochs=epochs, on_epoch=show, progress=progress, **how)
        progress("training", epochs, epochs)  # it ends early when hidden neighbours are no longer found better
        return stored


def _recorder(log: Path | None) -> Callable[[Any], None]:
    if log is None:
        return lambda _: None
    from resight.training.loop import tensorboard_log

    return tensorboard_log(log)


def _write_separation(path: Path, collection: Collection, stored: Separated) -> None:
    import numpy as np

    from resight.reports.files import write_page
    from resight.reports.separation_page import separation_page
    from resight.viz.report import render

    known = np.isin(stored.trained, stored.rows)  # photos may have gone since
    before = stored.model.index.inputs[0][known]
    after = stored.vectors[np.isin(stored.rows, stored.trained)]
    proven = _proven(collection) if stored.facts["verified"] else None
    rows = stored.trained[known]
    page = separation_page(collection, stored.facts, before, after, rows, proven, stored.network)
    write_page(path, render(page))


def _proven(collection: Collection) -> Int64:
    """Rows (P, 2) of pairs that the collection's verified graph joins; none where it is there no more."""
    import numpy as np

    from resight.graph.listed import listed_pairs

    graph, descriptors = collection.snapshot.verified_graph, collection.snapshot.descriptors
    if graph is None or descriptors is None:
        return np.empty((0, 2), np.int64)
    return descriptors.rows[listed_pairs(graph)]


def _print_separation(name: str, stored: Separated, moved: Drift) -> None:
    facts = stored.facts
    edges = "verified neighbours" if facts["verified"] else "neighbours"
    trained = f"trained on {facts['photos']} with {facts['neighbours']:.1f} {edges} each"
    console.say(f"{name}: {console.count(len(stored.rows), 'photo')} with separated descriptors, {trained}")
    console.say(f"epoch {facts['best']} of {len(facts['epochs'])} was kept, beta {facts['beta']:.3f}")
    if facts["best"] == 0:
        console.warn(
            "no epoch found hidden neighbours better than the untrained network, which is kept: it smooths over "
            "neighbours, and may rank worse than the descriptors themselves"
        )
    if facts["stopped"] == "diverged":
        console.warn("the loss diverged: the last good state was kept")
    if moved.new or moved.gone:
        console.say(f"since the training {moved.new} photos came and {moved.gone} went")
    if moved.retrain:
        console.warn(f"{moved.retrain}: run resight fit separation {name} --retrain")


def _write_similarity(path: Path, collection: Collection, training: Training) -> None:
    import numpy as np

    from resight.reports.files import write_page
    from resight.reports.similarity_page import similarity_page
    from resight.viz.report import render

    held, stages = training.held, training.stages
    x, y = training.descriptors.matrix[held.left], training.descriptors.matrix[held.right]
    named = {"DeepCosine": stages.cosine, "DeepSim": stages.pairs, "DeepSimH": stages.hard}
    page = similarity_page(
        collection.path.name,
        kept=training.kept,
        order=training.order,
        cosine=np.einsum("nd,nd->n", x, y),
        scores=training.similarity.pairs(x, y),
        matching=held.matching,
        losses={key: [(e.number, e.loss, e.validation) for e in stage.epochs] for key, stage in named.items()},
    )
    write_page(path, render(page))


def _print_similarity(name: str, training: Training, json: bool) -> None:
    match = int(training.pairs.matching.sum())
    other = len(training.pairs) - match
    if json:
        facts = {"matching": match, "other": other, "kept": training.kept, "right_order": dict(training.order)}
        console.print_json({"collection": name, **facts})
        return
    console.say(f"{match} matching and {other} other pairs; a quarter of the groups was held back")
    rows = [
        (which, f"{console.percent(share)} %", "kept" if which == training.kept else "")
        for which, share in training.order.items()
    ]
    console.print_table("pairs of unseen photos in the right order", ("similarity", "share", ""), rows)
    if training.order["cosine"] >= training.order[training.kept]:
        console.warn("the plain cosine is as good on unseen photos: give more pairs before searching with this")
