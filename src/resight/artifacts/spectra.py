"""What spectral ranking and the manifold search make of a graph once: kept, so that a search need not make it again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resight.arrays import finite_array
from resight.artifacts import files
from resight.artifacts.descriptors import Descriptors
from resight.graph.manifold import ManifoldEmbedding, iterative_embedding
from resight.graph.spectral import SpectralBasis, spectral_basis
from resight.recipes.resources import normalise_graph
from resight.store.tensor_file import map_tensors, write_tensors
from resight.store.writer import Writer
from resight.types import KnnGraph

BASIS_FORMAT, EMBEDDING_FORMAT = "resight spectral basis 1", "resight manifold embedding 1"
NEIGHBOURS, RANK = 49, 1000  # of spectral ranking, as its recipe has them
CLOSE, COMPONENTS, ROUNDS = 5, 2048, 2  # of the manifold embedding, as its recipe has them


def build_basis(writer: Writer, graph: KnnGraph, descriptors: Descriptors, rank: int = RANK) -> SpectralBasis:
    """Compute and store the `rank` leading eigenpairs, or all, of the graph with 49 neighbours at most."""
    k = min(NEIGHBOURS, graph.k)
    basis = spectral_basis(normalise_graph(graph, k), min(rank, len(graph)))
    facts = {"made_from": descriptors.made_from, "k": str(k)}
    tensors = {"values": basis.values, "vectors": basis.vectors}
    write_tensors(files.place(writer, files.SPECTRAL_BASIS), BASIS_FORMAT, tensors, facts)
    return basis


@dataclass(frozen=True, eq=False)
class StoredBasis:
    """Leading eigenpairs of the graph with `k` neighbours."""

    basis: SpectralBasis
    k: int

    def of(self, k: int, rank: int) -> SpectralBasis | None:
        """The first `rank` eigenpairs, None where there are fewer, or of another number of neighbours."""
        count = len(self.basis.vectors)
        if min(k, max(count - 1, 1)) != self.k or rank > len(self.basis.values):
            return None
        return SpectralBasis(self.basis.values[:rank], self.basis.vectors[:, :rank])


def load_basis(folder: Path, descriptors: Descriptors) -> StoredBasis | None:
    """The stored eigenpairs, mapped; None where there are none of these descriptors.

    Raises `CollectionError` when they are damaged.
    """

    def build(tensors: dict[str, Any], metadata: dict[str, str]) -> StoredBasis | None:
        if metadata["made_from"] != descriptors.made_from:
            return None
        values = finite_array("values", tensors["values"], np.float64, (None,))
        vectors = finite_array("vectors", tensors["vectors"], np.float64, (len(descriptors.rows), len(values)))
        return StoredBasis(SpectralBasis(values, vectors), int(metadata["k"]))

    return files.read(files.SPECTRAL_BASIS, folder, lambda path: map_tensors(path, BASIS_FORMAT, build))


@dataclass(frozen=True, eq=False)
class StoredEmbedding:
    """A manifold embedding, and the options that it was made with."""

    embedding: ManifoldEmbedding
    options: tuple[int, int, int]

    def of(self, k: int, components: int, rounds: int) -> ManifoldEmbedding | None:
        """The embedding, None where it was made with other options."""
        return self.embedding if self.options == (k, components, rounds) else None


def build_embedding(writer: Writer, descriptors: Descriptors) -> ManifoldEmbedding:
    """Compute and store the manifold embedding, as its recipe has it. Raises `UsageError` above 10 000 photos."""
    embedding = iterative_embedding(descriptors.matrix, COMPONENTS, CLOSE, ROUNDS)
    facts = {"made_from": descriptors.made_from, "options": json.dumps([CLOSE, COMPONENTS, ROUNDS])}
    tensors = {"database": embedding.database, "projection": embedding.projection}
    write_tensors(files.place(writer, files.EMBEDDING), EMBEDDING_FORMAT, tensors, facts)
    return embedding


def load_embedding(folder: Path, descriptors: Descriptors) -> StoredEmbedding | None:
    """The stored embedding, mapped; None where there is none of these descriptors.

    Raises `CollectionError` when it is damaged.
    """

    def build(tensors: dict[str, Any], metadata: dict[str, str]) -> StoredEmbedding | None:
        if metadata["made_from"] != descriptors.made_from:
            return None
        count, dim = descriptors.matrix.shape
        database = finite_array("database", tensors["database"], np.float32, (count, None))
        projection = finite_array("projection", tensors["projection"], np.float64, (dim, database.shape[1]))
        k, components, rounds = (int(value) for value in json.loads(metadata["options"]))
        return StoredEmbedding(ManifoldEmbedding(database, projection), (k, components, rounds))

    return files.read(files.EMBEDDING, folder, lambda path: map_tensors(path, EMBEDDING_FORMAT, build))
