"""The weight of the global descriptor in recipe `hybrid`, as it was learned for a collection."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from resight.artifacts import files
from resight.errors import CollectionError
from resight.store.writer import Writer


@dataclass(frozen=True)
class FusionWeight:
    """What one standard deviation of the global descriptor is worth, learned from `queries` with `matches` in all."""

    weight: float
    queries: int
    matches: int
    source: str


def save_weight(writer: Writer, weight: FusionWeight) -> None:
    """Keep it for the searches of the collection."""
    files.write_json(writer, files.FUSION, asdict(weight))


def load_weight(folder: Path) -> float | None:
    """What `save_weight` kept, None where nothing was. Raises `CollectionError` when the file is damaged."""
    return files.read(files.FUSION, folder, _read)


def _read(path: Path) -> float:
    content = files.read_json(path)
    try:
        weight = float(content["weight"])
        if not (np.isfinite(weight) and weight >= 0):
            raise ValueError(f"weight {weight}")
    except (ValueError, KeyError, TypeError) as error:
        raise CollectionError(f"{path} is damaged ({error})") from error
    return weight
