"""Networks on patches of 32 x 32 pixels, from the authors' files: AffNet (shape), OriNet (direction), HardNet and
HardTFeat (descriptors). The first two and HardNet are kornia's (extra `kornia`).

Mishkin, Radenovic and Matas, "Repeatability is not enough: learning affine regions via discriminability", ECCV 2018;
Mishchuk, Mishkin, Radenovic and Matas, "Working hard to know your neighbor's margins", NeurIPS 2017; Balntas, Riba,
Ponsa and Mikolajczyk, "Learning local feature descriptors with triplets and shallow CNNs", BMVC 2016.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from resight.features.local.loading import fill, kornia_features, read_state
from resight.types import Float32

SIZE = 32  # pixels of a side of a patch
BATCH = 512  # patches at a time
TFEAT = (32, 1, 7, 7)  # shape of the first layer that tells HardTFeat from HardNet
DIM = 128


class HardTFeat(nn.Module):
    """The small network of TFeat trained as HardNet, under the names of the authors' file."""

    def __init__(self) -> None:
        super().__init__()
        layers = (nn.Conv2d(1, 32, 7), nn.Tanh(), nn.MaxPool2d(2, 2), nn.Conv2d(32, 64, 6), nn.Tanh())
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(64, DIM, 8), nn.Tanh())

    def forward(self, patches: Tensor) -> Tensor:
        """Descriptors (n, 128), L2-normalised, of patches (n, 1, 32, 32)."""
        found: Tensor = self.classifier(self.features(standardised(patches)))
        return functional.normalize(found.flatten(1), dim=1)


@dataclass(frozen=True)
class PatchNetwork:
    """A network on patches (n, 32, 32) float32, and the SHA-256 of its file."""

    run: Callable[[Float32], Float32]
    sha256: str

    def __call__(self, patches: Float32) -> Float32:
        """What it gives for each patch, (n, ...) float32. NaN stays NaN."""
        return self.run(patches)


def descriptor(path: str) -> PatchNetwork:
    """HardNet or HardTFeat, whichever the file holds: descriptors (n, 128), L2-normalised."""
    state, sha256 = read_state(path, "HardNet")
    if "features.0.weight" in state and tuple(state["features.0.weight"].shape) == TFEAT:
        own = {name: tensor for name, tensor in state.items() if not name.startswith("SIFT.")}  # of its training
        return _opened(*fill(HardTFeat, path, own, "HardTFeat"), sha256)
    return _opened(*fill(lambda: kornia_features().HardNet(pretrained=False), path, state, "HardNet"), sha256)


def affine_shape(path: str) -> PatchNetwork:
    """AffNet: shapes (n, 2, 2) of determinant 1, lower triangular, which carry a circle onto the ellipse of a patch."""
    state, sha256 = read_state(path, "AffNet")
    network, device = fill(lambda: kornia_features().LAFAffNetShapeEstimator(pretrained=False), path, state, "AffNet")

    def shape(patches: Tensor) -> Tensor:
        a, b, c = network.features(standardised(patches)).flatten(1).unbind(1)
        found = torch.stack([torch.stack([1 + a, torch.zeros_like(a)], 1), torch.stack([b, 1 + c], 1)], 1)
        shapes: Tensor = found / ((1 + a) * (1 + c)).sqrt()[:, None, None]
        return shapes

    return _opened(shape, device, sha256)


def direction(path: str) -> PatchNetwork:
    """OriNet: the direction of a patch (n,), radians from x towards y."""
    state, sha256 = read_state(path, "OriNet")
    network, device = fill(lambda: kornia_features().OriNet(pretrained=False), path, state, "OriNet")
    return _opened(lambda patches: -network(patches), device, sha256)  # it counts the other way


def standardised(patches: Tensor) -> Tensor:
    """Each of patches (n, 1, H, W) with mean 0 and deviation 1; flat ones 0."""
    deviation, mean = torch.std_mean(patches, dim=(1, 2, 3), keepdim=True)
    found: Tensor = (patches - mean) / (deviation + 1e-6)
    return found


def _opened(network: Callable[[Tensor], Tensor], device: str, sha256: str) -> PatchNetwork:
    @torch.inference_mode()
    def run(patches: Float32) -> Float32:
        parts = torch.split(torch.from_numpy(patches[:, None]), BATCH)
        return np.concatenate([network(part.to(device)).cpu().numpy() for part in parts])

    return PatchNetwork(run, sha256)
