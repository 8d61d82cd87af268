"""Small collections of generated photos, made once per run."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before any library starts threads: waiting ones must not take the processor from the others.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A run in the background ignores interrupts, and so would the programs that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.pop("COLUMNS", None)  # tables of commands are as wide as each test says

import pytest

from onnx_factory import write_network
from photo_factory import SMALL, Photos, make_photos, spoil

if TYPE_CHECKING:
    from resight.collection import Collection
    from service_process import Running


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


@dataclass(frozen=True)
class World:
    """Three photos of each of eight objects, a network for global descriptors, and a collection of each kind, made when
    it is first asked for.
    """

    base: Path
    photos: Photos
    network: Path

    def parameters(self, recipe: str) -> dict[str, Any]:
        """The settings of the collection of `recipe`: classic, gem or hybrid."""
        backbone = {"backbone": str(self.network)}
        if recipe == "gem":
            return {**backbone, "max_side": 256}
        return SMALL if recipe == "classic" else {**SMALL, **backbone, "scales": [1.0], "whiten": "none"}

    def path(self, recipe: str) -> Path:
        """The collection of `recipe`; do not write into it: `copy` is for that."""
        from resight.collection import create_collection

        path = self.base / f"{recipe}.resight"
        if not path.exists():
            create_collection(path, recipe, self.parameters(recipe)).add([self.photos.folder])
        return path

    def copy(self, recipe: str, folder: Path) -> Collection:
        """A copy of the collection of `recipe` below `folder`, opened."""
        from resight.collection import open_collection

        return open_collection(shutil.copytree(self.path(recipe), folder / f"{recipe}.resight"))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Collections with and without global descriptors."""
    base = tmp_path_factory.mktemp("world")
    return World(base, make_photos(base / "photos", objects=8), write_network(base / "net.onnx", channels=24))


@pytest.fixture(scope="session")
def fitted(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hybrid collection to which everything was fitted that can be. Do not write into it."""
    from resight.collection.regions import describe_regions
    from resight.fitting.fusion import fit_fusion
    from resight.fitting.graphs import build_graph, tune
    from resight.fitting.labels import label
    from resight.fitting.separation import fit_separation_to
    from resight.fitting.similarity import fit_similarity
    from resight.fitting.whitening import fit_whitening_to, use_whitening
    from resight.ranking.expansion_stages import Augmentation
    from resight.training.similarity import Options

    base = tmp_path_factory.mktemp("fitted")
    collection = world.copy("hybrid", base)
    describe_regions(collection)
    use_whitening(collection, fit_whitening_to(collection, "zca"))
    build_graph(collection, 50, offline=True, spectral=True, manifold=True, augmented=Augmentation())
    tune(collection)
    rows = [(name, group[0][:3]) for group in world.photos.groups for name in group]
    labels, groups = base / "labels.csv", base / "groups.csv"
    labels.write_text("\n".join(["photo,label", *(f"{world.photos.folder / name},{what}" for name, what in rows)]))
    groups.write_text("\n".join(["id,group", *(f"{name},{what}" for name, what in rows)]))
    label(collection, labels)
    fit_fusion(collection)
    fit_separation_to(collection, epochs=1)
    fit_similarity(collection, groups=groups, hidden=(16, 8), cosine=Options(epochs=1), options=Options(epochs=2))
    return collection.path


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


@pytest.fixture(scope="session")
def service(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service over a classic and a hybrid collection of 24 photos, which nobody may change."""
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    from service_process import serving

    base = tmp_path_factory.mktemp("service")
    paths = [shutil.copytree(world.path(recipe), base / f"{recipe}.resight") for recipe in ("classic", "hybrid")]
    with serving(base / "log", *paths, "--read-only") as running:
        yield running
