"""Training data in CSV files, and in folders of classes.

| columns | a line says |
|---|---|
| `photo,label` or `id,group` | this photo shows that thing |
| `left,right[,matching]` | these two photos show the same thing; with `matching` 0 they do not, which is the rule |
| `id,landmark_id` | Google Landmarks v2, `train.csv`: photo abc... lies at a/b/c/abc....jpg |
| `landmark_id,images` | Google Landmarks v2, `train_clean.csv`: the photos of a landmark, with blanks between |

Photos are found by their path from the folder of the file, or from the folder that is given for them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from resight.csv_lines import csv_header, csv_lines
from resight.errors import UsageError
from resight.images.scan import scan
from resight.training.data import Examples, of_groups, of_pairs
from resight.types import Int64

LABELS = (("photo", "label"), ("id", "group"))
PAIRS = ("left", "right")
LANDMARKS = (("id", "landmark_id"), ("landmark_id", "images"))
FORMS = "photo,label or id,group or left,right[,matching] or id,landmark_id or landmark_id,images"
LANDMARK_ID = re.compile(r"[0-9a-f]{16}")


def read_table(path: Path, photos: Path | None = None, *, seed: int = 0) -> Examples:
    """The examples of a CSV file. Raises `UsageError`, naming the line, for a file of another form, a photo that does
    not exist, one with two labels, and when no two photos show one thing."""
    columns, folder = set(csv_header(path)), path.parent if photos is None else photos
    for form in LANDMARKS:
        if columns >= set(form):
            return _of_labels(_landmarks(path, form, folder), path, seed)
    for form in LABELS:
        if columns >= set(form):
            lines = csv_lines(path, form, ",".join(form))
            found = ((place, line[form[0]].strip(), line[form[1]].strip()) for place, line in lines)
            return _of_labels(((place, name, label, folder / name) for place, name, label in found), path, seed)
    return _of_pairs(path, folder)


def read_folders(folder: Path, *, seed: int = 0) -> Examples:
    """The photos of a folder, those of each folder in it being one class; photos beside them are of none.

    Raises `UsageError` when no class has two photos.
    """
    found = scan([folder]).photos
    classes = [photo.id.partition("/")[0] if "/" in photo.id else "" for photo in found]
    numbers = {name: place for place, name in enumerate(sorted(set(classes) - {""}))}
    groups = np.array([numbers.get(name, -1) for name in classes], np.int64)
    what = f"{folder}, with a group for each folder in it,"
    return of_groups([photo.id for photo in found], [photo.path for photo in found], groups, what, seed=seed)


def _of_labels(lines: Iterator[tuple[str, str, str, Path]], path: Path, seed: int) -> Examples:
    groups: dict[str, int] = {}
    known: dict[str, tuple[int, str]] = {}
    for place, name, label, file in lines:
        if not label:
            raise UsageError(f"{place} gives {name!r} no label: write one, or leave the line out")
        _check(file, place)
        group = groups.setdefault(label, len(groups))
        if known.setdefault(name, (group, str(file)))[0] != group:
            raise UsageError(f"{place} gives {name!r} a second label, {label!r}: leave one of the lines out")
    labels = np.array([group for group, _ in known.values()], np.int64)
    return of_groups(list(known), [file for _, file in known.values()], labels, str(path), seed=seed)


def _of_pairs(path: Path, folder: Path) -> Examples:
    rows: dict[str, int] = {}
    pairs = []
    for place, line in csv_lines(path, PAIRS, FORMS):
        names = [line[side].strip() for side in PAIRS]
        for name in names:
            _check(folder / name, place)
        if names[0] == names[1]:
            raise UsageError(f"{place} pairs {names[0]!r} with itself: name two photos")
        matching = line.get("matching", "1").strip()
        if matching not in ("0", "1"):
            raise UsageError(f"{place} has matching = {matching!r}: write 1 or 0")
        ends = [rows.setdefault(name, len(rows)) for name in names]
        if matching == "1":
            pairs.append(ends)
    files = [str(folder / name) for name in rows]
    return of_pairs(list(rows), files, _array(pairs), str(path))


def _landmarks(path: Path, form: tuple[str, str], folder: Path) -> Iterator[tuple[str, str, str, Path]]:
    for place, line in csv_lines(path, form, ",".join(form)):
        names = line["images"].split() if "images" in form else [line["id"].strip()]
        for name in names:
            if not LANDMARK_ID.fullmatch(name):
                raise UsageError(f"{place} names photo {name[:40]!r}: ids of Google Landmarks have 16 digits 0 to f")
            yield place, name, line["landmark_id"].strip(), folder / name[0] / name[1] / name[2] / f"{name}.jpg"


def _check(file: Path, place: str) -> None:
    if not os.path.isfile(file):
        raise UsageError(f"{place}: there is no photo {file}; if the photos lie elsewhere, give their folder")


def _array(pairs: list[list[int]]) -> Int64:
    return np.array(pairs, np.int64).reshape(-1, 2)
