"""What files of published tables must be like: known keys, numbers of a sensible size, paths inside the data folder.

All raise `UsageError`, beginning with `what` it is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from resight.errors import UsageError

MOST = 1e6  # of any number in a table


def inside(what: str, path: str | None) -> None:
    """Tables come from anyone: a path of theirs must not leave the data folder."""
    if path is not None and (PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts):
        raise UsageError(f"{what} names {path}, which is not inside the data folder")


def keys(what: str, value: Any, known: set[str], needed: set[str]) -> None:
    mapping(what, value)
    if wrong := sorted(map(str, set(value) - known)):
        raise UsageError(f"{what} has the unknown keys {', '.join(wrong)}")
    if absent := sorted(needed - set(value)):
        raise UsageError(f"{what} lacks {', '.join(absent)}")


def mapping(what: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{what} must be a mapping, not {type(value).__name__}")
    return value


def text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{what} is {str(value)[:60]}, which must be text, in quotes if need be")
    return value


def number(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MOST:
        raise UsageError(f"{what} has {repr(value)[:60]} where a number is needed")
    return float(value)
