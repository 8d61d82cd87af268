"""ALIKED: key points and descriptors of a small network whose descriptor looks where each point asks it to.

Zhao, Wu, Chen, Chen, Xu and Li, "ALIKED: a lighter keypoint and descriptor extraction network via deformable
transformation", IEEE Transactions on Instrumentation and Measurement 2023. The network is kornia's (extra `kornia`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from resight.features.local.keypoints import Forward, Found, KeypointNetwork, finite
from resight.types import Float32

COMPUTED = "dkd.hw_grid"  # a constant of kornia's, which the authors' files do not hold
SAMPLES = "desc_head.agg_weights"  # (places that a descriptor looks at, dim, dim)


@dataclass(frozen=True)
class Aliked(KeypointNetwork):
    """ALIKED from the authors' file (aliked-n16, -n16rot or -n32.pth). Settings: see `KeypointNetwork`.

    Its points have neither scale nor angle: only aliked-n16rot was trained on turned images.
    """

    name: ClassVar[str] = "ALIKED"

    def open(self) -> Forward:
        """See `KeypointNetwork.open`."""
        import torch

        from resight.features.local.loading import device, fill, kornia_features, read_state

        state = read_state(self.weights, self.name)
        model = "aliked-n32" if len(state.get(SAMPLES, ())) == 32 else "aliked-n16"
        make = kornia_features().ALIKED
        network = fill(lambda: make(model, self.count, 0.0), self.weights, state, self.name, COMPUTED)

        @torch.inference_mode()
        def forward(images: Float32) -> list[Found | None]:
            batch = torch.from_numpy(images).to(device())
            features, scores = network.extract_dense_map(batch)
            good = scores.isfinite().flatten(1).all(1) & features.isfinite().flatten(1).all(1)
            # NaN compares as no maximum: it would pass for an image without key points
            xy, strength, _ = network.dkd(scores)
            descriptors, _ = network.desc_head(features, xy)
            side = torch.tensor([images.shape[3] - 1, images.shape[2] - 1], device=batch.device)
            points = zip(good.tolist(), xy, strength, descriptors, strict=True)
            return [
                finite(((one + 1) * side / 2).cpu(), score.cpu(), rows.cpu()) if whole else None
                for whole, one, score, rows in points
            ]

        return forward
