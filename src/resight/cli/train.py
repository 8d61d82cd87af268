"""The commands `train ...`: networks that are trained here, on a data set or on one's own photos without labels."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resight.cli import console, options

if TYPE_CHECKING:
    from resight.evaluation.significance import Comparison
    from resight.fitting.training import Training
    from resight.training.recipes import Kind

app = typer.Typer(
    help="Train a network: on a data set with labels, or on your own photos without any.",
    no_args_is_help=True,
)

Data = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DATA]",
        help="A folder of classes, a CSV file of labels or pairs, or a pickle of retrieval-SfM or GL18; or --from.",
    ),
]
Source = Annotated[
    Path | None,
    typer.Option("--from", metavar="NAME.resight", help="Learn from this collection: pairs that geometry proves."),
]
Folder = Annotated[
    Path | None, typer.Option("--photos", metavar="FOLDER", help="The folder of the photos, where it is not DATA's.")
]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="Write the trained network to this file.")]
Trunk = Annotated[
    Path | None, typer.Option("--backbone", metavar="FILE.onnx", help="The network to start from, as an ONNX file.")
]
Weights = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="The network to start from, as a checkpoint of torch.")
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", metavar="N", help="Number of epochs; by default those of the paper.", min=1)
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Random seed; 0 by default.", min=0)]
Proofs = Annotated[
    int | None,
    typer.Option("--proofs", metavar="N", help="Number of photos of --from whose matches are proven; all by default."),
]
State = Annotated[
    Path | None,
    typer.Option("--checkpoint", metavar="FILE", help="Keep the state of the training here, to continue when stopped."),
]
Minutes = Annotated[float, typer.Option("--minutes", metavar="N", help="Minutes between two checkpoints.", min=0)]
Precision = Annotated[
    str, typer.Option("--precision", metavar="NAME", help="Compute in this precision: auto, float32 or bfloat16.")
]
Compiled = Annotated[bool, typer.Option("--compile", help="Compile the network first, which takes minutes.")]
Picture = Annotated[
    Path | None,
    typer.Option("--picture", metavar="FILE.jpg", help="Draw rankings of some queries before and after to this file."),
]
History = Annotated[
    Path | None, typer.Option("--history", metavar="FILE.jsonl", help="Append a line of JSON for every epoch.")
]


def register(root: typer.Typer) -> None:
    """Add the commands to `root`."""
    root.add_typer(app, name="train")


def _given(
    out: Out,
    data: Data = None,
    recipe: str = "",
    source: Source = None,
    photos: Folder = None,
    backbone: Trunk = None,
    weights: Weights = None,
    set_: options.Set = None,
    epochs: Epochs = None,
    seed: Seed = None,
    proofs: Proofs = None,
    device: options.Device = "cpu",
    precision: Precision = "auto",
    compiled: Compiled = False,
    checkpoint: State = None,
    minutes: Minutes = 10.0,
    history: History = None,
    log: options.Log = None,
    report: options.Report = None,
    picture: Picture = None,
    json: options.Json = False,
) -> dict[str, Any]:
    """What both commands take; they differ in the recipes alone."""
    return locals()


def _add(kind: Kind, default: str, names: str, told: str) -> None:
    """Add the command that trains networks of `kind` by one of the recipes `names`."""

    @wraps(_given)
    def command(**given: Any) -> None:
        _train(kind, **_given(**given))

    choice = Annotated[str, typer.Option(metavar="NAME", help=f"What is trained: {names}.")]
    signature = inspect.signature(_given, eval_str=True)
    known = signature.parameters | {
        "recipe": signature.parameters["recipe"].replace(default=default, annotation=choice)
    }
    command.__signature__ = signature.replace(parameters=list(known.values()))  # type: ignore[attr-defined]
    command.__annotations__ = {name: parameter.annotation for name, parameter in known.items()}
    command.__doc__ = told
    app.command(kind)(command)


_add(
    "descriptor",
    "gem",
    "gem, gem-whitened, rmac, ap-gem, solar or delg",
    "Train a global descriptor. Use what it writes as --weights of index and evaluate.",
)
_add("local", "how", "how, context or fire", "Train local descriptors. Use what it writes as --weights of their kind.")


def _train(
    kind: Kind,
    *,
    out: Path,
    report: Path | None,
    picture: Path | None,
    json: bool,
    set_: list[str] | None,
    epochs: int | None,
    seed: int | None,
    history: Path | None,
    log: Path | None,
    **given: Any,
) -> None:
    from resight.fitting.training import Asked, train_network
    from resight.reports.files import need_folder
    from resight.training.parallel import outermost
    from resight.training.run import Place

    for file in (out, report, picture, history, given["checkpoint"]):
        need_folder(file)
    settings = options.settings(set_)
    settings |= {name: value for name, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    place = Place(*(given.pop(name) for name in ("device", "precision", "compiled", "checkpoint", "minutes")))
    asked = Asked(kind, out=out, settings=settings, **given)
    with console.progress(json or not outermost()) as progress:
        training = train_network(asked, place, on_epoch=_recorder(history, log), progress=progress)
    if not outermost():
        return
    gain = _gain(training)
    _write(report, picture, training, gain)
    _print(training, gain, json)
    for name, path in (("report", report), ("picture", picture)):
        if path is not None and path.exists() and not json:
            console.say(f"{name}: {path}")


def _gain(training: Training) -> Comparison | None:
    """After against before, by the paired tests of `evaluate`; None where no query could be scored in both."""
    import numpy as np

    from resight.evaluation.significance import compare

    before, after = training.outcome.before.precision, training.outcome.after.precision
    known = ~np.isnan(before) & ~np.isnan(after)
    return compare(after[known], before[known], seed=training.recipe.settings.seed) if known.any() else None


def _recorder(history: Path | None, log: Path | None) -> Callable[[Any], None]:
    from resight.training.loop import json_log, tensorboard_log
    from resight.training.parallel import outermost

    writers: list[Callable[[Any], None]] = []
    if outermost():
        writers += [] if history is None else [json_log(history)]
        writers += [] if log is None else [tensorboard_log(log)]

    def record(epoch: Any) -> None:
        for write in writers:
            write(epoch)

    return record


def _write(report: Path | None, picture: Path | None, training: Training, gain: Comparison | None) -> None:
    from resight.reports.files import write_page
    from resight.reports.training_page import rankings_picture, training_page
    from resight.store.folder import write_atomic
    from resight.viz.pictures import encode_jpeg
    from resight.viz.report import render

    outcome, data = training.outcome, training.data
    if report is not None:
        write_page(report, render(training_page(training.recipe.name, data, outcome, gain)))
    if picture is None:
        return
    drawn = rankings_picture(data.judge, outcome.before, outcome.after)
    if drawn is None:
        console.warn(f"{picture} is not written: no query was found better or worse than before")
        return
    write_atomic(picture, encode_jpeg(drawn, drawn.width, drawn.height))


def _print(training: Training, gain: Comparison | None, json: bool) -> None:
    from resight.reports.training_page import gain_text

    outcome, (before, after) = training.outcome, training.gain
    trained, learn = outcome.trained, training.data.learn
    if json:
        console.print_json(
            {
                "recipe": training.recipe.name,
                "files": [str(file) for file in training.files],
                "photos": len(learn),
                "pairs": len(learn.pairs),
                "epochs": len(trained.epochs) - 1,
                "best": trained.best,
                "stopped": trained.stopped,
                "fault": trained.fault,
                "before": before,
                "after": after,
                "gain": None if gain is None else asdict(gain),
            }
        )
        return
    console.say(f"learned from {console.count(len(learn), 'photo')} with {console.count(len(learn.pairs), 'pair')}")
    console.say(
        f"epoch {trained.best} of {len(trained.epochs) - 1} was kept: mAP of the photos held back "
        f"{console.percent(before)} before, {console.percent(after)} after"
    )
    if gain is not None:
        console.say(f"gain, 95 % interval: {gain_text(gain)}")
    if trained.best == 0:
        console.warn("no epoch was better than the start, which is what was written")
    if trained.stopped == "diverged":
        console.warn(f"training stopped early, with the best state so far: {trained.fault}")
    for file in training.files:
        console.say(f"written: {file}")
