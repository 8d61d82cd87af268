"""Re-weighting of local features by all the others of their image: what a feature is worth depends on the whole photo.

Seo and Han, "Improving spatial and semantic context of local descriptors for image retrieval", 2024, propose graph
convolutions between a network's maps and HOW's smoothing. `GraphReweighting` is that; `AttentionReweighting` is the
self-attention block of the same width that they compare it with. Both map (N, C, H, W) to maps of that shape and start
as the identity, exactly: their last layer is zero, so a network begins its training as plain HOW.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from resight.errors import ArrayError, UsageError
from resight.ties import nearest
from resight.types import Float32, Int64

CELLS = 1 << 22  # similarities that are held at a time
NARROWER = 4  # times fewer channels between the two layers of a block


@dataclass(frozen=True, eq=False)
class CellGraph:
    """The normalised adjacency of the M cells of a map, row by row: `starts` (M + 1,) and `columns` (E,) int64,
    `weights` (E,) float. Each row holds the cell itself as well."""

    starts: Tensor
    columns: Tensor
    weights: Tensor

    def of(self, h: Tensor) -> Tensor:
        """Its product with rows h (M, D), as a bag of embeddings: no array of E x D is made, forwards or backwards."""
        return functional.embedding_bag(
            self.columns, h, self.starts, mode="sum", per_sample_weights=self.weights, include_last_offset=True
        )

    def neighbours(self, cell: int) -> tuple[Int64, Float32]:
        """The cells that `cell` is joined with, (n,), strongest first, and the weights of these edges; not itself."""
        row = slice(int(self.starts[cell]), int(self.starts[cell + 1]))
        columns, weights = self.columns[row], self.weights[row].detach()
        order = torch.argsort(weights, descending=True, stable=True)
        order = order[columns[order] != cell]
        return columns[order].cpu().numpy(), weights[order].float().cpu().numpy()


def cell_graph(unit: Tensor, k: int = 16, power: float = 3.0) -> CellGraph:
    """D^-1/2 A D^-1/2 of unit features (M, C), with A_ij = max(<x_i, x_j>, 0)^power where j is among the k cells most
    similar to i or i among those of j, and A_ii = 1.

    Gradients flow through the weights; near-equal similarities are ties, broken by the cell's number. Peak memory: the
    similarities of a block of cells, 4 million floats or 17 MB and three times that while they are sorted, and about
    100 bytes for each of the up to 2 k M edges: 7 MB for 64 x 64 cells; never M x M.
    Raises `ArrayError` when a feature holds NaN or infinity.
    """
    if not torch.isfinite(unit).all():
        raise ArrayError("feature maps hold NaN or infinity: the network that made them is damaged")
    cells, k = len(unit), min(k, len(unit) - 1)
    places = torch.arange(cells, device=unit.device)
    found = [_strongest(unit, places[block], k) for block in torch.split(places, max(1, CELLS // cells))]
    columns, similarity = (torch.cat(parts) for parts in zip(*found, strict=True))
    weights, rows = similarity.clamp(min=0) ** power, places.repeat_interleave(k)
    low, high = torch.minimum(rows, columns), torch.maximum(rows, columns)
    first = _first_of_each(low * cells + high)
    first = first[weights[first].detach() > 0]
    low, high, joined = low[first], high[first], weights[first]
    ends, others = torch.cat((low, high, places)), torch.cat((high, low, places))
    values = torch.cat((joined, joined, torch.ones_like(unit[:, 0])))
    degree = torch.zeros_like(unit[:, 0]).index_add(0, ends, values)
    order = torch.argsort(ends * cells + others)
    ends, others, values = ends[order], others[order], values[order]
    starts = functional.pad(torch.bincount(ends, minlength=cells).cumsum(0), (1, 0))
    return CellGraph(starts, others, values * (degree[ends] * degree[others]) ** -0.5)


class GraphReweighting(nn.Module):
    """Two graph convolutions over the cells of one map: X' = X + Â ReLU(Â X̂ W1) W2, with X̂ the L2-normalised rows
    of X (HW, C), Â of `cell_graph`, W1 (C, C/4) and W2 (C/4, C).

    W2 = 0 at the start. W1 is drawn from `generator`, normal with deviation (C/4)^-1/2, which keeps unit rows near unit
    length. `k`: neighbours of a cell; `power`: of their similarity. Memory as `cell_graph`, one image at a time, and
    two arrays HW x C/4. Raises `UsageError` on sizes below 1 or a power below 1, whose gradient at 0 has no bound.
    """

    def __init__(
        self, channels: int, k: int = 16, power: float = 3.0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if min(channels, k) < 1 or not 1 <= power < float("inf"):
            raise UsageError(f"channels={channels}, neighbours={k} and power={power} must all be at least 1")
        self.k, self.power, width = k, power, max(1, channels // NARROWER)
        self.inner = nn.Parameter(torch.randn(channels, width, generator=generator) * width**-0.5)
        self.outer = nn.Parameter(torch.zeros(width, channels))

    def forward(self, maps: Tensor, graphs: Sequence[CellGraph] | None = None) -> Tensor:
        """What the others add to each feature: maps (N, C, H, W) to maps of that shape, X' - X.

        `graphs`: what `graphs(maps)` gave, for maps that are seen many times and do not change.
        Raises `ArrayError` on another shape, NaN or infinity.
        """
        graphs = self.graphs(maps) if graphs is None else graphs
        return torch.stack([self._added(*one) for one in zip(_checked(maps, len(self.inner)), graphs, strict=True)])

    def graphs(self, maps: Tensor) -> list[CellGraph]:
        """How the cells of each of maps (N, C, H, W) are joined, which none of the weights changes."""
        return [cell_graph(_unit(one), self.k, self.power) for one in _checked(maps, len(self.inner))]

    def neighbours(self, maps: Tensor, cells: Int64) -> list[tuple[Int64, Float32]]:
        """For each of `cells` of one image's maps (1, C, H, W), numbered row by row: the cells that it is joined with,
        strongest first, and the weights of these edges in Â."""
        (graph,) = self.graphs(maps.detach())
        return [graph.neighbours(int(cell)) for cell in cells]

    def _added(self, one: Tensor, graph: CellGraph) -> Tensor:
        hidden = graph.of(_unit(one) @ self.inner).relu()
        return (graph.of(hidden) @ self.outer).T.reshape(one.shape)  # Â before W2: on four times fewer channels


class AttentionReweighting(nn.Module):
    """Single-head self-attention over the cells of one map, of the width of `GraphReweighting`: X' = X + A V W, with
    A = softmax(Q Kᵀ / sqrt(C/4)), and Q, K, V (HW, C/4) linear in the layer-normalised rows of X.

    W = 0 at the start; the other weights are drawn from `generator`. The authors could not make such a block converge;
    the norm in front, the zero start, and a warm-up of the learning rate are what such blocks need.
    Memory: HW x C/4 a few times; the fused attention of torch holds no HW x HW. Raises `UsageError` unless channels are
    at least 2.
    """

    def __init__(self, channels: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if channels < 2:
            raise UsageError(f"channels={channels} must be at least 2: a single one has no norm")
        width = max(1, channels // NARROWER)
        self.norm = nn.LayerNorm(channels)
        self.inner = nn.Parameter(torch.randn(channels, 3 * width, generator=generator) * channels**-0.5)
        self.outer = nn.Parameter(torch.zeros(width, channels))

    def forward(self, maps: Tensor) -> Tensor:
        """As `GraphReweighting.forward`."""
        queries, keys, values = self._projected(_checked(maps, len(self.outer[0])))
        mixed = functional.scaled_dot_product_attention(queries[:, None], keys[:, None], values[:, None])[:, 0]
        return (mixed @ self.outer).transpose(1, 2).reshape(maps.shape)

    def neighbours(self, maps: Tensor, cells: Int64, k: int = 16) -> list[tuple[Int64, Float32]]:
        """As `GraphReweighting.neighbours`: the `k` other cells with the most attention, and their shares of it."""
        with torch.no_grad():
            queries, keys, _ = (part[0] for part in self._projected(_checked(maps, len(self.outer[0]))))
            rows = torch.as_tensor(cells, device=maps.device)
            shares = (queries[rows] @ keys.T * queries.shape[1] ** -0.5).softmax(dim=1)
            shares[torch.arange(len(rows), device=maps.device), rows] = -1.0
            values, columns = (part.cpu().numpy() for part in shares.topk(min(k, len(keys) - 1), dim=1))
        return list(zip(columns, values, strict=True))

    def _projected(self, maps: Tensor) -> tuple[Tensor, ...]:
        projected: Tensor = self.norm(_rows(maps)) @ self.inner
        return projected.chunk(3, dim=2)


def _unit(one: Tensor) -> Tensor:
    """One map (C, H, W) as rows (HW, C) of unit length."""
    return functional.normalize(one.flatten(1).T, dim=1)


def _rows(maps: Tensor) -> Tensor:
    """(N, C, H, W) as (N, HW, C)."""
    return maps.flatten(2).transpose(1, 2)


def _checked(maps: Tensor, channels: int) -> Tensor:
    if maps.ndim != 4 or maps.shape[1] != channels or 0 in maps.shape:
        raise ArrayError(f"feature maps have shape {tuple(maps.shape)}, expected (N, {channels}, H, W)")
    return maps


def _strongest(unit: Tensor, block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k most similar other cells of each cell of `block` (B,), one after the other: columns and similarities."""
    similarity = unit[block] @ unit.T
    others = similarity.detach().clone()
    others[torch.arange(len(block), device=unit.device), block] = -2.0  # below any cosine

    def best(which: Int64, count: int) -> tuple[Int64, Float32]:
        chosen = others if len(which) == len(others) else others[torch.from_numpy(which).to(others.device)]
        values, columns = chosen.topk(count, dim=1)
        return columns.cpu().numpy(), values.cpu().numpy()

    columns, _, _ = nearest(best, len(block), k, len(unit), scale=1.0)
    found = torch.from_numpy(columns).to(unit.device)
    return found.flatten(), similarity.gather(1, found).flatten()


def _first_of_each(keys: Tensor) -> Tensor:
    """Positions of one entry of every distinct key, keys ascending."""
    ordered, positions = torch.sort(keys, stable=True)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return positions[new]
