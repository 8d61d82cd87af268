"""Benchmarks whose ground truth is in their file names: INRIA Holidays and UKBench."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from resight.evaluation.benchmark import Annotation, BenchmarkQuery, refuse_names
from resight.evaluation.image_files import database_names, read_names


def read_holidays(path: Path) -> Annotation:
    """Read INRIA Holidays (Jegou et al., ECCV 2008) from a folder of images or a list of image names, one a line.

    Names are numbers: group = number // 100, the query of a group is the number that ends in 00. Positives are the rest
    of the group, junk is the query itself. Raises `UsageError` for other names.
    """
    images = _names(path)
    groups = _groups(path, images, 100)
    queries, judgements = [], []
    for members in groups.values():
        for number, row in members:
            if number % 100 == 0:
                stem = PurePosixPath(images[row]).stem
                queries.append(BenchmarkQuery(stem, images[row], row=row))
                others = [other for _, other in members if other != row]
                judgements.append({"ok": np.array(others, np.int64), "junk": np.array([row], np.int64)})
    return Annotation(images, tuple(queries), tuple(judgements))


def read_ukbench(path: Path) -> Annotation:
    """Read UKBench (Nister and Stewenius, CVPR 2006) from a folder of images or a list of image names, one a line.

    Names end in a number, as `ukbench00007.jpg`; four consecutive numbers show one object. Every image is a query and
    its group, itself included, the positives. Raises `UsageError` for other names and incomplete groups.
    """
    images = _names(path)
    groups = _groups(path, images, 4)
    torn = [images[members[0][1]] for members in groups.values() if len(members) != 4]
    refuse_names(str(path), "groups do not have four images; they begin with", torn)
    queries, judgements = [], []
    for members in groups.values():
        rows = np.array([row for _, row in members], np.int64)
        for row in rows.tolist():
            queries.append(BenchmarkQuery(PurePosixPath(images[row]).stem, images[row], row=row))
            judgements.append({"ok": rows, "junk": np.empty(0, np.int64)})
    return Annotation(images, tuple(queries), tuple(judgements))


def _names(path: Path) -> tuple[str, ...]:
    return read_names(path) if path.is_file() else database_names(path)


def _groups(path: Path, images: tuple[str, ...], size: int) -> dict[int, list[tuple[int, int]]]:
    """(number, row) of the images of each group, groups and numbers ascending."""
    stems = [PurePosixPath(name).stem.removeprefix("ukbench") for name in images]
    wrong = [name for name, stem in zip(images, stems, strict=True) if not (stem.isascii() and stem.isdigit())]
    refuse_names(str(path), "image names are not numbers", wrong)
    groups: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, row in sorted((int(stem), row) for row, stem in enumerate(stems)):
        groups[number // size].append((number, row))
    return groups
