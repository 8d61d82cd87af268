"""Global descriptors of many files: decoded ahead in threads while the network works, with a row for every bad file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from resight.errors import ArrayError, ImageError, UsageError
from resight.features.fingerprint import fingerprint
from resight.features.global_descriptor import GlobalDescriptor, batches
from resight.images.loader import load
from resight.progress import Progress, silent
from resight.types import Float32, Int64

AHEAD = 16  # photos decoded beyond the ones the network has


class Describer(Protocol):
    """Turns images into vectors: `GlobalDescriptor` or `Blend`."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def max_side(self) -> int: ...
    def describe(self, images: Sequence[NDArray[np.uint8]], /) -> list[Float32 | ImageError]: ...


@dataclass(frozen=True, eq=False)
class Blend:
    """Several descriptors of one image behind each other, each as it is, L2-normalised together.

    The concatenation of GeM and DIR is the descriptor of the landmark challenge (Chang et al., CVPR workshops 2019).
    Raises `UsageError` unless there are at least two, of one `max_side`.
    """

    parts: tuple[GlobalDescriptor, ...]

    def __post_init__(self) -> None:
        if len(self.parts) < 2 or len({part.max_side for part in self.parts}) > 1:
            raise UsageError("a blend needs at least two descriptors, all with one max_side")

    @property
    def name(self) -> str:
        """The names of all parts."""
        return " + ".join(part.name for part in self.parts)

    @property
    def dim(self) -> int:
        """Sum of the dimensions."""
        return sum(part.dim for part in self.parts)

    @property
    def max_side(self) -> int:
        """Longer side of the images in pixels."""
        return self.parts[0].max_side

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of all parts."""
        return fingerprint([part.fingerprint for part in self.parts])

    def describe(self, images: Sequence[NDArray[np.uint8]]) -> list[Float32 | ImageError]:
        """As `GlobalDescriptor.describe`; an image that one part cannot take has no vector."""
        columns = zip(*(part.describe(images) for part in self.parts), strict=True)
        return [self._joined(column) for column in columns]

    def _joined(self, column: tuple[Float32 | ImageError, ...]) -> Float32 | ImageError:
        for part in column:
            if isinstance(part, ImageError):
                return part
        joined = np.concatenate([np.asarray(part) for part in column])
        return np.asarray(joined / np.sqrt(len(column)), np.float32)


@dataclass(frozen=True, eq=False)
class Extracted:
    """`vectors` (n, D) float32 of the files `places` (n,) of those asked for; one of `problems` for each other file."""

    vectors: Float32
    places: Int64
    problems: tuple[tuple[str, ImageError], ...]


def extract(
    descriptor: Describer, paths: Sequence[str], *, jobs: int = 0, progress: Progress = silent, out: Any = None
) -> Extracted:
    """The vectors of photo files. A file that cannot be used is a problem in the answer, never an exception.

    `jobs`: threads that decode, 0 for one per processor. `out`: an array (N, D) float32 to write into, such as a memory
    map; then memory does not grow with the number of files. Raises `ArrayError` when `out` has another shape.
    """
    vectors = np.empty((len(paths), descriptor.dim), np.float32) if out is None else out
    if vectors.shape != (len(paths), descriptor.dim) or vectors.dtype != np.float32:
        raise ArrayError(f"out has shape {vectors.shape}, expected ({len(paths)}, {descriptor.dim}) float32")
    places: list[int] = []
    problems: list[tuple[str, ImageError]] = []
    loaded = load(paths, max_side=descriptor.max_side, jobs=jobs, ahead=AHEAD)
    for group in batches(loaded, AHEAD):
        good = [item for item in group if item.decoded is not None]
        found = descriptor.describe([item.decoded.pixels for item in good if item.decoded is not None])
        results = dict(zip([item.index for item in good], found, strict=True))
        for item in group:
            vector = results.get(item.index, item.error)
            if isinstance(vector, ImageError):
                problems.append((item.path, vector))
            elif vector is not None:
                vectors[len(places)] = vector
                places.append(item.index)
        progress("describing photos", group[-1].index + 1, len(paths))
    return Extracted(vectors[: len(places)], np.array(places, np.int64), tuple(problems))
