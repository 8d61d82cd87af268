"""DELG's attention over local features.

Cao, Araujo and Sim, "Unifying deep local and global features for image search", ECCV 2020. Its classification loss is
`arcface` in `resight.training.losses`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from resight.errors import ArrayError, UsageError
from resight.features.local.loading import fill
from resight.types import Float32


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


def looking(
    state: Mapping[str, Tensor], path: str, channels: int, hidden: bool
) -> tuple[Callable[[Float32], tuple[Float32, Float32]], int]:
    """What looks at maps (N, `channels`, h, w) with the attention of a file: scores (N, h, w) and L2-normalised maps
    (N, C, h, w), of the `hidden` features that the attention is trained with, else the maps themselves; and C.

    Raises `UsageError` when the file holds another network, or one for other channels.
    """
    first = state.get("conv1.weight")
    width = channels if first is None or first.ndim != 4 else first.shape[1]
    if width != channels:
        raise UsageError(f"{path} has an attention for maps of {width} channels, and this network gives {channels}")
    size = 512 if first is None else len(first)
    own = {name: tensor for name, tensor in state.items() if not name.startswith(("autoencoder.", "decoder."))}
    network, device = fill(lambda: LocalAttention(channels, size), path, own, "DELG's attention")

    @torch.inference_mode()
    def look(maps: Float32) -> tuple[Float32, Float32]:
        scores, features = network(torch.from_numpy(maps).to(device))
        found = features / scores[:, None].clamp_min(1e-12) if hidden else features.new_tensor(maps)
        return scores.cpu().numpy(), functional.normalize(found, dim=1).cpu().numpy()

    return look, size if hidden else channels
