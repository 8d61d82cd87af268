"""DISK: key points and descriptors of a U-Net that learnt by reinforcement which points to match.

Tyszkiewicz, Fua and Trulls, "DISK: learning local features with policy gradient", NeurIPS 2020. The network is kornia's
(extra `kornia`).
"""

from __future__ import annotations

from dataclasses import dataclass

from resight.features.local.keypoints import Found, KeypointEncoder, KeypointSettings, finite
from resight.types import Float32

NAME = "DISK"
CELL = 16  # pixels of a cell of the U-Net's coarsest map: sides are padded to a multiple
LEAST = 32  # pixels of the shorter side: instance normalisation needs more than one cell
WINDOW = 5  # pixels of the window in which a key point is the largest


@dataclass(frozen=True)
class DiskSettings(KeypointSettings):
    """DISK from the authors' file (depth-save.pth or epipolar-save.pth). Settings: see `KeypointSettings`.

    Its points lie on whole pixels.
    """

    def open(self) -> KeypointEncoder:
        """The encoder. Raises `UsageError` when kornia is not installed, or the file is missing, damaged or of another
        network."""
        import torch
        from torch.nn.functional import pad

        from resight.features.local.loading import fill, kornia_features, read_state

        state, sha256 = read_state(self.weights, NAME, inside="extractor")
        network, device = fill(kornia_features().DISK, self.weights, state, NAME)
        from kornia.feature.disk.detector import heatmap_to_keypoints

        @torch.inference_mode()
        def forward(images: Float32) -> list[Found | None]:
            height, width = images.shape[2:]
            batch = pad(torch.from_numpy(images).to(device), (0, -width % CELL, 0, -height % CELL))
            heat, dense = (maps[..., :height, :width] for maps in network.heatmap_and_dense_descriptors(batch))
            good = heat.isfinite().flatten(1).all(1) & dense.isfinite().flatten(1).all(1)
            points = heatmap_to_keypoints(heat, n=self.count, window_size=WINDOW, score_threshold=self.threshold)
            found = [one.merge_with_descriptors(maps) for one, maps in zip(points, dense, strict=True)]
            return [
                finite(one.keypoints.cpu(), one.detection_scores.cpu(), one.descriptors.cpu()) if whole else None
                for one, whole in zip(found, good.tolist(), strict=True)
            ]

        return KeypointEncoder(NAME, forward, sha256, self, LEAST)
