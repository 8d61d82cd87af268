"""Arguments and options that several commands take, each declared once, and what is read out of their text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resight.errors import UsageError

if TYPE_CHECKING:
    from resight.collection.collection import Collection

LONGEST_VALUE = 2000  # characters of a value of --set

Name = Annotated[str, typer.Argument(metavar="NAME.resight", help="The folder of the collection.")]
Photos = Annotated[
    list[str],
    typer.Argument(
        help="Files and folders of photos; folders are read recursively. FiftyOne's samples.json stands for its photos."
    ),
]
Image = Annotated[str, typer.Argument(help="The query: the path of a photo, or the id of an indexed one.")]
File = Annotated[Path, typer.Argument(metavar="FILE")]

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text.")]
Report = Annotated[
    Path | None, typer.Option("--report", metavar="FILE.html", help="Write a page with pictures to this file.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of the recipe; may be given several times."),
]
Box = Annotated[
    str | None,
    typer.Option("--box", metavar="X,Y,W,H", help="Search for this part of the query, in its pixels."),
]
Top = Annotated[int, typer.Option("--top", metavar="N", help="Number of results.", min=1)]
Where = Annotated[
    str | None,
    typer.Option(
        "--where", metavar="SQL", help="Search only photos that fulfil this condition, such as \"taken_at > '2020'\"."
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="ENGINE",
        help="What searches: threads or ray://HOST:PORT for shards, milvus://HOST:PORT/NAME for global descriptors.",
    ),
]
Partial = Annotated[
    bool, typer.Option("--partial", help="Answer even if shards of the collection are gone, and say which.")
]
Ranked = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME",
        help="How results are ranked, such as explore-exploit; by default as the photos were indexed.",
    ),
]
Jobs = Annotated[
    int, typer.Option("--jobs", metavar="N", help="Number of threads; 0 stands for one per processor.", min=0)
]
Hidden = Annotated[bool, typer.Option("--hidden", help="Read files and folders whose names start with a dot, too.")]
Missing = Annotated[bool, typer.Option("--missing", help="Take out every photo whose file is gone.")]

Pairs = Annotated[
    Path | None,
    typer.Option(
        "--pairs", metavar="FILE.csv", help="Examples with the header left,right[,matching]: two ids, and 1 or 0."
    ),
]
Groups = Annotated[
    Path | None,
    typer.Option(
        "--groups", metavar="FILE.csv", help="Examples with the header id,group: photos of one thing share it."
    ),
]
Epochs = Annotated[int, typer.Option("--epochs", metavar="N", help="Maximum number of epochs.", min=0)]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Random seed.", min=0)]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="Where the training runs: cpu or cuda.")]
RunsOn = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Where networks run: auto, cpu, cuda, tensorrt, rocm, coreml, directml or openvino; by default "
        "$RESIGHT_DEVICE, or a GPU where there is one.",
    ),
]
Log = Annotated[
    Path | None, typer.Option("--log", metavar="FOLDER", help="Write event files for TensorBoard to this folder.")
]
From = Annotated[
    Path | None, typer.Option("--from", metavar="FILE", help="Use what --out wrote before, instead of fitting.")
]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the result to this file, too.")]
Neighbours = Annotated[int, typer.Option("--k", metavar="N", help="Number of neighbours of every photo.", min=1)]

Backbone = Annotated[
    Path | None,
    typer.Option(
        metavar="PLACE",
        help="Network of the features: an ONNX file; of a global descriptor, a Hugging Face folder, too.",
    ),
]
Weights = Annotated[Path | None, typer.Option(metavar="FILE", help="Published checkpoint of the features.")]
Second = Annotated[
    Path | None,
    typer.Option(metavar="PLACE", help="A further network of either kind: the vectors of both stand side by side."),
]
Codebooks = Annotated[
    list[str] | None,
    typer.Option(
        "--codebook",
        metavar="FILE",
        help="Use this codebook instead of learning one; KIND=FILE where several kinds of features are kept.",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="FOLDER",
        help="Where features and results are kept; by default $RESIGHT_CACHE or ~/.cache/resight.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="FOLDER", help="Where the data sets lie; by default $RESIGHT_DATA or ./data."),
]


def settings(pairs: Sequence[str] | None) -> dict[str, Any]:
    """The values of `--set KEY=VALUE`: numbers, true, false and null, lists in brackets, and text for all else.

    Raises `UsageError` for other forms, a key that is given twice, and values that are long, nested or refer to others.
    """
    from resight.safe_yaml import parse_yaml

    values: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, text = (part.strip() for part in pair.partition("="))
        shown = pair if len(pair) <= 80 else f"{pair[:77]}..."
        if not (key and equals):
            raise UsageError(f"--set {shown} is not of the form KEY=VALUE")
        if key in values:
            raise UsageError(f"--set {key} is given twice: leave one out")
        try:
            values[key] = parse_yaml(text, LONGEST_VALUE)
        except ValueError as error:
            raise UsageError(
                f"--set {shown} has no value that can be read ({error}): give a number, true, false, a word, or [1, 2]"
            ) from error
    return values


def checked_recipe(name: str | None, known: Iterable[str]) -> str | None:
    """`name`, as it is. Raises `UsageError`, listing the recipes, for an empty one: it would pass for none."""
    if name is not None and not name.strip():
        raise UsageError(f"--recipe is empty: choose one of {', '.join(known)}, or leave it out")
    return name


def given(**files: Path | None) -> dict[str, str]:
    """Those options that name a file and were given, as text."""
    return {name: str(path) for name, path in files.items() if path is not None}


def opened(name: str | Path, device: str | None = None) -> Collection:
    """The collection that a command names; loading what opens it waits until a command needs it. `device`: where its
    networks run. Raises `UsageError` for a collection in shards, which only searches take as one.
    """
    from resight.cluster.layout import is_sharded, read_layout
    from resight.collection.open import open_collection
    from resight.features.networks.device import use_device

    use_device(device)
    if is_sharded(name):
        raise UsageError(
            f"{name} lies in shards: this command takes one of them, such as {read_layout(name).shards[0]}"
        )
    return open_collection(name)


def searched(
    name: str | Path, device: str | None = None, engine: str | None = None, partial: bool = False
) -> Collection:
    """As `opened`, of commands that take a collection in shards, too."""
    from resight.cluster.open import open_searched
    from resight.features.networks.device import use_device

    use_device(device)
    return open_searched(name, engine, partial=partial)
