"""Columns of csv files as strings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pyarrow.csv

from resight.errors import UsageError
from resight.regular_files import check_regular

_BLOCK = 1 << 26  # bytes; a line, with its list of positives, must fit


def read_columns(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, list[str]]:
    """The columns `names` of a csv file with a header line, and those of `optional` that it has, all as strings.

    Raises `UsageError` when the file cannot be read or lacks a column.
    """
    try:
        check_regular(path)
        with pyarrow.csv.open_csv(path) as reader:
            header = reader.schema.names
        wanted = [*names, *(name for name in optional if name in header)]
        missing = [name for name in names if name not in header]
        if missing:
            raise UsageError(f"{path} lacks the columns {', '.join(missing)}; its header is {','.join(header)[:200]}")
        options = pyarrow.csv.ConvertOptions(
            include_columns=wanted, column_types=dict.fromkeys(wanted, pyarrow.string()), strings_can_be_null=False
        )
        table = pyarrow.csv.read_csv(path, pyarrow.csv.ReadOptions(block_size=_BLOCK), convert_options=options)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise UsageError(f"cannot read the csv file {path}: {error}") from error
    return {name: table.column(name).to_pylist() for name in wanted}
