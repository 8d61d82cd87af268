"""The weights of what a collection keeps of a photo, as they were learned for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from resight.artifacts import files
from resight.errors import CollectionError
from resight.store.writer import Writer

VECTOR = "vector"


@dataclass(frozen=True)
class FusionWeights:
    """What one standard deviation of each part is worth, by key: kinds of local features, and `vector`; learned from
    `queries` with `matches` in all.
    """

    weights: Mapping[str, float]
    queries: int
    matches: int
    source: str

    @property
    def weight(self) -> float:
        """That of the global descriptor, 0 where there is none."""
        return self.weights.get(VECTOR, 0.0)


def save_weights(writer: Writer, weights: FusionWeights) -> None:
    """Keep them for the searches of the collection."""
    files.write_json(writer, files.FUSION, {**asdict(weights), "weights": dict(weights.weights)})


def load_weights(folder: Path) -> dict[str, float] | None:
    """What `save_weights` kept, None where nothing was. Raises `CollectionError` when the file is damaged."""
    return files.read(files.FUSION, folder, _read)


def _read(path: Path) -> dict[str, float]:
    content = files.read_json(path)
    try:
        # collections of older versions keep the weight of the global descriptor alone
        found = content["weights"] if "weights" in content else {VECTOR: content["weight"]}
        weights = {str(key): float(weight) for key, weight in found.items()}
        if not all(np.isfinite(weight) and weight >= 0 for weight in weights.values()):
            raise ValueError(f"weights {weights}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CollectionError(f"{path} is damaged ({error})") from error
    return weights
