"""Your own photos as a benchmark: folders as classes, a csv of pairs, or a list of labelled images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from resight.errors import UsageError
from resight.evaluation.benchmark import Annotation, BenchmarkQuery, names_found, refuse_names
from resight.evaluation.image_files import database_names, image_names, read_names
from resight.evaluation.readers.columns import read_columns


def read_folders(folder: Path) -> Annotation:
    """Every folder with images is a class: each photo is a query, the others of its folder are its positives.

    A photo alone in its folder has no positives; it scores NaN and is counted. Raises `UsageError` when all photos lie
    in one folder, or there are none.
    """
    images = image_names(folder)
    labels = [str(PurePosixPath(name).parent) for name in images]
    if len(set(labels)) < 2:
        raise UsageError(f"{folder} has {len(set(labels))} folders with images: two or more are needed to be classes")
    return _classes(images, labels)


def read_labels(path: Path) -> Annotation:
    """A text file of lines `image label`, as the annotation lists of the Landmarks dataset (Gordo et al., ECCV 2016).

    The label is the last word of the line. Every image is a query, the others of its label are its positives. Raises
    `UsageError` for lines without a label.
    """
    parts = [line.rsplit(maxsplit=1) for line in read_names(path)]
    refuse_names(str(path), "lines have no label", [part[0] for part in parts if len(part) != 2])
    return _classes(tuple(part[0] for part in parts), [part[1] for part in parts])


def read_pairs(path: Path) -> Annotation:
    """A csv file with the columns `query`, `positive` and, if wanted, `junk`: image names, one pair a line.

    A query takes as many lines as it needs; empty cells are allowed. The database is `images.txt` beside the file (one
    name a line), else all images below its folder, named by relative path. Queries may be database photos: then they
    are their own junk. Raises `UsageError`, with count and names, when positives or junk are not in the database.
    """
    columns = read_columns(path, ["query", "positive"], ["junk"])
    images = database_names(path.parent)
    rows = {name: row for row, name in enumerate(images)}
    lists: dict[str, dict[str, list[str]]] = {}
    for line, query in enumerate(columns["query"]):
        judged = lists.setdefault(query, {"positive": [], "junk": []})
        for label, names in judged.items():
            if label in columns and columns[label][line]:
                names.append(columns[label][line])
    if "" in lists:
        raise UsageError(f"{path} has {columns['query'].count('')} lines without a query")
    queries, judgements = [], []
    for query, judged in lists.items():
        row = rows.get(query)
        queries.append(BenchmarkQuery(query, query, row=row))
        ok, junk = (np.unique(names_found(str(path), judged[label], rows)) for label in ("positive", "junk"))
        own = [] if row is None or row in ok else [row]  # a query among its positives is refused with the benchmark
        judgements.append({"ok": ok, "junk": np.union1d(junk, np.array(own, np.int64))})
    return Annotation(images, tuple(queries), tuple(judgements))


def _classes(images: tuple[str, ...], labels: Sequence[str]) -> Annotation:
    members: defaultdict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        members[label].append(row)
    arrays = {label: np.array(rows, np.int64) for label, rows in members.items()}
    judgements = tuple(
        {"ok": arrays[label][arrays[label] != row], "junk": np.array([row], np.int64)}
        for row, label in enumerate(labels)
    )
    return Annotation(images, tuple(BenchmarkQuery(n, n, row=row) for row, n in enumerate(images)), judgements)
