"""CSV files in UTF-8 whose first line names the columns, line by line: every error names file, line and remedy."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from resight.errors import UsageError
from resight.regular_files import check_regular


def csv_header(path: Path) -> tuple[str, ...]:
    """The columns that the first line names; none where it cannot be read as such a line."""
    try:
        check_regular(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            return tuple(name.strip() for name in next((line for line in csv.reader(file) if line), []))
    except (OSError, UnicodeDecodeError, csv.Error):
        return ()


def csv_lines(path: Path, columns: Sequence[str], header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each line behind the header, with its place in words, as column -> text; others may stand beside `columns`.

    `header`: how to call a right first line in a message. Raises `UsageError` for other files.
    """
    try:
        check_regular(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            names = [name.strip() for name in next((line for line in lines if line), [])]
            if not set(columns) <= set(names) or len(set(names)) < len(names):
                found = ",".join(names)
                first = f"starts with {found[:80]!r}" if found else "is empty"
                raise UsageError(f"{path} {first}: its first line must name the columns, {header}")
            empty = True
            for line in lines:
                if line:
                    empty = False
                    place = f"line {lines.line_num} of {path}"
                    if len(line) != len(names):
                        raise UsageError(f"{place} holds {len(line)} values for the columns {','.join(names)}")
                    yield place, dict(zip(names, line, strict=True))
            if empty:
                raise UsageError(f"{path} holds no line behind its header: add some")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is not a CSV file in UTF-8: {error}") from error
