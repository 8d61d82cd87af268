"""Local features that other tools made: what every reader of them gives, and the checks that all share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resight.errors import ArrayError, UsageError
from resight.types import Float32, LocalFeatures

MOST_FEATURES = 1 << 20  # of one photo: more is a damaged file or an attack


@dataclass(frozen=True, eq=False)
class Given:
    """The features of one photo by its `name`, in `LocalFeatures`' conventions. `size`: width and height of the photo
    that they were made of, None where the file does not say.
    """

    name: str
    features: LocalFeatures
    size: tuple[int, int] | None = None


def given(
    path: Path,
    name: str,
    xy: Any,
    descriptors: Any,
    *,
    scale: Any = None,
    angle: Any = None,
    strength: Any = None,
    size: tuple[int, int] | None = None,
) -> Given:
    """Check the arrays of one photo, `xy` (n, 2) and `descriptors` (n, D), and sort them strongest first.

    Scales and angles that a file does not have are all equal, so that geometry does not ask for them; without strengths
    the order stays. Raises `UsageError`, with file and photo, for other shapes and for values that are not finite.
    """
    n = len(xy)
    if n > MOST_FEATURES:
        raise UsageError(f"{path}: {name} has {n} features, more than {MOST_FEATURES}: leave it out")
    parts = {"scale": (scale, 1.0), "angle": (angle, 0.0), "strength": (strength, 1.0)}
    columns = {key: np.full(n, blank, np.float32) if values is None else np.asarray(values, np.float32)
               for key, (values, blank) in parts.items()}  # fmt: skip
    try:
        order = _strongest(columns["strength"], n)
        features = LocalFeatures(
            np.asarray(xy, np.float32)[order],
            **{key: values[order] for key, values in columns.items()},
            descriptors=np.asarray(descriptors, np.float32)[order],
        )
    except (ArrayError, IndexError, ValueError) as error:
        raise UsageError(f"{path}: the features of {name} cannot be used: {error}") from error
    return Given(name, features, size)


def _strongest(strength: Float32, n: int) -> Any:
    if strength.shape != (n,) or not np.isfinite(strength).all():
        raise ArrayError(f"their strengths are of shape {strength.shape} or not finite, {n} numbers are needed")
    return np.argsort(-strength, kind="stable")
