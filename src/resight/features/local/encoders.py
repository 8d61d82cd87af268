"""The local features by name: settings in, an `Encoder` out.

A kind is a frozen dataclass of settings, all with defaults, whose `open()` gives the encoder. Its module is imported
when the kind is first asked for, and may import nothing heavier than OpenCV at its top: torch, kornia and onnxruntime
are imported by `open`. Settings that name files are those in `MODEL_FILES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

from resight.errors import UsageError
from resight.types import Encoder

# Settings that name a file
MODEL_FILES = (
    "backbone", "weights", "second", "region_whitening", "reduction", "context", "head", "boxes", "affine",
    "orientation", "keynet", "matcher_weights",
)  # fmt: skip
SIFT_WORDS = 12.0  # visual words per square root of the number of descriptors, for many different small patches
MAP_WORDS = 3.0  # for cells of deep maps, of which there are fewer kinds: 1024 to 2048 words for 500 photos


class EncoderSettings(Protocol):
    """The parameters of one kind, checked: a frozen dataclass."""

    def open(self) -> Encoder: ...


@dataclass(frozen=True)
class Kind:
    """Where a kind is defined, `module` and its dataclass `settings`, and how many visual words it needs.

    `cell`: how far off its positions are, about as `Traits.cell` of its encoder says: of several kinds, the one with
    the smallest verifies. `network`: it describes many photos at once, better than one by one in threads. `framed`:
    its features have a scale and an angle of their own.
    """

    module: str
    settings: str
    words: float = SIFT_WORDS
    cell: float = 1.0
    network: bool = False
    framed: bool = True

    def load(self) -> type[EncoderSettings]:
        """The dataclass of its settings; imports its module."""
        module = import_module(f"resight.features.local.{self.module}")
        return cast(type[EncoderSettings], getattr(module, self.settings))


ENCODERS: Mapping[str, Kind] = {
    "rootsift": Kind("rootsift", "RootSift"),
    "how": Kind("how_encoder", "HowSettings", MAP_WORDS, cell=16, network=True),
    "fire": Kind("fire_encoder", "FireSettings", MAP_WORDS, cell=32, network=True),
    "delf": Kind("delf_encoder", "DelfSettings", MAP_WORDS, cell=16, network=True),
    "delf-r": Kind("delf_encoder", "RegionalDelfSettings", MAP_WORDS, cell=16, network=True),
    "delg": Kind("delf_encoder", "DelgSettings", MAP_WORDS, cell=16, network=True),
    "aliked": Kind("aliked", "AlikedSettings", network=True, framed=False),
    "disk": Kind("disk", "DiskSettings", network=True, framed=False),
    "xfeat": Kind("xfeat", "XFeatSettings", network=True, framed=False),
    "hessian-affine": Kind("hessian_affine", "HessianAffine"),
    "hessian-hardnet": Kind("hardnet", "HessianHardNet", network=True),
    "sift-hardnet": Kind("hardnet", "SiftHardNet", network=True),
    "keynet-hardnet": Kind("hardnet", "KeyNetHardNet", network=True),
}


def kind_key(features: str) -> str:
    """The name of a kind in columns and files of collections."""
    return features.replace("-", "_")


def find_kind(features: str) -> Kind:
    """The kind of that name. Raises `UsageError`, with all names, when there is none."""
    if features not in ENCODERS:
        raise UsageError(f"features={features!r} are unknown: choose one of {', '.join(ENCODERS)}")
    return ENCODERS[features]


def open_encoder(features: str, **parameters: Any) -> Encoder:
    """The encoder of that name, with its own `parameters`.

    Raises `UsageError` for a name that is not in `ENCODERS`, for values out of range, and when a file of weights is
    missing, damaged or of another kind.
    """
    return find_kind(features).load()(**parameters).open()
