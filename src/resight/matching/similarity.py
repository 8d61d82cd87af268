"""Learned similarity of two descriptors: a small network instead of their cosine.

Papers: Garcia and Vogiatzis, "Learning visual similarity for image retrieval" and "Learning non-metric visual
similarity for image retrieval", Image and Vision Computing 2019; `resight.training.similarity` fits the network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from resight.arrays import finite_rows
from resight.errors import ArrayError, UsageError
from resight.matching.descriptor_pairs import check_model, paired_rows
from resight.matching.oasis import SIMILARITY_FORMAT, Oasis
from resight.store.tensor_file import read_tensors, write_tensors
from resight.types import Float32, as_array

__all__ = ["PUBLISHED", "DeepSimilarity", "Oasis", "Prepared", "Similarity", "load_similarity", "new_similarity"]

Prepared = tuple[Float32, ...]  # opaque to callers but for its rows

PUBLISHED = (4096, 4096)  # hidden layers of the paper
BLOCK = 1024  # candidates whose hidden layers are held at a time


@dataclass(frozen=True, eq=False)
class DeepSimilarity:
    """Fully connected layers over the pair (q, x), ReLU between them, to one number: higher is more alike.

    `weights`: (H1, 2D), (H2, H1), ..., (1, Hn) float32, the first D columns for q; `biases`: (H1,), ..., (1,) float32.
    s(q, x) and s(x, q) differ; `symmetric` gives their mean, at twice the cost. `model`: fingerprint of what made the
    descriptors that it was trained on, empty if unknown. `provenance`: how it was made, name to text. Raises
    `ArrayError` on layers that do not fit each other, NaN or infinity.
    """

    weights: tuple[Float32, ...]
    biases: tuple[Float32, ...]
    symmetric: bool = False
    model: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.weights) < 2 or len(self.biases) != len(self.weights):
            counts = f"{len(self.weights)} weights and {len(self.biases)} biases"
            raise ArrayError(f"a similarity network has {counts}: one of each for two layers or more is needed")
        weights, biases, width = [], [], np.shape(self.weights[0])[-1]
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            weights.append(as_array(f"weights[{i}]", weight, np.float32, (None, width)))
            width = len(weights[-1])
            biases.append(as_array(f"biases[{i}]", bias, np.float32, (width,)))
            if not (np.isfinite(weights[-1]).all() and np.isfinite(biases[-1]).all()):
                raise ArrayError(f"layer {i} of a similarity network holds NaN or infinity: train it again")
        if weights[0].shape[1] % 2 or not weights[0].shape[1] or width != 1:
            shapes = f"{weights[0].shape[1]} inputs and {width} outputs"
            raise ArrayError(f"a similarity network has {shapes}: it must take two descriptors and give one number")
        object.__setattr__(self, "weights", tuple(weights))
        object.__setattr__(self, "biases", tuple(biases))

    @property
    def dim(self) -> int:
        """Dimension D of the descriptors."""
        return int(self.weights[0].shape[1]) // 2

    @property
    def hidden(self) -> tuple[int, ...]:
        """Sizes of the hidden layers."""
        return tuple(len(weight) for weight in self.weights[:-1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the layers, hexadecimal: equal fingerprints give equal scores."""
        digest = hashlib.sha256(json.dumps([self.symmetric, self.dim, self.hidden]).encode())
        for array in (*self.weights, *self.biases):
            digest.update(array.data)
        return digest.hexdigest()

    def score(self, queries: Any, vectors: Any) -> Float32:
        """Scores (Q, N) float32 of every query (Q, D) with every one of `vectors` (N, D).

        The first layer is linear in both, so it is computed once per query and once per vector, not once per pair.
        Memory beside the scores: some 4 KB per unit of H1 + H2. Raises `ArrayError` on other shapes, NaN or infinity.
        """
        vectors = finite_rows("vectors", vectors, self.dim)
        queries = finite_rows("queries", queries, self.dim)
        scores = np.empty((len(queries), len(vectors)), np.float32)
        for start in range(0, len(vectors), BLOCK):
            span = slice(start, start + BLOCK)
            scores[:, span] = self._score(queries, self._products(vectors[span]))
        return scores

    def prepare(self, vectors: Any) -> Prepared:
        """What the first layer makes of `vectors` (N, D), for `score_prepared`: 4 · H1 bytes each, twice if symmetric.

        Raises as `score` does.
        """
        return self._products(finite_rows("vectors", vectors, self.dim))

    def score_prepared(self, queries: Any, prepared: Prepared) -> Float32:
        """Scores (Q, N) of queries (Q, D) with vectors that `prepare` has seen, or with rows of what it gave.

        As `score`, with a part of the work done before. Raises `ArrayError` when another network has prepared them.
        """
        queries = finite_rows("queries", queries, self.dim)
        count = 2 if self.symmetric else 1
        if len(prepared) != count or any(part.shape[1:] != self.hidden[:1] for part in prepared):
            raise ArrayError("these vectors were prepared by another network: prepare them with this one")
        scores = np.empty((len(queries), len(prepared[0])), np.float32)
        for start in range(0, len(prepared[0]), BLOCK):
            span = slice(start, start + BLOCK)
            scores[:, span] = self._score(queries, tuple(part[span] for part in prepared))
        return scores

    def pairs(self, x: Any, y: Any) -> Float32:
        """Scores (n,) float32 of rows of `x` (n, D) with the same rows of `y` (n, D). Raises as `score` does."""
        x, y = paired_rows(x, y, self.dim)
        scores = np.empty(len(x), np.float32)
        for start in range(0, len(x), BLOCK):
            span = slice(start, start + BLOCK)
            scores[span] = self._forward(np.hstack((x[span], y[span])) @ self.weights[0].T)
            if self.symmetric:
                scores[span] = (scores[span] + self._forward(np.hstack((y[span], x[span])) @ self.weights[0].T)) / 2
        return scores

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all. Raises `CollectionError` when that cannot be done."""
        tensors = {f"weight.{i}": weight for i, weight in enumerate(self.weights)}
        tensors |= {f"bias.{i}": bias for i, bias in enumerate(self.biases)}
        facts = {"method": "deep", "symmetric": json.dumps(self.symmetric), "model": self.model}
        write_tensors(path, SIMILARITY_FORMAT, tensors, {**facts, "provenance": json.dumps(dict(self.provenance))})

    def _products(self, vectors: Float32) -> Prepared:
        """First layer's products (n, H1) of vectors in the second place of the pair, and of symmetric networks in the
        first."""
        sides = (self.weights[0][:, self.dim :], self.weights[0][:, : self.dim])
        return tuple(vectors @ side.T for side in sides[: 2 if self.symmetric else 1])

    def _score(self, queries: Float32, block: Prepared) -> Float32:
        scores = np.zeros((len(queries), len(block[0])), np.float32)
        sides = (self.weights[0][:, : self.dim], self.weights[0][:, self.dim :])
        for products, side in zip(block, sides, strict=False):
            for q, share in enumerate(queries @ side.T):
                scores[q] += self._forward(products + share)
        return scores / np.float32(len(block))

    def _forward(self, values: Float32) -> Float32:
        """Outputs (n,) from the first layer's products (n, H1), which are overwritten."""
        for bias, weight in zip(self.biases[:-1], self.weights[1:], strict=True):
            values += bias
            np.maximum(values, 0, out=values)
            values = values @ weight.T
        return values[:, 0] + self.biases[-1]


