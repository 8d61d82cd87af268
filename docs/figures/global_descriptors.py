"""Make the pictures of the pages about global descriptors, and of FIRe, from the photographs of `resight demo`.

    python docs/figures/global_descriptors.py NETWORKS WORK

NETWORKS holds resnet101v2_c4.onnx and resnet50v2_c4.onnx, feature maps of ImageNet networks. WORK is a folder for the
photographs and a collection of them; the second run finds them there. Writes to docs/images.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw

from resight.collection import create_collection, open_or_create
from resight.demo.world import World, build_world
from resight.features.global_descriptor import GlobalDescriptor
from resight.features.networks.open import open_backbone
from resight.features.pooling import gem, rmac_regions
from resight.images.decode import decode
from resight.reports.pictures import match_picture
from resight.viz.activations import contributions, draw_contributions
from resight.viz.pictures import encode_jpeg, font
from resight.viz.ranked import RankedItem, ranked_strip

IMAGES = Path(__file__).parents[1] / "images"
INK, SOFT, PAPER = "#1f2933", "#6b7280", (255, 255, 255)
BLUE, GREEN, AMBER, GREY = "#dbeafe", "#dcfce7", "#fef3c7", "#f3f4f6"
Step = tuple[str, str, str]
LABEL = 26


def gem_powers(world: World, network: GlobalDescriptor) -> Image.Image:
    """One pair of photos at three powers of GeM."""
    photos = [decode(world.photos_folder / name).pixels for name in ("cat-00.jpg", "cat-02.jpg")]
    maps = [network.maps(photo) for photo in photos]
    rows = [
        (f"p = {p:g}{name}", draw_contributions(*photos, contributions(*maps, p), height=250, max_width=700))
        for p, name in ((1.0, ", the mean (SPoC)"), (3.0, ", the default"), (10.0, ", close to the maximum (MAC)"))
    ]
    return stacked(rows)


def regions(world: World, network: GlobalDescriptor) -> Image.Image:
    """The squares of R-MAC over a photo, level by level."""
    photo = decode(world.photos_folder / "china-00.jpg").pixels
    maps = network.maps(photo)
    boxes = rmac_regions(maps[None])
    cell = np.array([photo.shape[1] / maps.shape[2], photo.shape[0] / maps.shape[1]])
    sides = boxes[1:, 2] - boxes[1:, 0] + 1
    panels = [picture_of_regions(photo, boxes[:1], cell, "the whole photo")]
    for level, side in enumerate(sorted(set(sides.tolist()), reverse=True), 1):
        chosen = boxes[1:][sides == side]
        panels.append(picture_of_regions(photo, chosen, cell, f"level {level}: {len(chosen)} squares"))
    return beside(panels)


def picture_of_regions(photo: np.ndarray, boxes: np.ndarray, cell: np.ndarray, name: str) -> Image.Image:
    panel = Image.new("RGB", (photo.shape[1], photo.shape[0] + 2 * LABEL), PAPER)
    panel.paste(Image.fromarray(photo), (0, 2 * LABEL))
    draw = ImageDraw.Draw(panel, "RGBA")
    draw.text((8, LABEL), name, INK, font(30), anchor="lm")
    colours = [(37, 99, 235), (22, 163, 74), (234, 88, 12), (190, 24, 93), (13, 148, 136), (124, 58, 237)]
    for number, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        inset = 3 + 5 * (number % 3)
        corners = np.array([(x0, y0), (x1 + 1, y1 + 1)]) * cell + [
            (inset, inset + 2 * LABEL),
            (-inset, 2 * LABEL - inset),
        ]
        colour = colours[number % len(colours)]
        draw.rectangle([*corners[0], *corners[1]], fill=(*colour, 28), outline=(*colour, 255), width=5)
    return panel


def networks(world: World, both: Sequence[GlobalDescriptor], names: Sequence[str]) -> Image.Image:
    """One pair of photos as two frozen networks see it."""
    photos = [decode(world.photos_folder / name).pixels for name in ("coffee-00.jpg", "coffee-03.jpg")]
    rows = []
    for network, name in zip(both, names, strict=True):
        maps = [network.maps(photo) for photo in photos]
        picture = draw_contributions(*photos, contributions(*maps, 3.0), height=250, max_width=700)
        rows.append((f"{name}, {len(maps[0])} channels", picture))
    return stacked(rows)


def explained(world: World, backbone: Path, work: Path) -> Image.Image:
    """What `resight explain` draws."""
    place = work / "gem.resight"
    collection = open_or_create(place, "gem", {"backbone": str(backbone)})
    collection.add([world.photos_folder / f"astronaut-0{view}.jpg" for view in range(4)])
    explanation = collection.explain("astronaut-00.jpg", "astronaut-03.jpg")
    return match_picture(collection, explanation.query, explanation.result, max_width=1000)


def ranked_lists(world: World, backbone: Path, work: Path, query: str) -> Image.Image:
    """The same query by local features, by the global descriptor, and by both."""
    place = work / "hybrid.resight"
    settings = {"backbone": str(backbone), "scales": [1.0]}
    collection = (
        open_or_create(place, "hybrid", settings) if place.exists() else create_collection(place, "hybrid", settings)
    )
    collection.add([world.photos_folder])
    right = set(world.positives[world.queries.index(query)])
    pixels = decode(world.photos_folder / query, max_side=300).pixels
    rows = []
    for recipe, name in (
        ("classic", "classic, local features"),
        ("gem", "gem, one vector"),
        ("hybrid", "hybrid, both"),
    ):
        answer = collection.search(query, top=8, recipe=recipe)
        items = [RankedItem(decode(r.path, max_side=300).pixels, relevant=r.id in right) for r in answer.results]
        found = sum(item.relevant is True for item in items)
        strip = ranked_strip(pixels, items, cell=110, columns=8)
        rows.append((f"{name}: {found} of the first 8 are right, there are {len(right)}", strip))
    return stacked(rows)


def schemes() -> dict[str, Image.Image]:
    """The networks whose weights are trained, as boxes."""
    photo: Step = ("photo", "H x W", GREY)
    return {
        "ap-gem": scheme(
            [[photo, ("ResNet-101", "conv1 - conv5\ntrained", BLUE), ("GeM", "p learned", GREEN),
              ("linear", "2048 to 2048\ntrained", BLUE), ("PCA, power 0.25", "learnt on\nLandmarks-clean", AMBER),
              ("vector", "2048", GREY)]],
            "trained as a whole: 1 - average precision of the ranked list of every photo in the batch",
        ),
        "solar": scheme(
            [[photo, ("ResNet-101", "conv1 - conv4", GREY), ("attention", "each cell looks\nat all cells", BLUE),
              ("conv5", "", GREY), ("attention", "each cell looks\nat all cells", BLUE), ("GeM", "p learned", GREEN),
              ("linear", "2048 to 2048", BLUE), ("vector", "2048", GREY)]],
            "trained: the blue blocks and p; the grey ones keep the weights of GeM",
        ),
        "delg": scheme(
            [[photo, ("ResNet", "conv1 - conv4", BLUE), ("conv5", "", BLUE), ("GeM", "p = 3", GREEN),
              ("linear", "2048 to 2048", BLUE), ("vector", "2048: finds", GREY)],
             [None, None, ("attention", "how telling\nis a cell", AMBER), ("autoencoder", "1024 to 128", AMBER),
              None, ("local features", "1000 x 128: prove", GREY)]],
            "one network, two answers; the local branch learns without changing the trunk",
        ),
        "fire": scheme(
            [[photo, ("ResNet-50", "conv1 - conv4,\nat seven scales", BLUE), ("cells", "h x w of 1024", GREY),
              ("attention", "of 256 templates:\na cell shares itself\namong them", AMBER),
              ("update", "each template: plus\nits cells, plus MLP", AMBER),
              ("super-features", "256 of each scale", GREEN),
              ("strongest", "1000 of all scales,\nby their length", GREY), ("linear", "1024 to 128", BLUE)]],
            "attention and update come six times with the same weights; where a template attends in the last round, "
            "there its super-feature lies",
        ),
    }  # fmt: skip


def scheme(rows: Sequence[Sequence[Step | None]], caption: str) -> Image.Image:
    """Rows of boxes joined by arrows; a gap is None. A lower row branches off the last box above its first gap."""
    count = max(len(row) for row in rows)
    figure = Figure(figsize=(1.62 * count, 1.25 * len(rows) + 0.5), dpi=110, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.05, count), ylim=(-len(rows) - 0.02, 0.12))
    axes.axis("off")
    for y, row in enumerate(rows):
        last = None
        for x, step in enumerate(row):
            if step is None:
                continue
            name, detail, colour = step
            axes.add_patch(Rectangle((x, -y - 0.82), 0.8, 0.74, facecolor=colour, edgecolor=SOFT, linewidth=0.9))
            axes.text(x + 0.4, -y - (0.33 if detail else 0.45), name, ha="center", va="center", size=9.5, color=INK)
            axes.text(x + 0.4, -y - 0.58, detail, ha="center", va="center", size=7.5, color=SOFT)
            start = (x - 0.2, -0.6) if last is None else (last + 0.8, -y - 0.45)
            if x > 0:
                arrow = {"arrowstyle": "->", "color": INK, "linewidth": 1.1}
                axes.annotate("", (x, -y - 0.45), start, arrowprops=arrow)
            last = x
    axes.text(0, -len(rows) + 0.06, caption, size=9, color=SOFT, va="center")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def stacked(rows: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures below each other, each below its label."""
    width = max(picture.width for _, picture in rows)
    canvas = Image.new("RGB", (width, sum(picture.height + LABEL for _, picture in rows)), PAPER)
    draw, y = ImageDraw.Draw(canvas), 0
    for label, picture in rows:
        draw.text((4, y + LABEL // 2), label, INK, font(15), anchor="lm")
        canvas.paste(picture, (0, y + LABEL))
        y += picture.height + LABEL
    return canvas


def beside(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures next to each other."""
    canvas = Image.new("RGB", (sum(p.width + 12 for p in pictures) - 12, max(p.height for p in pictures)), PAPER)
    x = 0
    for picture in pictures:
        canvas.paste(picture, (x, 0))
        x += picture.width + 12
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--query", default="cat-00.jpg", help="of the ranked lists")
    options = parser.parse_args()
    world = build_world(options.work / "world")
    places = [options.networks / f"{name}.onnx" for name in ("resnet101v2_c4", "resnet50v2_c4")]
    large, small = (GlobalDescriptor(open_backbone(place), gem, "gem") for place in places)
    pictures = {
        **schemes(),
        "gem": gem_powers(world, large),
        "rmac": regions(world, large),
        "frozen": networks(world, (large, small), ("ResNet-101", "ResNet-50")),
        "global-descriptors": explained(world, places[0], options.work),
        "hybrid": ranked_lists(world, places[1], options.work, options.query),
    }
    for name, picture in pictures.items():
        (IMAGES / f"{name}.jpg").write_bytes(encode_jpeg(picture, 1200, 1200))


if __name__ == "__main__":
    main()
