"""The local features by name: settings in, an `Encoder` out.

An encoder is a callable from pixels (H, W, 3) uint8 RGB to `LocalFeatures` in the pixels that it was given;
`LocalFeatures.scaled` carries them over to original pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resight.errors import UsageError
from resight.features.local.rootsift import RootSift
from resight.types import Encoder

ENCODERS: dict[str, Callable[..., Encoder]] = {"rootsift": RootSift}


def open_encoder(features: str, **parameters: Any) -> Encoder:
    """The encoder of that name, with its own `parameters`.

    Raises `UsageError` for a name that is not in `ENCODERS`, and for values out of range.
    """
    if features not in ENCODERS:
        raise UsageError(f"features={features!r} are unknown: choose one of {', '.join(ENCODERS)}")
    return ENCODERS[features](**parameters)
