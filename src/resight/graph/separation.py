"""Guided similarity separation: a graph convolution that writes the neighbourhood of a photo into its descriptor.

Paper: Liu, Yu, Volkovs, Chang, Rai, Ma, Gorti, "Guided similarity separation for image retrieval", NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn
from torch.nn import functional

from resight.arrays import Float64
from resight.errors import ArrayError, UsageError
from resight.graph.propagation_matrix import Propagation, propagation_matrix, query_rows
from resight.types import Float32, KnnGraph

Precision = Literal["float32", "bfloat16"]
NOISE = 1e-5  # deviation of the off-diagonal weights at the start


@dataclass(frozen=True, eq=False)
class Mixing:
    """A sparse matrix (M, N) on the device of a model; `of(h)` is its product with rows h (N, D).

    `starts` (M + 1,), `columns` (E,) int64, `weights` (E,) float32; the same of the transpose, for gradients.
    """

    starts: Tensor
    columns: Tensor
    weights: Tensor
    transposed: tuple[Tensor, Tensor, Tensor]
    shape: tuple[int, int]

    @staticmethod
    def build(matrix: scipy.sparse.csr_array, device: torch.device, *, symmetric: bool = False) -> Mixing:
        """The matrix on `device`; `symmetric` saves the memory of the transpose."""
        parts = _csr(matrix, device)
        transposed = parts if symmetric else _csr(scipy.sparse.csr_array(matrix.T), device)
        return Mixing(*parts, transposed, (matrix.shape[0], matrix.shape[1]))

    def of(self, h: Tensor) -> Tensor:
        """matrix @ h, (M, D)."""
        return _Mix.apply(h, self)  # type: ignore[no-any-return, no-untyped-call]


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, mixing: Mixing) -> Tensor:
        ctx.mixing = mixing
        return _spmm(mixing.starts, mixing.columns, mixing.weights, h)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        starts, columns, weights = ctx.mixing.transposed
        return _spmm(starts, columns, weights, gradient), None


class _Unit(torch.autograd.Function):
    """L2-normalised rows; keeps the result instead of the input, which saves an array of N x D while training."""

    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(h, dim=1, keepdim=True).clamp(min=1e-12)
        unit: Tensor = h / norms
        ctx.save_for_backward(unit, norms)
        return unit

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        unit, norms = ctx.saved_tensors
        along = torch.einsum("nd,nd->n", gradient, unit)[:, None]
        inner: Tensor = torch.addcmul(gradient, unit, along, value=-1).div_(norms)
        return inner


@dataclass(frozen=True, eq=False)
class EmbeddedIndex:
    """What `extend` needs of an embedded collection: the `inputs` of all layers, each (N, D) float32, first of them
    the descriptors, and the `degrees` (N,) float64 of its graph."""

    inputs: tuple[Float32, ...]
    degrees: Float64


class SimilaritySeparation(nn.Module):
    """The network of guided similarity separation, `layers` graph convolutions of width `dim`.

    With Â = D^-1/2 (A + I) D^-1/2 of the neighbour graph (`propagation_matrix`):

        z_1 = Â X W_1 + b_1,            h_1 = ELU(z_1)
        z_l = Â h_{l-1} W_l + b_l,      h_l = z_{l-1} + residual · ELU(z_l)

    and the embedding is h_L, L2-normalised. Weights start as the identity, off the diagonal normal with deviation
    1e-5 drawn from `seed`; biases start at 0: untrained, the network is a smoothing over neighbours.
    `precision`: of the dense products; float32 keeps the parameters in either case.
    Raises `UsageError` for a width or number of layers below 1, or a residual that is not finite.
    """

    def __init__(
        self, dim: int, layers: int = 2, residual: float = 0.3, *, seed: int = 0, precision: Precision = "float32"
    ) -> None:
        super().__init__()
        if dim < 1 or layers < 1:
            raise UsageError(f"a network of {layers} layers of width {dim} cannot be made: both must be at least 1")
        if not np.isfinite(residual):
            raise UsageError(f"residual={residual} is not a finite number")
        if precision not in ("float32", "bfloat16"):
            raise UsageError(f"precision={precision!r} is unknown: choose float32 or bfloat16")
        rng = np.random.default_rng(seed)
        self.dim, self.residual, self.precision = dim, float(residual), precision
        self.weights = nn.ParameterList([_identity(dim, rng) for _ in range(layers)])
        self.biases = nn.ParameterList([torch.zeros(dim) for _ in range(layers)])
        self._index: EmbeddedIndex | None = None

    @property
    def layers(self) -> int:
        """Number of graph convolutions."""
        return len(self.weights)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        device: torch.device = self.weights[0].device
        return device

    def forward(self, x: Tensor, mixings: Sequence[Mixing]) -> Tensor:
        """Embedding (n_L, D) of rows `x` (n_0, D), with one matrix (n_l, n_{l-1}) per layer.

        Rows of a layer come first, in the same order, among those of the layer before it.
        """
        return _Unit.apply(self._states(x, mixings)[-1])  # type: ignore[no-any-return, no-untyped-call]

    def embed(self, x: Float32, graph: KnnGraph | Propagation) -> Float32:
        """Embed a collection `x` (N, D) float32, L2-normalised, as rows (N, D) of the same kind; transductive.

        The inputs of all layers are kept for `extend`: 4 N D bytes for each layer but the first, which refers to `x`.
        Peak memory: some four arrays of N x D. Raises as `propagation_matrix` does, and `ArrayError` for another width.
        """
        propagation = graph if isinstance(graph, Propagation) else propagation_matrix(x, graph)
        x = self._checked(x)
        if len(x) != len(propagation.degrees):
            raise ArrayError(f"the graph has {len(propagation.degrees)} nodes for {len(x)} rows")
        mixing = Mixing.build(propagation.matrix, self.device, symmetric=True)
        with torch.no_grad():
            states = self._states(as_tensor(x, self.device), [mixing] * self.layers)
            last: Tensor = states.pop()
            embedded: Float32 = functional.normalize(last).cpu().numpy()
        self._index = EmbeddedIndex((x, *(state.cpu().numpy() for state in states)), propagation.degrees)
        return embedded

    def extend(self, queries: Float32, query_graph: KnnGraph) -> Float32:
        """Embed `queries` (Q, D) that the collection of the last `embed` does not hold; online.

        `query_graph` (Q, kq): their neighbours in that collection. The result is that of the joint graph of queries
        and collection, where edges lead from queries to the collection only. A query costs kq D + L D² operations.
        Raises `UsageError` before `embed`, otherwise as `query_rows` does.
        """
        known = self.index
        queries = self._checked(queries)
        joined = query_rows(queries, query_graph, known.inputs[0], known.degrees)
        own = torch.from_numpy(joined.own)[:, None].to(self.device)
        before: Tensor | None = None
        with torch.no_grad():
            h = as_tensor(queries, self.device)
            for layer, inputs in enumerate(known.inputs):
                mixed = torch.from_numpy(joined.matrix @ inputs).to(self.device).addcmul_(h, own)
                z = self._dense(mixed, self.weights[layer]) + self.biases[layer]
                h = self._activated(z, before)
                before = z
            embedded: Float32 = functional.normalize(h).cpu().numpy()
        return embedded

    @property
    def index(self) -> EmbeddedIndex:
        """What is kept of the collection that was last embedded. Raises `UsageError` before `embed`."""
        if self._index is None:
            raise UsageError("there is no collection to extend: call embed on it first")
        return self._index

    def attach(self, index: EmbeddedIndex) -> None:
        """Take up `index`, kept from an `embed` of this model. Raises `ArrayError` when it does not fit the model."""
        shape = (len(index.degrees), self.dim)
        if len(index.inputs) != self.layers or any(part.shape != shape for part in index.inputs):
            raise ArrayError(f"an index of a model of {self.layers} layers needs as many arrays {shape}")
        self._index = index

    def _states(self, x: Tensor, mixings: Sequence[Mixing]) -> list[Tensor]:
        """h_1 ... h_L before normalisation."""
        if len(mixings) != self.layers:
            raise UsageError(f"{len(mixings)} matrices for {self.layers} layers: give one per layer")
        states: list[Tensor] = []
        before: Tensor | None = None
        for mixing, weight, bias in zip(mixings, self.weights, self.biases, strict=True):
            z = self._convolved(states[-1] if states else x, mixing, weight) + bias
            states.append(self._activated(z, None if before is None else before[: len(z)]))
            before = z
        return states

    def _convolved(self, h: Tensor, mixing: Mixing, weight: Tensor) -> Tensor:
        """Â h W. The order that leaves fewer rows to the dense product, or fewer arrays to keep for the gradient."""
        if mixing.shape[0] < mixing.shape[1]:
            return self._dense(mixing.of(h), weight)
        return mixing.of(self._dense(h, weight))

    def _dense(self, h: Tensor, weight: Tensor) -> Tensor:
        if self.precision == "bfloat16":
            return (h.bfloat16() @ weight.bfloat16()).float()
        return h @ weight

    def _activated(self, z: Tensor, before: Tensor | None) -> Tensor:
        activated: Tensor = functional.elu(z)
        return activated if before is None else torch.add(before, activated, alpha=self.residual)

    def _checked(self, x: Float32) -> Float32:
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ArrayError(f"vectors have shape {x.shape}, expected (any, {self.dim}) for this model")
        return np.ascontiguousarray(x, np.float32)


def smoothed(x: Float32, propagation: Propagation, layers: int, residual: float, device: torch.device) -> Float32:
    """What a network embeds `x` (N, D) as before training, but for its noise, which moves it by about 1e-5: (N, D)."""
    mixing = Mixing.build(propagation.matrix, device, symmetric=True)
    h, before = as_tensor(x, device), None
    for _ in range(layers):
        z = mixing.of(h)
        h = functional.elu(z) if before is None else torch.add(before, functional.elu(z), alpha=residual)
        before = z
    unit: Float32 = functional.normalize(h).cpu().numpy()
    return unit


def as_tensor(x: Float32, device: torch.device) -> Tensor:
    """`x` on `device`; shares its memory where that can be written to, which torch insists on."""
    return torch.from_numpy(x if x.flags.writeable else x.copy()).to(device)


def _identity(dim: int, rng: np.random.Generator) -> Tensor:
    weight = rng.standard_normal((dim, dim), np.float32) * np.float32(NOISE)
    np.fill_diagonal(weight, 1.0)
    return torch.from_numpy(weight)


def _csr(matrix: scipy.sparse.csr_array, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.from_numpy(matrix.indptr.astype(np.int64)).to(device),
        torch.from_numpy(matrix.indices.astype(np.int64)).to(device),
        torch.from_numpy(matrix.data.astype(np.float32)).to(device),
    )


def _spmm(starts: Tensor, columns: Tensor, weights: Tensor, h: Tensor) -> Tensor:
    """CSR times dense. As a bag of embeddings, which is what torch computes in parallel on every device."""
    return functional.embedding_bag(
        columns, h, starts, mode="sum", per_sample_weights=weights, include_last_offset=True
    )
