"""Make the picture of the page about exchange: what pycolmap reads out of an exported database.

    python docs/figures/exchange.py WORK

WORK is a folder for the photographs of `resight demo`, a collection of them and the database. Writes to docs/images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

from resight.collection import open_or_create
from resight.demo.world import build_world
from resight.exchange.formats import export
from resight.exchange.request import Request
from resight.images.decode import decode
from resight.viz.matches import draw_matches
from resight.viz.pictures import encode_jpeg

IMAGES = Path(__file__).parents[1] / "images"
SHOWN = ("cat", "hopper", "page")


def pair(database: pycolmap.Database, photos: Path, names: tuple[str, str]) -> Image.Image:
    """Two photos and the verified matches that the database holds for them."""
    a, b = (database.read_image_with_name(name).image_id for name in names)
    geometry = database.read_two_view_geometry(a, b)
    points = [database.read_keypoints(image)[:, :2] for image in (a, b)]
    seen = [decode(photos / name).pixels for name in names]
    rows = geometry.inlier_matches
    inliers = np.ones(len(rows), bool)
    return draw_matches(*seen, points[0][rows[:, 0]], points[1][rows[:, 1]], inliers=inliers, transform=geometry.H)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    options = parser.parse_args()
    world = build_world(options.work / "world")
    collection = open_or_create(options.work / "exchange.resight")
    collection.add([path for name in SHOWN for path in sorted(world.photos_folder.glob(f"{name}-*.jpg"))])
    out = options.work / "colmap.db"
    out.unlink(missing_ok=True)
    export("colmap-db", Request(collection, out))
    with pycolmap.Database.open(out) as database:
        picture = pair(database, world.photos_folder, ("cat-00.jpg", "cat-02.jpg"))
    (IMAGES / "exchange.jpg").write_bytes(encode_jpeg(picture, 1200, 1200))


if __name__ == "__main__":
    main()
