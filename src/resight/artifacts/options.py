"""Options of graph recipes that `resight graph tune` chose for a collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resight.artifacts import files
from resight.errors import CollectionError
from resight.ranking.tuning import METHODS, Tuned
from resight.store.writer import Writer


def save_tuned(writer: Writer, tuned: Tuned) -> None:
    """Keep the options for the searches of the collection."""
    files.write_json(writer, files.TUNED, asdict(tuned))


def load_tuned(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """Option values by method, one of `METHODS`; empty where nothing was tuned.

    Raises `CollectionError` when the file is damaged.
    """
    return files.read(files.TUNED, folder, _read) or {}


def _read(path: Path) -> Mapping[str, Mapping[str, Any]]:
    content = files.read_json(path)
    try:
        return {method: dict(content[method]["settings"]) for method in METHODS}
    except (KeyError, TypeError, ValueError) as error:
        raise CollectionError(f"{path} is damaged ({error})") from error
