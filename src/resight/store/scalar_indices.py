"""Scalar indices of the two tables, through which photos are found by id, path, content, row, tag or date without
reading the tables. Lance keeps them beside its data and uses them by itself wherever a filter allows it.

Lance does not index new rows by itself: those that no index knows are scanned. The writer brings the indices up when
the new rows become many, so that the work of it stays a constant share of the work of adding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resight.store.folder import IMAGES, LOCAL, lance_faults

FEWEST = 4096  # rows below which scanning is as fast
TAIL = 1 / 32  # of a table may be rows that no index knows

# Of each table: the column and the kind of its index; NGRAM is for parts of a path (contains, LIKE). A column has one
# index, as Lance may take the wrong one of two.
INDICES = {
    IMAGES: (
        ("row", "BTREE"),
        ("id", "BTREE"),
        ("path_bytes", "BTREE"),
        ("uri", "NGRAM"),
        ("sha256", "BTREE"),
        ("size", "BTREE"),
        ("taken_at", "BTREE"),
        ("error_kind", "BITMAP"),
        ("tags", "LABEL_LIST"),
    ),
    LOCAL: (("row", "BTREE"),),
}


def behind(dataset: Any, table: str) -> bool:
    """Whether it pays to bring the indices of a table up to its rows."""
    rows = dataset.count_rows()
    if rows < FEWEST:
        return False
    known = {index.name: index.num_rows_indexed for index in dataset.describe_indices()}
    return any(rows - known.get(_name(*index), 0) > max(FEWEST, TAIL * rows) for index in INDICES[table])


def follow(dataset: Any, table: str, folder: Path) -> None:
    """Bring the indices of a table up to its rows; each is one commit, and makes no row appear or disappear.

    May be killed at any moment. Peak memory: the column of one index. Raises `CollectionError` when the disk refuses.
    """
    with lance_faults("index", folder):
        known = {index.name for index in dataset.describe_indices()}
        for column, kind in INDICES[table]:
            if _name(column, kind) not in known:
                dataset.create_scalar_index(column, kind, name=_name(column, kind))
        if present := [_name(*index) for index in INDICES[table] if _name(*index) in known]:
            dataset.optimize.optimize_indices(index_names=present)


def rebuild(dataset: Any, table: str, folder: Path) -> None:
    """Make the indices anew, because their files are damaged."""
    with lance_faults("index", folder):
        for index in dataset.describe_indices():
            dataset.drop_index(index.name)
    if dataset.count_rows() >= FEWEST:
        follow(dataset, table, folder)


def _name(column: str, kind: str) -> str:
    return f"{column}_{kind.lower()}"
