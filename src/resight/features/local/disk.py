"""DISK: key points and descriptors of a U-Net that learnt by reinforcement which points to match.

Tyszkiewicz, Fua and Trulls, "DISK: learning local features with policy gradient", NeurIPS 2020. The network is kornia's
(extra `kornia`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from resight.features.local.keypoints import Forward, Found, KeypointNetwork, finite
from resight.types import Float32

CELL = 16  # pixels of a cell of the U-Net's coarsest map: sides are padded to a multiple
WINDOW = 5  # pixels of the window in which a key point is the largest


@dataclass(frozen=True)
class Disk(KeypointNetwork):
    """DISK from the authors' file (depth-save.pth or epipolar-save.pth). Settings: see `KeypointNetwork`.

    Its points have neither scale nor angle, and lie on whole pixels.
    """

    name: ClassVar[str] = "DISK"
    least: ClassVar[int] = 32  # instance normalisation needs more than one cell

    def open(self) -> Forward:
        """See `KeypointNetwork.open`."""
        import torch
        from torch.nn.functional import pad

        from resight.features.local.loading import device, fill, kornia_features, read_state

        state = read_state(self.weights, self.name, inside="extractor")
        make = kornia_features().DISK
        network = fill(make, self.weights, state, self.name)
        from kornia.feature.disk.detector import heatmap_to_keypoints

        @torch.inference_mode()
        def forward(images: Float32) -> list[Found | None]:
            height, width = images.shape[2:]
            batch = pad(torch.from_numpy(images).to(device()), (0, -width % CELL, 0, -height % CELL))
            heat, dense = (maps[..., :height, :width] for maps in network.heatmap_and_dense_descriptors(batch))
            points = heatmap_to_keypoints(heat, n=self.count, window_size=WINDOW, score_threshold=self.threshold)
            found = [one.merge_with_descriptors(maps) for one, maps in zip(points, dense, strict=True)]
            good = heat.isfinite().flatten(1).all(1) & dense.isfinite().flatten(1).all(1)
            return [
                finite(one.keypoints.cpu(), one.detection_scores.cpu(), one.descriptors.cpu()) if whole else None
                for one, whole in zip(found, good.tolist(), strict=True)
            ]

        return forward
