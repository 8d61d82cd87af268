"""Fixtures of the store: a stamp, and small collections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from store_samples import append

from resight.store.stamp import Stamp, new_stamp
from resight.store.tables import create
from resight.store.writer import writing


@pytest.fixture
def stamp() -> Stamp:
    return new_stamp("classic", {"max_side": 1024}, {"codebook": "ab12"})


@pytest.fixture
def make(tmp_path: Path, stamp: Stamp) -> Callable[..., Path]:
    """make("a", "b"): the folder of a new collection with these photos."""

    def build(*ids: str, name: str = "c.resight") -> Path:
        folder = tmp_path / name
        create(folder, stamp)
        if ids:
            with writing(folder, "test") as writer:
                append(writer, ids)
        return folder

    return build
