"""Learnable smoothing of feature maps: how wide to look, and whether to believe oneself, predicted at each position.

Seo and Han, "Improving spatial and semantic context of local descriptors for image retrieval", 2024. HOW averages each
3 x 3 window whatever is in it. Here position i has a bandwidth a_i, large where neighbours have nothing to say (edges,
fine texture), and a self-confidence c_i, small where the position itself is an outlier:

    y_i = sum_j w_ij x_j / sum_j w_ij,    w_ij = exp(-a_i |p_i - p_j|²) for j != i in the window,    w_ii = c_i
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from resight.errors import ArrayError, UsageError

WINDOWS = (3, 5, 7)
START = 8.0


class LearnableSmoothing(nn.Module):
    """Predicts bandwidth and self-confidence of maps with `channels` channels by two 1 x 1 convolutions.

    Their weights start at 0 and their biases at -`start` and `start`, so that a = softplus(-start) and
    c = sigmoid(start) everywhere: with 8, a = 3.4e-4 and c = 1 - 3.4e-4, and within a window of 3 a value differs from
    HOW's mean (a = 0, c = 1, no padding counted) by less than 1e-3 of the spread of its window; with 20, by rounding.
    Softplus and sigmoid never reach 0 and 1, and their gradient is as small as their distance, e^-start: Adam does not
    mind, but weight decay would pull the biases home, and should leave them out.
    Raises `UsageError` unless `window` is 3, 5 or 7, and on channels below 1.
    """

    def __init__(self, channels: int, window: int = 3, start: float = START) -> None:
        super().__init__()
        if channels < 1 or window not in WINDOWS:
            raise UsageError(f"channels={channels}, window={window}: channels are at least 1, windows 3, 5 or 7")
        self.window = window
        self.weight = nn.Parameter(torch.zeros(2, channels))  # rows: bandwidth, self-confidence
        self.bias = nn.Parameter(torch.tensor([-start, start]))

    def forward(self, maps: Tensor, source: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Bandwidth a >= 0 and self-confidence c in [0, 1], (N, H, W) each, of maps (N, C, H, W).

        `source`: maps of that shape that the confidence is predicted from instead.
        """
        bandwidth, confidence = (
            torch.einsum("c,nchw->nhw", self.weight[row], one) + self.bias[row]
            for row, one in enumerate((maps, maps if source is None else source))
        )
        return functional.softplus(bandwidth), torch.sigmoid(confidence)


def gaussian_smooth(maps: Tensor, bandwidth: Tensor, confidence: Tensor, window: int = 3) -> Tensor:
    """Maps (N, C, H, W) smoothed with `bandwidth` a and `confidence` c (N, H, W) in windows of 3, 5 or 7.

    Borders use the positions that exist. Where all weights vanish (c = 0 beside a huge a) a value stays what it is.
    It is linear in the maps, so a reduction of the channels may come first, which saves most of the work. Time grows
    with window², memory is a few maps, and for gradients one map for each distance: 2, 5 or 9.
    Raises `ArrayError` on other shapes, `UsageError` on another window.
    """
    if window not in WINDOWS:
        raise UsageError(f"window={window}: learnable smoothing looks at windows of 3, 5 or 7 positions")
    expected = (maps.shape[0], *maps.shape[2:])
    if maps.ndim != 4 or tuple(bandwidth.shape) != expected or tuple(confidence.shape) != expected:
        got = f"{tuple(maps.shape)}, {tuple(bandwidth.shape)} and {tuple(confidence.shape)}"
        raise ArrayError(f"maps, bandwidth and confidence have shapes {got}, expected (N, C, H, W) and (N, H, W) twice")
    mass = confidence
    total = confidence[:, None] * maps
    padded, there = _padded(maps, window // 2), _padded(torch.ones_like(maps[:1, :1]), window // 2)
    for square, offsets in rings(window).items():
        weight = torch.exp(-bandwidth * square)
        total = total + weight[:, None] * _ring(padded, offsets, maps.shape)
        mass = mass + weight * _ring(there, offsets, maps.shape)[:, 0]
    some = mass > torch.finfo(mass.dtype).tiny
    return torch.where(some[:, None], total / torch.where(some, mass, 1)[:, None], maps)


def rings(window: int) -> dict[int, list[tuple[int, int]]]:
    """The offsets (down, right) of a window around its centre, by their squared distance from it."""
    reach = range(-(window // 2), window // 2 + 1)
    found: dict[int, list[tuple[int, int]]] = {}
    for down in reach:
        for right in reach:
            if down or right:
                found.setdefault(down * down + right * right, []).append((down, right))
    return dict(sorted(found.items()))


def _padded(maps: Tensor, reach: int) -> Tensor:
    return functional.pad(maps, (reach, reach, reach, reach))


def _ring(padded: Tensor, offsets: list[tuple[int, int]], shape: torch.Size) -> Tensor:
    """The sum over `offsets` of maps that were padded, shifted by each."""
    height, width = shape[2:]
    reach = (padded.shape[2] - height) // 2
    total = torch.zeros_like(padded[:, :, :height, :width])
    for down, right in offsets:
        top, left = reach + down, reach + right
        total += padded[:, :, top : top + height, left : left + width]
    return total
