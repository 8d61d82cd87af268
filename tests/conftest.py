"""Small collections of generated photos, made once per run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Before any library starts threads: waiting ones must not take the processor from the others.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest

from photo_factory import SMALL, Photos, make_photos, spoil


@dataclass(frozen=True)
class Built:
    """A collection on disk, the good photos in it, and the names of the bad files that were given to it too."""

    path: Path
    photos: Photos
    broken: tuple[str, ...]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A collection of 15 photos of 5 objects and 4 bad files. Do not write into it: `copied` is for that."""
    from resight.collection import create_collection

    base = tmp_path_factory.mktemp("built")
    photos = make_photos(base / "photos", objects=5)
    broken = spoil(photos.folder)
    create_collection(base / "c.resight", "classic", SMALL).add([photos.folder])
    return Built(base / "c.resight", photos, broken)


@pytest.fixture
def copied(built: Built, tmp_path: Path) -> Built:
    """`built` with a collection and photos of its own. The collection still names the photos of `built`."""
    shutil.copytree(built.path, tmp_path / "copy.resight")
    return Built(tmp_path / "copy.resight", built.photos, built.broken)


@pytest.fixture
def answers() -> Callable[..., list[list[tuple[str, float, int]]]]:
    """answers(path, names): what a collection answers, as plain values that can be compared."""

    def ask(path: Path, names: tuple[str, ...]) -> list[list[tuple[str, float, int]]]:
        from resight.collection import open_collection

        collection = open_collection(path)
        found = [collection.search(name, top=8).results for name in names]
        return [[(r.id, round(r.score, 3), r.inliers) for r in results] for results in found]

    return ask
