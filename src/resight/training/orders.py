"""Trainings that a published table asks for: which recipe, on which data, from which network, and what they write."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from resight.training.recipes import Kind

STAGES = ("OASIS", "DeepCosine", "DeepSim", "DeepSimH")


class Ordered(Protocol):
    """A training: the file `out` it is called by, all files that it writes, and those it needs."""

    @property
    def out(self) -> str: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...
    @property
    def needs(self) -> tuple[str, ...]: ...
    def command(self, data: Path) -> str: ...


@dataclass(frozen=True)
class SimilarityOrder:
    """Learned similarities of Garcia and Vogiatzis, each trained from the one before. Paths are relative to a folder.

    `features`: .npy with descriptors (N, D) float32, `labels`: a text file with N lines, what each photo shows.
    `stages`: the file of each of `STAGES`. `hidden`: widths of the network; `random_pairs` of unit vectors in each of
    `cosine_epochs`, then `epochs` of the pairs that labels give; at a `rate` that stays, in batches of 100 (published).
    """

    features: str
    labels: str
    stages: Mapping[str, str]
    hidden: tuple[int, ...] = (4096, 4096)
    random_pairs: int = 375_000
    cosine_epochs: int = 55
    epochs: int = 100
    rate: float = 1e-3

    @property
    def out(self) -> str:
        """The file of the last stage."""
        return self.stages[STAGES[-1]]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The files that are written."""
        return tuple(self.stages[stage] for stage in STAGES)

    @property
    def needs(self) -> tuple[str, ...]:
        """The files without which it cannot run."""
        return self.features, self.labels

    def command(self, data: Path) -> str:
        """The command line that trains all stages, before it scores the table."""
        return shlex.join(["resight", "bench", "reproduce", "--data", str(data)])


@dataclass(frozen=True)
class Order:
    """A network that is trained on demand. All paths are relative to a folder of data.

    `out`: the file that is written. `kind` and `recipe`, with other `settings`: as in `resight train`; `data`, whose
    photos may lie in `photos`; `start`: the checkpoint to start from. `codebook`: a file of `words` visual words,
    learnt from what the trained network sees in up to `sampled` of the photos; None for none. `search`: the settings of
    these features.
    """

    out: str
    kind: Kind
    recipe: str
    data: str
    start: str
    photos: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    codebook: str | None = None
    words: int = 65_536
    sampled: int = 20_000
    search: Mapping[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> str | None:
        """The second file of recipe context: its blocks."""
        path = PurePosixPath(self.out)
        return str(path.with_name(f"{path.stem}-context{path.suffix}")) if self.recipe == "context" else None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The files that are written."""
        return tuple(path for path in (self.out, self.context, self.codebook) if path is not None)

    @property
    def needs(self) -> tuple[str, ...]:
        """The files and folders without which it cannot run."""
        return tuple(path for path in (self.data, self.photos, self.start) if path is not None)

    def command(self, data: Path) -> str:
        """The command line that trains the network; the codebook is learnt behind it."""
        words = ["resight", "train", self.kind, str(data / self.data), "--recipe", self.recipe]
        words += [] if self.photos is None else ["--photos", str(data / self.photos)]
        words += ["--weights", str(data / self.start), "--out", str(data / self.out)]
        for name, value in self.settings.items():
            words += ["--set", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
        return shlex.join(words)


def made(order: Ordered, data: Path) -> bool:
    """Whether all files of an order are there."""
    return all((data / path).exists() for path in order.outputs)
