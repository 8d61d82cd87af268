"""Training of learned similarities of pairs of photos."""

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
