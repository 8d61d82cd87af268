"""ALIKED: key points and descriptors of a small network whose descriptor looks where each point asks it to.

Zhao, Wu, Chen, Chen, Xu and Li, "ALIKED: a lighter keypoint and descriptor extraction network via deformable
transformation", IEEE Transactions on Instrumentation and Measurement 2023. The network is kornia's (extra `kornia`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resight.features.local.keypoints import Found, KeypointEncoder, KeypointSettings, finite
from resight.types import Float32

NAME = "ALIKED"
COMPUTED = "dkd.hw_grid"  # a constant of kornia's, which the authors' files do not hold
SAMPLES = "desc_head.agg_weights"  # (places that a descriptor looks at, dim, dim)


@dataclass(frozen=True)
class AlikedSettings(KeypointSettings):
    """ALIKED from the authors' file (aliked-n16, -n16rot or -n32.pth). Settings: see `KeypointSettings`.

    Only aliked-n16rot was trained on turned images.
    """

    def open(self) -> KeypointEncoder:
        """The encoder. Raises `UsageError` when kornia is not installed, or the file is missing, damaged or of another
        network."""
        import torch

        from resight.features.local.loading import fill, kornia_features, read_state

        state, sha256 = read_state(self.weights, NAME)
        model = "aliked-n32" if len(state.get(SAMPLES, ())) == 32 else "aliked-n16"
        make = kornia_features().ALIKED
        network, device = fill(lambda: make(model, self.count, 0.0), self.weights, state, NAME, COMPUTED)

        @torch.inference_mode()
        def forward(images: Float32) -> list[Found | None]:
            features, scores = network.extract_dense_map(torch.from_numpy(images).to(device))
            # NaN compares as no maximum: it would pass for an image without key points
            good = scores.isfinite().flatten(1).all(1) & features.isfinite().flatten(1).all(1)
            xy, strength, _ = network.dkd(scores)
            descriptors, _ = network.desc_head(features, xy)
            side = np.array([images.shape[3] - 1, images.shape[2] - 1], np.float32)
            return [
                finite((one.cpu().numpy() + 1) * side / 2, score.cpu(), rows.cpu()) if whole else None
                for whole, one, score, rows in zip(good.tolist(), xy, strength, descriptors, strict=True)
            ]

        return KeypointEncoder(NAME, forward, sha256, self)
