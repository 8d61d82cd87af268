"""SOLAR's second-order attention: every position of a feature map looks at every other.

Ng, Balntas, Tian and Mikolajczyk, "SOLAR: second-order loss and attention for image retrieval", ECCV 2020. Its loss is
`second_order` in `resight.training.losses`.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from resight.errors import ArrayError, UsageError


class SecondOrderAttention(nn.Module):
    """Feature maps plus a projection of what each position attends to; does nothing at the start of training.

    `channels`: C of the maps; `hidden`: dimension of the attention. SOLAR puts one after conv4 (1024, 256) and one
    after conv5 (2048, 1024) of a ResNet-101.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        if min(channels, hidden) < 1:
            raise UsageError(f"channels={channels} and hidden={hidden} must be at least 1")
        self.f = _projection(channels, hidden)
        self.g = _projection(channels, hidden)
        self.h = nn.Conv2d(channels, hidden, 1)
        self.v = nn.Conv2d(hidden, channels, 1)
        for parameter in self.v.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, H, W) of maps (N, C, H, W): x + v(h(x) · softmax(f(x)ᵀ g(x) / sqrt(hidden))).

        Memory grows with (H·W)² only where torch has no fused attention for the device. Raises `ArrayError` on
        another shape.
        """
        channels = self.h.in_channels
        if features.ndim != 4 or features.shape[1] != channels or 0 in features.shape:
            raise ArrayError(f"feature maps have shape {tuple(features.shape)}, expected (N, {channels}, H, W)")
        queries, keys, values = (layer(features).flatten(2).transpose(1, 2) for layer in (self.f, self.g, self.h))
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        change: Tensor = self.v(attended.transpose(1, 2).reshape(len(features), -1, *features.shape[2:]))
        return features + change


def _projection(channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU())
