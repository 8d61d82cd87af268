"""DELG's attention over local features.

Cao, Araujo and Sim, "Unifying deep local and global features for image search", ECCV 2020. Its classification loss is
`arcface` in `resight.training.losses`.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from resight.errors import ArrayError, UsageError


class LocalAttention(nn.Module):
    """Scores positions of conv4 maps, with the layers and names of the public PyTorch checkpoints.

    `channels`: C of the maps, 1024 for ResNet-50 and 101; `hidden`: channels between the two 1 x 1 convolutions.
    """

    def __init__(self, channels: int = 1024, hidden: int = 512) -> None:
        super().__init__()
        if min(channels, hidden) < 1:
            raise UsageError(f"channels={channels} and hidden={hidden} must be at least 1")
        self.conv1 = nn.Conv2d(channels, hidden, 1)
        self.bn = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, 1, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, H, W), all positive, and scored features (N, hidden, H, W) of maps (N, C, H, W).

        The scored features are the batch-normalised hidden ones before the ReLU, L2-normalised at each position and
        multiplied by its score. Raises `ArrayError` on another shape.
        """
        channels = self.conv1.in_channels
        if features.ndim != 4 or features.shape[1] != channels or 0 in features.shape:
            raise ArrayError(f"feature maps have shape {tuple(features.shape)}, expected (N, {channels}, H, W)")
        hidden: Tensor = self.bn(self.conv1(features))
        scores: Tensor = functional.softplus(self.conv2(hidden.relu()))
        return scores[:, 0], functional.normalize(hidden, dim=1) * scores
