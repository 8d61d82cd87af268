"""Photos that other tools list or carry: paths in samples of FiftyOne, bytes in datasets of Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from resight.collection.tags import checked_tags
from resight.errors import UsageError
from resight.exchange.request import appearing
from resight.extras import needed
from resight.images.formats import EXTENSIONS, HEADER_BYTES, sniff
from resight.regular_files import read_regular

SAMPLES = "samples.json"  # in an export of FiftyOne
HF_FILES = ("dataset_info.json", "state.json")  # in a folder that `datasets` saved
IMAGE = "Image"  # the type of a column of photos


def listed_photos(paths: Sequence[str]) -> list[str]:
    """`paths`, a `samples.json` of FiftyOne among them replaced by the photos that it names.

    Relative paths count from its folder. Raises `UsageError` when it holds no samples, or names a file that is not
    there or is not named like an image.
    """
    found: list[str] = []
    for path in paths:
        found += _samples(Path(path)) if Path(path).name == SAMPLES else [path]
    return found


def listed_tags(paths: Sequence[str]) -> dict[str, list[str]]:
    """The tags in the `samples.json` of FiftyOne among `paths`, and the photos that have each.

    Raises `UsageError` as `listed_photos` does, and for what is no tag.
    """
    found: dict[str, list[str]] = {}
    for path in (Path(path) for path in paths if Path(path).name == SAMPLES):
        for name, sample in zip(_samples(path), _read_samples(path), strict=True):
            tags = sample.get("tags") or []
            if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
                raise UsageError(f"{path}: the tags of {name} are no list of words")
            for tag in checked_tags(tags):
                found.setdefault(tag, []).append(name)
    return found


def holds_dataset(folder: Path) -> bool:
    """Whether `folder` was written by `save_to_disk` of Hugging Face's datasets."""
    return all((folder / name).is_file() for name in HF_FILES)


def unpack_photos(dataset: Path, out: Path) -> int:
    """Write the photos of a Hugging Face dataset into the new folder `out`; how many.

    They keep their names, without folders; those that stand twice, or are not of images, are named by their number.
    Raises `UsageError` when the dataset cannot be read or has no column of photos.
    """
    with needed("a Hugging Face dataset"):
        import datasets
    try:
        rows = datasets.load_from_disk(str(dataset))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"cannot read {dataset} as a Hugging Face dataset: {error}") from error
    if not isinstance(rows, datasets.Dataset):
        raise UsageError(f"{dataset} holds several datasets ({', '.join(rows)}): give the folder of one")
    columns = [name for name, kind in rows.features.items() if type(kind).__name__ == IMAGE]
    if not columns:
        raise UsageError(f"{dataset} has no column of photos: it has {', '.join(rows.column_names)}")
    plain = rows.select_columns(columns[:1]).cast_column(columns[0], datasets.Image(decode=False))
    taken: set[str] = set()
    with appearing(out) as scratch:
        scratch.mkdir()
        for number, content in enumerate(_contents(dataset, plain, columns[0])):
            name = _name(content.get("path"), content["bytes"], number, taken)
            (scratch / name).write_bytes(content["bytes"])
    return len(rows)


def _contents(dataset: Path, rows: Any, column: str) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        content = row[column]
        if not isinstance(content, dict) or not isinstance(content.get("bytes"), bytes):
            raise UsageError(f"{dataset}: row {number} does not carry its photo: save the dataset with the files in it")
        yield content


def _name(given: Any, content: bytes, number: int, taken: set[str]) -> str:
    """A plain file name that is not taken yet: the one given, without folders, if that is one of an image."""
    name = PurePosixPath(given).name if isinstance(given, str) and "\0" not in given else ""
    if PurePosixPath(name).suffix.lower() not in EXTENSIONS or name.startswith(".") or name in taken:
        name = f"{number:08d}.{sniff(content[:HEADER_BYTES]) or 'jpg'}"
    while name in taken:
        name = f"_{name}"
    taken.add(name)
    return name


def _read_samples(path: Path) -> list[dict[str, Any]]:
    try:
        samples: list[dict[str, Any]] = json.loads(read_regular(path))["samples"]
        _ = [Path(sample["filepath"]) for sample in samples]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise UsageError(f"cannot read {path} as samples of FiftyOne: {error}") from error
    return samples


def _samples(path: Path) -> list[str]:
    names = [Path(sample["filepath"]) for sample in _read_samples(path)]
    photos = [path.parent / name for name in names]
    wrong = [photo for photo in photos if photo.suffix.lower() not in EXTENSIONS or not photo.is_file()]
    if wrong or not photos:
        what = f"{len(wrong)} files that are no photos on this disk, such as {wrong[0]}" if wrong else "no samples"
        raise UsageError(f"{path} names {what}")
    return [str(photo) for photo in photos]
