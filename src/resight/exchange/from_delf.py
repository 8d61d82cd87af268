"""DELF features (Noh et al., ICCV 2017): a folder of files `PHOTO.delf`, each a message `DelfFeatures`.

A feature has descriptor 1, x 2, y 3, scale 4, orientation 5 and strength 6 (`delf/protos/feature.proto`); a descriptor
is a `DatumProto`, whose field 2 is a list of numbers (`delf/protos/datum.proto`). Positions count from the centre of
the top-left pixel. The scale of a feature is that of the photo when it was found: the smaller, the more it covers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from resight.errors import UsageError
from resight.exchange.given import MOST_FEATURES, Given, given
from resight.exchange.hloc_h5 import HALF_PIXEL
from resight.exchange.protobuf import BYTES, FIXED32, fields, number, numbers
from resight.regular_files import read_regular
from resight.types import Float32

SUFFIX = ".delf"
DESCRIPTOR, X, Y, SCALE, ANGLE, STRENGTH = 1, 2, 3, 4, 5, 6
FLOATS, VALUE = 2, 1  # the field of a descriptor with its list of numbers, and the field of that with the numbers
STRIDE = 16.0  # pixels between features at scale 1: the network's fourth block


def read_features(folder: Path) -> Iterator[Given]:
    """Photo by photo, in order of name: that of the file below `folder`, without its suffix.

    Raises `UsageError` when there are no such files, or one is damaged.
    """
    paths = sorted(path for path in folder.rglob(f"*{SUFFIX}") if path.is_file())
    if not paths:
        raise UsageError(f"{folder} holds no files *{SUFFIX}")
    for path in paths:
        name = path.relative_to(folder).as_posix().removesuffix(SUFFIX)
        try:
            columns, descriptors = _parse(read_regular(path))
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot read DELF features from {os.fspath(path)}: {error}") from error
        yield given(
            path,
            name,
            columns[:, [X, Y]] + HALF_PIXEL,
            descriptors,
            scale=STRIDE / np.where(columns[:, SCALE] > 0, columns[:, SCALE], 1),
            angle=columns[:, ANGLE],
            strength=columns[:, STRENGTH],
        )


def _parse(content: bytes) -> tuple[Float32, Float32]:
    """The fields of all features by their numbers, (n, 7), and their descriptors, (n, D)."""
    messages = [body for field, kind, body in fields(memoryview(content)) if field == 1 and kind == BYTES]
    if len(messages) > MOST_FEATURES:
        raise ValueError(f"it holds {len(messages)} features, more than {MOST_FEATURES}")
    columns, descriptors = np.zeros((len(messages), STRENGTH + 1), np.float32), []
    for row, message in zip(columns, messages, strict=True):
        described = np.empty(0, np.float32)
        for field, kind, body in fields(message):
            if field == DESCRIPTOR and kind == BYTES:
                lists = [inner for number_, _, inner in fields(body) if number_ == FLOATS]
                described = numbers(lists[-1], VALUE) if lists else described
            elif X <= field <= STRENGTH and kind == FIXED32:
                row[field] = number(body)
        descriptors.append(described)
    if len({len(described) for described in descriptors}) > 1:
        raise ValueError("its descriptors are of unequal length")
    return columns, np.stack(descriptors) if descriptors else np.empty((0, 0), np.float32)
