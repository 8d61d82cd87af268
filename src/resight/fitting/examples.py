"""Examples of what matches, from CSV files in UTF-8 whose first line names the columns.

| columns | a line says |
|---|---|
| `left,right[,matching]` | two photos of the collection show the same thing; with `matching` 0 they do not |
| `id,group` | a photo of the collection shows the thing that this group stands for |
| `photo,label` | a photo beside the collection, by its path from the file, has this label |

Other columns may stand beside them. Every error is a `UsageError` that names the file, the line, the value, and what to
write instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from resight.csv_lines import csv_lines
from resight.errors import UsageError
from resight.training.similarity.pairs import Pairs, pairs_from_groups
from resight.types import Int64

PAIRS, GROUPS, LABELS = ("left", "right"), ("id", "group"), ("photo", "label")
MATCHING = "matching"
PARTNERS = 20  # matching pairs of a photo that are made of a group
MEANING = {"1": True, "0": False}


def read_pairs(path: Path, ids: Mapping[str, int]) -> Pairs:
    """Rows of pairs of photos, by their `ids` in the collection; all of them match where there is no such column.

    Raises `UsageError` for a file that is no such list, an unknown id, and a photo paired with itself.
    """
    left, right, matching = [], [], []
    for place, line in csv_lines(path, PAIRS, "left,right or left,right,matching"):
        a, b = (_row(line[side], ids, place) for side in PAIRS)
        if a == b:
            raise UsageError(f"{place} pairs {line['left']!r} with itself: name two photos")
        said = line.get(MATCHING, "1").strip()
        if said not in MEANING:
            raise UsageError(f"{place} has matching = {said!r}: write 1 or 0")
        left.append(a)
        right.append(b)
        matching.append(MEANING[said])
    return Pairs(np.array(left, np.int64), np.array(right, np.int64), np.array(matching, np.bool_))


def read_groups(path: Path, ids: Mapping[str, int], rows: Int64) -> Int64:
    """Groups (N,) int64 of `rows` (N,) ascending, numbered from 0; -1 for photos that the file does not name.

    Photos of the collection that are not among `rows`, having no descriptor, are passed over. Raises `UsageError` for a
    file that is no such list, an unknown id, and a photo in two groups.
    """
    groups, numbers = np.full(len(rows), -1, np.int64), dict[str, int]()
    known: dict[int, str] = {}
    for place, line in csv_lines(path, GROUPS, "id,group"):
        row, name = _row(line["id"], ids, place), line["group"].strip()
        if not name:
            raise UsageError(f"{place} gives {line['id']!r} no group: write a name, or leave the line out")
        if known.setdefault(row, name) != name:
            raise UsageError(f"{place} puts {line['id']!r} into group {name!r}, an earlier line into {known[row]!r}")
        at = int(np.searchsorted(rows, row))
        if at < len(rows) and rows[at] == row:
            groups[at] = numbers.setdefault(name, len(numbers))
    return groups


def read_labels(path: Path) -> tuple[list[str], list[str]]:
    """Paths of labelled photos, and their labels. Raises `UsageError` for a file that is no such list, a photo without
    a label, and one that does not exist."""
    photos, labels = [], []
    for place, line in csv_lines(path, LABELS, "photo,label"):
        photo, label = path.parent / line["photo"].strip(), line["label"].strip()
        if not label:
            raise UsageError(f"{place} gives {line['photo']!r} no label: write one, or leave the line out")
        if not photo.is_file():
            raise UsageError(f"{place}: there is no photo {photo}; paths are taken from the folder of the file")
        photos.append(str(photo))
        labels.append(label)
    return photos, labels


def matching_pairs(
    ids: Mapping[str, int], rows: Int64, *, pairs: Path | None = None, groups: Path | None = None
) -> tuple[Int64, Int64]:
    """Rows (n,) and (n,) of pairs that show one thing, of a file of `pairs` or of `groups`; both among `rows` (N,), the
    photos with a descriptor.

    A group gives up to 20 pairs of each of its photos. Raises `UsageError` as the readers do, and when nothing is left.
    """
    if (pairs is None) == (groups is None):
        raise UsageError("give one file of examples: --pairs FILE or --groups FILE")
    if groups is not None:
        made = pairs_from_groups(read_groups(groups, ids, rows), partners=PARTNERS, others=0)
        left, right = rows[made.left], rows[made.right]
    else:
        assert pairs is not None
        read = read_pairs(pairs, ids)
        kept = read.matching & np.isin(read.left, rows) & np.isin(read.right, rows)
        left, right = read.left[kept], read.right[kept]
    if not len(left):
        raise UsageError(f"{pairs or groups} names no two photos that match and have a descriptor: add some")
    return left, right


def _row(text: str, ids: Mapping[str, int], place: str) -> int:
    """The row of an id; blanks around it count only where an id has them."""
    row = ids.get(text, ids.get(text.strip(), -1))
    if row < 0:
        raise UsageError(f"{place} names photo {text.strip()!r}, which is not in the collection: check the id")
    return row
