"""The real pictures of the demo: files inside the wheels of scikit-image, scikit-learn and matplotlib.

They are read from the installed folders, never through the packages' loaders, which may go to the network.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resight.errors import UsageError

Pixels = NDArray[np.uint8]

LONG_SIDE = 560
_REMEDY = 'install what the demo needs with: pip install "resight[demo]"'


@dataclass(frozen=True)
class Source:
    """A picture, or a part of one: name, package and file inside it, and `box` (left, top, right, bottom) in pixels."""

    name: str
    package: str
    file: str
    box: tuple[int, int, int, int] | None = None


def _skimage(name: str, file: str, box: tuple[int, int, int, int] | None = None) -> Source:
    return Source(name, "skimage", f"data/{file}", box)


# Parts of one picture never overlap: they are different things of the same texture. Grass and gravel hold the same
# stones and blades twice, one above the other, as pictures for tiling do: cut into left and right, no part shares any.
OBJECTS = (
    _skimage("astronaut", "astronaut.png"),
    _skimage("cameraman", "camera.png"),
    _skimage("cat", "chelsea.png"),
    Source("china", "sklearn", "datasets/images/china.jpg"),
    _skimage("coffee", "coffee.png"),
    _skimage("coins", "coins.png", (0, 0, 384, 152)),
    Source("flower", "sklearn", "datasets/images/flower.jpg"),
    _skimage("galaxies", "hubble_deep_field.jpg", (0, 0, 500, 436)),
    _skimage("grass", "grass.png", (0, 0, 256, 512)),
    _skimage("gravel", "gravel.png", (0, 0, 256, 512)),
    Source("hopper", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    _skimage("logo", "logo.png"),
    _skimage("moon", "moon.png", (0, 0, 512, 280)),
    _skimage("motorcycle", "motorcycle_left.png"),
    _skimage("page", "page.png"),
    _skimage("retina", "retina.jpg", (140, 250, 700, 1150)),
    _skimage("rocket", "rocket.jpg"),
    _skimage("stars", "hubble_deep_field.jpg", (500, 436, 1000, 872)),
    _skimage("tissue", "ihc.png", (0, 0, 300, 512)),
)

# Most of these look like one of the objects, and none of them is.
DISTRACTORS = (
    _skimage("clock", "clock_motion.png"),
    _skimage("coins-below", "coins.png", (0, 158, 384, 303)),
    _skimage("galaxies-left", "hubble_deep_field.jpg", (0, 436, 250, 872)),
    _skimage("galaxies-middle", "hubble_deep_field.jpg", (250, 436, 500, 872)),
    _skimage("galaxies-right", "hubble_deep_field.jpg", (500, 0, 750, 436)),
    _skimage("galaxies-rim", "hubble_deep_field.jpg", (750, 0, 1000, 436)),
    _skimage("grass-above", "grass.png", (256, 0, 512, 256)),
    _skimage("gravel-right", "gravel.png", (256, 0, 512, 512)),
    _skimage("horse", "horse.png"),
    _skimage("moon-left", "moon.png", (0, 290, 256, 512)),
    _skimage("moon-right", "moon.png", (256, 290, 512, 512)),
    _skimage("phantom", "phantom.png"),
    _skimage("retina-right", "retina.jpg", (780, 250, 1300, 1150)),
    _skimage("tissue-right", "ihc.png", (310, 0, 512, 512)),
    _skimage("wheel", "color.png"),
)

# Cut into pieces that hang before the objects.
OCCLUDERS = (_skimage("brick", "brick.png"), _skimage("cell", "cell.png"), _skimage("writing", "text.png"))


def load(source: Source) -> Pixels:
    """Read a source as (H, W, 3) uint8 RGB whose longer side is `LONG_SIDE` pixels.

    Raises `UsageError` when the package or its file is not installed.
    """
    path = _package_folder(source.package) / source.file
    if not path.is_file():
        raise UsageError(f"the demo picture {path} is not there: {_REMEDY}")
    with Image.open(path) as image:
        rgba = image.convert("RGBA").crop(source.box or (0, 0, *image.size))
    paper = Image.new("RGBA", rgba.size, "white")
    return _resized(np.asarray(Image.alpha_composite(paper, rgba).convert("RGB")))


def load_all(sources: tuple[Source, ...]) -> dict[str, Pixels]:
    """Read many sources, by name. Raises as `load` does."""
    return {source.name: load(source) for source in sources}


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"the demo takes pictures from the package {package}, which is not installed: {_REMEDY}")
    return Path(spec.submodule_search_locations[0])


def _resized(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    factor = LONG_SIDE / max(height, width)
    size = (round(width * factor), round(height * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=how), np.uint8)
