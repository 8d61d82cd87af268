"""Training of learned similarities of pairs of photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resight.extras import load_when_asked

if TYPE_CHECKING:
    from resight.training.similarity.fit import (
        DeepSimilarities,
        hardest,
        learn_cosine,
        learn_deep_similarity,
        learn_hard,
        learn_pairs,
        random_pairs,
    )
    from resight.training.similarity.oasis import learn_oasis
    from resight.training.similarity.pairs import Pairs, pairs_from_groups
    from resight.training.similarity.stage import Options

__all__ = [
    "DeepSimilarities",
    "Options",
    "Pairs",
    "hardest",
    "learn_cosine",
    "learn_deep_similarity",
    "learn_hard",
    "learn_oasis",
    "learn_pairs",
    "pairs_from_groups",
    "random_pairs",
]

__getattr__ = load_when_asked(__name__, __all__, "pairs", "stage", "oasis", "fit")
