"""What proposes correspondences to geometry: nearest descriptors, or a network that sees all features of both photos.

A matcher is any function of two images' features (`Matcher`). None stands for mutual nearest neighbours with a ratio
test (`resight.matching.shortlist`), which every kind of local features can have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from resight.errors import UsageError
from resight.features.local.compact import Compact
from resight.matching.correspond import Correspondences
from resight.matching.lighterglue import open_lighterglue
from resight.types import LocalFeatures

NEAREST = "nearest"


class Matcher(Protocol):
    """Tentative correspondences of two images, the surest first; `fingerprint`: equal ones give equal answers.

    Threads may share it. Features are those of one kind, as `LocalFeatures` or as they are stored.
    """

    @property
    def fingerprint(self) -> str: ...

    def __call__(self, a: LocalFeatures | Compact, b: LocalFeatures | Compact, /) -> Correspondences: ...


@dataclass(frozen=True)
class Learned:
    """A learned matcher of the catalogue: how its file is opened, and the kinds of local features that it was trained
    with.
    """

    open: Callable[[str, float], Matcher]
    features: tuple[str, ...]


MATCHERS: Mapping[str, Learned] = {"lighterglue": Learned(open_lighterglue, ("xfeat",))}


@dataclass(frozen=True)
class MatchSettings:
    """How features of two photos are matched before geometry looks at them.

    `matcher`: `nearest`, or one of `MATCHERS`, whose file is `matcher_weights`; `matcher_score`: probability from which
    its correspondences count. Raises `UsageError` on an unknown matcher, one without a file, a file without one, or a
    score outside [0, 1].
    """

    matcher: str = NEAREST
    matcher_weights: str = ""
    matcher_score: float = 0.5

    def __post_init__(self) -> None:
        if self.matcher not in (NEAREST, *MATCHERS):
            raise UsageError(f"matcher={self.matcher!r}: choose one of {', '.join((NEAREST, *MATCHERS))}")
        if (self.matcher == NEAREST) == bool(self.matcher_weights):
            needs = "no file" if self.matcher == NEAREST else "the file of its weights"
            raise UsageError(f"matcher={self.matcher} needs {needs}: set matcher_weights=FILE for a learned matcher")
        if not 0 <= self.matcher_score <= 1:
            raise UsageError(f"matcher_score={self.matcher_score}: a probability lies between 0 and 1")

    def check(self, features: str) -> None:
        """Raise `UsageError` where the matcher was not trained with features of kind `features`."""
        if self.matcher != NEAREST and features not in MATCHERS[self.matcher].features:
            kinds = ", ".join(MATCHERS[self.matcher].features)
            raise UsageError(f"matcher={self.matcher} was trained with {kinds} and cannot match {features}")

    def open(self) -> Matcher | None:
        """The matcher; None for nearest neighbours. Raises `UsageError` when its file cannot be used."""
        if self.matcher == NEAREST:
            return None
        return MATCHERS[self.matcher].open(self.matcher_weights, self.matcher_score)
