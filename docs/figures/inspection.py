"""Make the pictures of docs/inspect.md, docs/context.md and docs/how.md, from photographs of `resight demo`.

    python docs/figures/inspection.py NETWORK.onnx WORK

NETWORK.onnx gives feature maps with cells of 16 pixels, such as a ResNet-50 cut after its fourth stage. WORK is a
folder for the photographs. Writes to docs/images.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

from resight.demo.world import build_world
from resight.features.local.encoders import open_encoder
from resight.features.local.inspection import look_inside
from resight.features.local.rootsift import RootSift
from resight.images.decode import decode
from resight.reports.inspection import figures_of
from resight.types import Encoder
from resight.viz.pictures import encode_jpeg

PHOTO, SMOOTH = "china-01.jpg", "coffee-00.jpg"
AT = [(250.0, 170.0), (260.0, 270.0), (480.0, 130.0), (560.0, 350.0)]  # roof, walls, sky, trees in it
IMAGES = Path(__file__).parents[1] / "images"


def pictures(photo: Path, encoder: Encoder, name: str, at: list[tuple[float, float]]) -> dict[str, Image.Image]:
    """What `encoder` sees in a photo, by the name of the picture."""
    pixels = decode(photo).pixels
    found = figures_of(pixels, name, look_inside(encoder, pixels, at))
    return {figure.name: Image.open(io.BytesIO(figure.png)).convert("RGB") for figure in found}


def stacked(parts: list[Image.Image]) -> Image.Image:
    """Pictures below each other, brought to one width."""
    width = max(part.width for part in parts)
    scaled = [part.resize((width, round(part.height * width / part.width)), Image.Resampling.LANCZOS) for part in parts]
    return Image.fromarray(np.concatenate([np.asarray(part) for part in scaled]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("work", type=Path)
    options = parser.parse_args()
    photos = build_world(options.work / "world").photos_folder
    photo, encoder = photos / PHOTO, open_encoder("how", backbone=str(options.network), count=300)
    maps, smooth = pictures(photo, encoder, "how", AT), pictures(photos / SMOOTH, encoder, "how", [])
    points = pictures(photo, RootSift(count=300), "rootsift", [])
    made = {
        "inspect": stacked([maps["attention"], maps["features"]]),
        "inspect-keypoints": points["keypoints"],
        "context": maps["edges"],
        "how": stacked([smooth["attention"], smooth["features"]]),
    }
    for name, picture in made.items():
        (IMAGES / f"{name}.jpg").write_bytes(encode_jpeg(picture, 1400, 1400))


if __name__ == "__main__":
    main()
