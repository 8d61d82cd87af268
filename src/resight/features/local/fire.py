"""FIRe's local feature integration transformer (LIT): feature maps to a fixed number of super-features.

Weinzaepfel, Lucas, Larlus and Kalantidis, "Learning super-features for image retrieval", ICLR 2022. Its losses are
`superfeature` and `decorrelation` in `resight.training.losses`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resight.errors import ArrayError, UsageError


class FeatureIntegration(nn.Module):
    """Templates that attend to local features, again and again, until each has become a super-feature.

    `channels`: C of the feature maps; `templates`: N super-features; `dim`: their dimension; `iterations`: rounds, all
    with the same weights. The defaults are those of the paper on a ResNet-50 cut after its fourth stage.
    """

    def __init__(self, channels: int = 1024, templates: int = 256, dim: int = 1024, iterations: int = 6) -> None:
        super().__init__()
        if min(channels, templates, dim - 1, iterations) < 1:
            raise UsageError("channels, templates and iterations must be at least 1, dim at least 2")
        self.iterations = iterations
        self.templates_init = nn.Parameter(torch.randn(1, templates, dim))
        self.project_q = nn.Linear(dim, dim, bias=False)
        self.project_k = nn.Linear(channels, dim, bias=False)
        self.project_v = nn.Linear(channels, dim, bias=False)
        self.norm_inputs = nn.LayerNorm(channels)
        self.norm_templates = nn.LayerNorm(dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim // 2), nn.ReLU(), nn.Linear(dim // 2, dim))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Super-features (B, N, dim) and attention maps (B, N, H, W), each of sum 1, of feature maps (B, C, H, W).

        A position shares its attention among the templates (softmax over N); a template then averages its positions.
        The maps are those of the last round. Raises `ArrayError` on another shape.
        """
        channels = self.project_k.in_features
        if features.ndim != 4 or features.shape[1] != channels or 0 in features.shape:
            raise ArrayError(f"feature maps have shape {tuple(features.shape)}, expected (B, {channels}, H, W)")
        local = self.norm_inputs(features.flatten(2).transpose(1, 2))
        keys, values = self.project_k(local), self.project_v(local)
        templates: Tensor = self.templates_init.expand(len(features), -1, -1)
        for _ in range(self.iterations):
            queries = self.project_q(self.norm_templates(templates)) * templates.shape[2] ** -0.5
            shares = (queries @ keys.transpose(1, 2)).softmax(dim=1) + 1e-8
            attention = shares / shares.sum(dim=2, keepdim=True)
            templates = templates + attention @ values
            templates = templates + self.mlp(self.norm_mlp(templates))
        return templates, attention.reshape(len(features), -1, *features.shape[2:])


def strongest(superfeatures: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` super-features (n, dim) of one image with the largest norm, and those norms (n,), descending.

    `superfeatures` (M, dim): those of all scales, 256 from each of 7 in the paper, which keeps 1000. The norm is taken
    before any reduction of the dimension; equal norms keep their order.
    """
    if superfeatures.ndim != 2:
        raise ArrayError(f"super-features have shape {tuple(superfeatures.shape)}, expected (M, dim)")
    if count < 1:
        raise UsageError(f"count={count}: at least one super-feature must be kept")
    strength: Tensor = torch.linalg.vector_norm(superfeatures, dim=1)
    order = torch.argsort(strength, descending=True, stable=True)[:count]
    return superfeatures[order], strength[order]
