"""LighterGlue: LightGlue made small for XFeat, three layers of attention within and across two photos.

Lindenberger, Sarlin and Pollefeys, "LightGlue: local feature matching at light speed", ICCV 2023; its small form came
with XFeat (Potje et al., CVPR 2024). The network is an ONNX file (extra `onnx`) that takes key points (1, n, 2) and
unit descriptors (1, n, 64) of two photos and gives pairs (m, 2) and their scores (m,).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resight.errors import ArrayError, UsageError
from resight.features.fingerprint import file_sha256, fingerprint
from resight.features.local.compact import Compact
from resight.features.local.keypoints import unit
from resight.features.networks.onnx import open_session
from resight.matching.correspond import Correspondences
from resight.types import Float32, LocalFeatures

NAME = "LighterGlue"
INPUTS = ("kpts0", "kpts1", "desc0", "desc1")
OUTPUTS = ("matches", "scores")


@dataclass(frozen=True, eq=False)
class LighterGlue:
    """The network, opened: the correspondences of two photos whose score reaches `least`, the surest first.

    `distance` of an answer is 1 - score. Peak memory: some 8 bytes for each pair of features, 8 MB for 1000 of both.
    """

    session: Any
    sha256: str
    dim: int
    least: float

    @property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of the weights and the least score."""
        return fingerprint([NAME, self.sha256, self.least])

    def __call__(self, a: LocalFeatures | Compact, b: LocalFeatures | Compact, /) -> Correspondences:
        """The correspondences of `a` and `b`. Raises `ArrayError` on descriptors of another dimension."""
        if not len(a) or not len(b):
            return Correspondences(np.empty((0, 2), np.int32), np.empty(0, np.float32))
        for features in (a, b):
            if features.dim != self.dim:
                raise ArrayError(f"{NAME} takes descriptors of {self.dim} dimensions, not of {features.dim}")
        given = (_normalised(a.xy), _normalised(b.xy), unit(_descriptors(a)), unit(_descriptors(b)))
        pairs, scores = self.session.run(OUTPUTS, {n: one[None] for n, one in zip(INPUTS, given, strict=True)})
        kept = np.isfinite(scores) & (scores >= self.least)
        pairs, scores = pairs[kept], np.minimum(scores[kept], 1)
        order = np.lexsort((pairs[:, 1], pairs[:, 0], -scores))
        return Correspondences(pairs[order].astype(np.int32), (1 - scores[order]).astype(np.float32))


def open_lighterglue(path: str, least: float = 0.5) -> LighterGlue:
    """The matcher in an ONNX file. Raises `UsageError` when onnxruntime is missing, or the file is damaged or of
    another network."""
    place = Path(path).expanduser()
    session = open_session(place, threads=1)  # candidates are matched side by side, a thread each
    inputs = {one.name: one.shape for one in session.get_inputs()}
    outputs = {one.name for one in session.get_outputs()}
    dim = inputs["desc0"][-1] if set(inputs) == set(INPUTS) else None
    if not isinstance(dim, int) or not outputs.issuperset(OUTPUTS):
        raise UsageError(
            f"{os.fspath(place)} is no {NAME}: it takes {', '.join(inputs)} and gives {', '.join(sorted(outputs))}, "
            f"expected {', '.join(INPUTS)} and {', '.join(OUTPUTS)}"
        )
    return LighterGlue(session, file_sha256(place), dim, least)


def _normalised(xy: Float32) -> Float32:
    """Positions (n, 2) about -1 to 1: from the middle of the rectangle that they span, by half its longer side. The
    size of the photo, which the network was trained with, is not kept with its features.
    """
    low, high = xy.min(axis=0), xy.max(axis=0)
    half = max(float((high - low).max()) / 2, 1.0)
    return np.asarray((xy - (low + high) / 2) / np.float32(half), np.float32)


def _descriptors(features: LocalFeatures | Compact) -> Float32:
    if isinstance(features, LocalFeatures):
        return features.descriptors
    return np.asarray(features.codes * np.float32(features.step) + np.float32(features.low), np.float32)