Similarity = DeepSimilarity | Oasis


def new_similarity(
    dim: int,
    hidden: tuple[int, ...] = (1024, 1024),
    *,
    seed: int = 0,
    paired: bool = True,
    symmetric: bool = False,
    model: str = "",
) -> DeepSimilarity:
    """An untrained network for descriptors of `dim` dimensions.

    `paired`: the first layer sees the sums q + x and the differences q - x along random orthogonal directions, whose
    lengths determine the cosine, so that training starts near it. Otherwise every weight is Gaussian with deviation
    0.01, as published. Raises `UsageError` on sizes below 1.
    """
    if dim < 1 or not hidden or min(hidden) < 1:
        raise UsageError(f"dim={dim}, hidden={hidden}: at least one hidden layer is needed, and sizes of at least 1")
    rng = np.random.default_rng(seed)
    sizes = [2 * dim, *hidden, 1]
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    if paired:  # layers behind the first keep the size of what passes through them (He et al., ICCV 2015)
        spreads = [np.sqrt((2 if rows > 1 else 1) / columns) for rows, columns in shapes]
        weights = [_sums_and_differences(dim, hidden[0], rng)]
        weights += [_gaussian(rng, shape, spread) for shape, spread in zip(shapes[1:], spreads[1:], strict=True)]
    else:
        weights = [_gaussian(rng, shape, 0.01) for shape in shapes]
    biases = tuple(np.zeros(size, np.float32) for size in sizes[1:])
    return DeepSimilarity(tuple(weights), biases, symmetric, model)


def load_similarity(path: str | Path, model: str | None = None) -> Similarity:
    """Read what `DeepSimilarity.save` or `Oasis.save` wrote.

    Raises `CollectionError` when the file is missing, damaged or of another format, and `StampMismatch` when it was
    trained on descriptors of another model than `model`; None accepts any.
    """
    similarity = read_tensors(path, SIMILARITY_FORMAT, _build)
    check_model(path, similarity.model, model)
    return similarity


def _build(tensors: dict[str, Any], facts: dict[str, str]) -> Similarity:
    model, provenance = facts["model"], dict(json.loads(facts["provenance"]))
    if facts["method"] == "oasis":
        return Oasis(tensors["matrix"], model, provenance)
    layers = range(len(tensors) // 2)
    weights, biases = (tuple(tensors[f"{name}.{i}"] for i in layers) for name in ("weight", "bias"))
    return DeepSimilarity(weights, biases, json.loads(facts["symmetric"]) is True, model, provenance)


def _gaussian(rng: np.random.Generator, shape: tuple[int, int], spread: float) -> Float32:
    return rng.standard_normal(shape, np.float32) * np.float32(spread)


def _sums_and_differences(dim: int, units: int, rng: np.random.Generator) -> Float32:
    """Weights (units, 2 dim): half the units see a'(q + x), half a'(q - x), a orthogonal, of length sqrt(dim)."""
    half = -(-units // 2)
    turns = [np.linalg.qr(rng.standard_normal((dim, dim)))[0] for _ in range(-(-half // dim))]
    directions = np.vstack(turns)[:half] * np.sqrt(dim)
    both = np.vstack((np.hstack((directions, directions)), np.hstack((directions, -directions))))
    return np.asarray(both[:units], np.float32)
