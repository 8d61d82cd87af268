"""Files of pairs of photos that show one thing: two ids per line."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from resight.errors import UsageError
from resight.types import Int64


def read_pairs(path: Path, ids: Mapping[str, int], where: Path, described: Int64) -> tuple[Int64, Int64]:
    """Rows of the two photos of each pair in a csv file; `ids` are those of the collection `where`.

    Raises `UsageError`, naming the line, for anything else than two ids, for photos that the collection lacks, and for
    those that are not among the rows `described`, since they have no global descriptor.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [(number, line) for number, line in enumerate(csv.reader(file), 1) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as csv: {error}") from error
    pairs = []
    for number, line in lines:
        if len(line) != 2:
            raise UsageError(f"line {number} of {path} holds {len(line)} values: two ids are needed")
        unknown = [id_ for id_ in line if id_.strip() not in ids]
        if unknown:
            raise UsageError(f"line {number} of {path}: {where} holds no photo with id {unknown[0].strip()!r}")
        found = [ids[id_.strip()] for id_ in line]
        without = [id_ for id_, row in zip(line, found, strict=True) if row not in described]
        if without:
            raise UsageError(f"line {number} of {path}: {without[0]} has no global descriptor")
        pairs.append(found)
    if not pairs:
        raise UsageError(f"{path} holds no pairs")
    both = np.array(pairs, np.int64)
    return both[:, 0], both[:, 1]
