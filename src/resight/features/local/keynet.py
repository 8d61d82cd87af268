"""Key.Net as a detector: maxima of a learnt response at several sizes of the image.

Barroso-Laguna, Riba, Ponsa and Mikolajczyk, "Key.Net: keypoint detection by handcrafted and learned CNN filters", ICCV
2019. The network is kornia's (extra `kornia`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from resight.features.local.hessian import Regions
from resight.features.local.loading import fill, kornia_features, read_state
from resight.features.local.patches import circles
from resight.features.local.trunk import NotFinite
from resight.types import Float32

NAME = "Key.Net"
LEAST = 32  # pixels of the shorter side, else the smallest size has none left
RADIUS = 22.0  # of a region, in pixels of the size at which it is found
SIGMAS = 6.0  # by which kornia's radius of a region is divided: those that HardNet sees around a blob


def open_keynet(path: str) -> tuple[Callable[[Float32, int], Regions], str]:
    """The detector of a file: brightness (H, W), 0 to 255, and a number to so many regions; and the file's SHA-256.

    Raises `UsageError` when kornia is not installed, or the file is missing, damaged or of another network.
    """
    state, sha256 = read_state(path, NAME)
    kornia = kornia_features()
    network, device = fill(lambda: kornia.KeyNet(pretrained=False), path, state, NAME)
    network.register_forward_hook(_finite)

    @torch.inference_mode()
    def detect(gray: Float32, count: int) -> Regions:
        if min(gray.shape) < LEAST:
            nothing = np.empty((0, 2), np.float32)
            return _regions(nothing, nothing[:, 0], nothing[:, 0])
        image = torch.from_numpy(gray)[None, None].to(device) / 255
        strength, frames = kornia.MultiResolutionDetector(network, count).detect(image)
        found = strength[0] > 0
        frames = frames[0, found].cpu().numpy()
        return _regions(frames[:, :, 2], frames[:, 0, 0], strength[0, found].cpu().numpy())

    return detect, sha256


def _regions(xy: Float32, radius: Float32, strength: Float32) -> Regions:
    pixel = radius / RADIUS
    order = np.lexsort((-radius, xy[:, 0], xy[:, 1], -strength))
    place = (xy + pixel[:, None] / 2)[order]  # kornia gives the corner of the pixel of the level that it was found in
    sigma = np.asarray(radius[order] / SIGMAS, np.float32)
    return Regions(np.asarray(place, np.float32), sigma, circles(np.ones(len(order))), strength[order])


def _finite(_module: nn.Module, _images: tuple[Tensor, ...], response: Tensor) -> None:
    if not bool(response.isfinite().all()):  # NaN is no maximum: it would pass for an image without key points
        raise NotFinite(f"{NAME} answers this photo with NaN or infinity: its weights are damaged")
