"""Parts of published sets that come with photos: Oxford as JSON files of names, and photos taken by phones in folders.

Names stand in for rows: the file says which image is which, so that a part of a set needs no full list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from resight.errors import UsageError
from resight.evaluation.benchmark import Annotation, BenchmarkQuery, Judgement, names_found
from resight.evaluation.image_files import image_names
from resight.evaluation.readers.revisited import box_of
from resight.regular_files import read_regular

REVISITED_FILE = "ground_truth_roxford_subset.json"
CLASSIC_FILE = "ground_truth_classic55.json"
BOX = "bbox_xyxy_at_640"  # photos come with a longer side of 640 pixels
SIDES = ("Query", "Reference")


def read_revisited_part(path: Path) -> Annotation:
    """Read a part of revisited Oxford (Radenovic et al., CVPR 2018): `ground_truth_roxford_subset.json` or its folder.

    `gallery`: names of the database images. `queries`: per query its `image`, its box as corners, and the names of its
    `easy`, `hard` and `junk` images; those that are not at hand are left out of the lists. Raises `UsageError` when the
    file does not hold this.
    """
    file, content = _read(path, REVISITED_FILE)
    if not isinstance(content, Mapping) or not {"queries", "gallery"} <= set(content):
        raise UsageError(f"{file} is not a part of revisited Oxford: queries and gallery are needed")
    images = _names(content["gallery"], "gallery", file)
    rows = {name: row for row, name in enumerate(images)}
    entries = _entries(content["queries"], file)
    queries = tuple(_query(entry, str(entry["image"]), file, q, rows) for q, entry in enumerate(entries))
    judged = tuple(_judged(entry, {label: (label,) for label in ("easy", "hard", "junk")}, file, rows)
                   for entry in entries)  # fmt: skip
    return Annotation(images, queries, judged)


def read_classic_part(path: Path) -> Annotation:
    """Read the classic queries of a part of Oxford (Philbin et al., CVPR 2007): `ground_truth_classic55.json` or its
    folder. Images are those in the folder of the file.

    An object: query name -> its `image`, its box as corners, and the names of its `good`, `ok` and `junk` images.
    Positives are good and ok together, the query photo among them. Raises `UsageError` when the file does not hold
    this.
    """
    file, content = _read(path, CLASSIC_FILE)
    if not isinstance(content, Mapping):
        raise UsageError(f"{file} is not an object of queries by name")
    images = tuple(PurePosixPath(name).stem for name in image_names(file.parent))
    rows = {name: row for row, name in enumerate(images)}
    entries = _entries(list(content.values()), file)
    queries = tuple(_query(entry, str(name), file, q, rows)
                    for q, (name, entry) in enumerate(zip(content, entries, strict=True)))  # fmt: skip
    positives = {"ok": ("good", "ok"), "junk": ("junk",)}
    return Annotation(images, queries, tuple(_judged(entry, positives, file, rows) for entry in entries))


def read_phone_photos(folder: Path) -> Annotation:
    """Read Stanford Mobile Visual Search (Chandrasekhar et al., MMSys 2011): folders `Query` and `Reference`, one right
    answer of the same name each, in `folder` or in folders below it, one for each kind of thing.

    Raises `UsageError` when there are no such folders, or a query has no answer.
    """
    names = image_names(folder)
    parts = {name: PurePosixPath(name).parts for name in names}
    asked, images = (tuple(name for name in names if side in parts[name][:-1]) for side in SIDES)
    if not asked or not images:
        raise UsageError(f"{folder} holds no photos in folders {SIDES[0]} and {SIDES[1]}")
    rows = {str(PurePosixPath(name).with_suffix("")): row for row, name in enumerate(images)}
    answers = [_answer(name) for name in asked]
    found = names_found(f"{folder}, answers in {SIDES[1]}", answers, rows)
    judged = tuple({"ok": found[q : q + 1], "junk": np.empty(0, np.int64)} for q in range(len(asked)))
    return Annotation(images, tuple(BenchmarkQuery(name, name) for name in asked), judged)


def _answer(name: str) -> str:
    """The reference of a query, without suffix."""
    parts = PurePosixPath(name).with_suffix("").parts
    return str(PurePosixPath(*(SIDES[1] if part == SIDES[0] else part for part in parts)))


def _read(path: Path, name: str) -> tuple[Path, Any]:
    file = path / name if path.is_dir() else path
    try:
        return file, json.loads(read_regular(file))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read {file} as JSON: {error}") from error


def _entries(queries: Any, file: Path) -> list[Mapping[str, Any]]:
    entries = list(queries) if isinstance(queries, Sequence) else []
    if not entries or not all(isinstance(entry, Mapping) and "image" in entry for entry in entries):
        raise UsageError(f"{file} has queries that are not objects with an image")
    return entries


def _query(entry: Mapping[str, Any], name: str, file: Path, q: int, rows: Mapping[str, int]) -> BenchmarkQuery:
    image = str(entry["image"])
    return BenchmarkQuery(name, image, box_of(entry.get(BOX), file, q), rows.get(image))


def _judged(
    entry: Mapping[str, Any], labels: Mapping[str, tuple[str, ...]], file: Path, rows: Mapping[str, int]
) -> Judgement:
    listed = {label: [name for part in parts for name in _names(entry.get(part, []), part, file)]
              for label, parts in labels.items()}  # fmt: skip
    return {label: names_found(f"{file}, query {entry['image']}", names, rows) for label, names in listed.items()}


def _names(values: Any, what: str, file: Path) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UsageError(f"{file}: {what} is not a list of image names")
    return tuple(values)
