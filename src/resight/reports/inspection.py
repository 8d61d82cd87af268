"""One photo as an encoder of local features sees it, beside plain HOW: pictures, a folder of them, or a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resight.collection.answer import Query
from resight.collection.collection import Collection
from resight.errors import UsageError
from resight.features.local.encoders import ENCODERS
from resight.features.local.inspection import Edges, Inside, Level, Superfeature, look_inside, plain
from resight.features.local.trunk import Trunk
from resight.images.decode import decode
from resight.images.transform import decode_crop
from resight.recipes.catalogue import DEFAULT, INDEXING, RECIPES, settings_of
from resight.reports.files import need_folder, write_page
from resight.store.folder import write_atomic
from resight.types import Encoder
from resight.viz.html import document, picture, text
from resight.viz.inspection import Cells, MapRow, cells_grid, edges_grid, keypoints_picture, maps_grid
from resight.viz.pictures import Pixels
from resight.viz.report import FOOTER, header

DRAWN = 1024  # pixels of the longer side that a photo is decoded to where the encoder does not say
WIDTH = 2400  # of the pictures on a page
PLAIN = "plain HOW"


@dataclass(frozen=True, eq=False)
class Figure:
    """A picture: `name`, a word for its file; `title`, a sentence; `png`, its bytes."""

    name: str
    title: str
    png: bytes


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was seen of a photo, named `name`, of (width, height) pixels `size`: the number of features of each kind,
    and figures."""

    name: str
    size: tuple[int, int]
    features: Mapping[str, int]
    figures: tuple[Figure, ...]


def encoders_of(recipe: str, parameters: Mapping[str, Any]) -> tuple[dict[str, Encoder], int]:
    """The encoders that photos are indexed with by `recipe` and `parameters`, by name, and the pixels of the longer
    side that they want. `recipe` may also be a kind of local features.

    Raises `UsageError` for a recipe without local features, and as `settings_of` and the encoders do.
    """
    keeping = [name for name in INDEXING if RECIPES[name].features]
    if recipe in keeping:
        settings = settings_of(recipe, parameters)
    elif recipe in ENCODERS:
        settings = settings_of(DEFAULT, {"features": recipe, **parameters})
    else:
        names = ", ".join(dict.fromkeys((*keeping, *ENCODERS)))
        raise UsageError(f"recipe {recipe!r} keeps no local features to look at: choose one of {names}")
    return {one.features: one.encoder for one in settings.kinds}, settings.max_side


def encoders_in(collection: Collection) -> tuple[dict[str, Encoder], int]:
    """As `encoders_of`, with the settings, weights and learnt reductions of a collection."""
    snapshot = collection.snapshot
    if not snapshot.kinds:
        raise UsageError(f"{collection.path} keeps no local features to look at")
    return {snapshot.kinds[key]: encoder for key, encoder in snapshot.encoders.items()}, snapshot.settings.max_side


def photo_of(collection: Collection, image: str | Path) -> Path:
    """The file of a photo: a path, or the id of one in the collection. Raises `UsageError` when it is neither."""
    if Path(image).exists():
        return Path(image)
    row = collection.snapshot.find(str(image))
    if row is None:
        raise UsageError(f"{image} is neither a file nor the id of a photo in {collection.path}: check the spelling")
    return Path(collection.snapshot.photo(row)["path"])


def inspect_photo(
    path: str | Path,
    encoders: Mapping[str, Encoder],
    network: Trunk | None = None,
    *,
    at: Sequence[tuple[float, float]] = (),
    max_side: int = DRAWN,
) -> Inspection:
    """Look at a photo with `encoders` by name, and with plain HOW over `network`, else over their own networks.

    `at`: points (x, y) in pixels of the photo, whose cells' edges are drawn. `max_side`: pixels that its longer side is
    brought to. Key points stand alone unless there is a network. Raises `ImageError` when the photo cannot be read or a
    network answers it with NaN, `UsageError` for a point outside of it.
    """
    photo = decode(path, max_side=max_side)
    for x, y in at:
        if not (0 <= x < photo.width and 0 <= y < photo.height):
            raise UsageError(f"point {x:g},{y:g} lies outside {path}, which is {photo.width} x {photo.height} pixels")
    points = [(x * photo.scale, y * photo.scale) for x, y in at]
    return Inspection(Path(path).name, (photo.width, photo.height), *_seen(photo.pixels, encoders, network, points))


def query_figures(collection: Collection, query: Query) -> tuple[Figure, ...]:
    """What the local features of a collection see in the photo, or the box, of a query.

    Raises `UsageError` when it keeps none or a network is not at hand, `ImageError` when the photo cannot be read.
    """
    encoders, side = encoders_in(collection)
    box = query.box
    photo = decode(query.path, max_side=side) if box is None else decode_crop(query.path, box, max_side=side)
    return _seen(photo.pixels, encoders)[1]


def figures_of(
    photo: Pixels, recipe: str, inside: Inside, other: Inside | None = None, *, oriented: bool = True
) -> list[Figure]:
    """The figures of what was seen of `photo` (H, W, 3) uint8, beside `other`, what plain HOW saw."""
    figures = []
    if inside.points is not None:
        title = "Key points: a circle as wide as the patch that is described"
        title += ", with its angle" if oriented else ""
        figures.append(Figure("keypoints", title, keypoints_picture(photo, inside.points, oriented=oriented)))
    seen = _different(recipe, inside, other)
    if seen:
        figures += [_attention(photo, seen), _chosen(photo, seen)]
    if any(level.confidence is not None for level in inside.levels):
        figures.append(_smoothing(photo, inside, other))
    if inside.edges:
        figures.append(_edges(photo, recipe, inside))
    if inside.superfeatures:
        figures.append(_superfeatures(photo, inside))
    return figures


def save_inspection(out: str | Path, inspection: Inspection) -> list[Path]:
    """Write a page where `out` ends in .html, else a folder of PNG files; give what was written.

    Raises `UsageError` when there is no place for it, `CollectionError` when the disk refuses.
    """
    place = Path(out)
    check_out(place)
    if place.suffix.lower() in (".html", ".htm"):
        write_page(place, inspection_page(inspection))
        return [place]
    place.mkdir(exist_ok=True)
    written = [place / f"{figure.name}.png" for figure in inspection.figures]
    for file, figure in zip(written, inspection.figures, strict=True):
        write_atomic(file, figure.png)
    return written


def check_out(place: Path) -> None:
    """Raise `UsageError` unless `save_inspection` could write there: asked before the work."""
    need_folder(place)
    if place.suffix.lower() not in (".html", ".htm") and place.exists() and not place.is_dir():
        raise UsageError(f"{place} is a file: name a folder for pictures, or a page that ends in .html")


def inspection_page(inspection: Inspection) -> str:
    """The figures as one page of HTML that needs nothing else."""
    summary = [("photo", "{} x {}".format(*inspection.size))]
    summary += [(f"features of {name}", str(count)) for name, count in inspection.features.items()]
    cards = "".join(
        f'<figure id="{figure.name}">{picture(figure.png, figure.title, WIDTH)}'
        f"<figcaption>{text(figure.title)}</figcaption></figure>"
        for figure in inspection.figures
    )
    nothing = '<p class="empty">The photo is smaller than one cell of the network at every scale.</p>'
    body = f'<section class="figures" aria-label="Figures">{cards}</section>' if cards else nothing
    head = header(inspection.name, "What local features see", summary)
    return document(inspection.name, "\n".join((head, body, FOOTER)), "inspection")


def _seen(
    pixels: Pixels,
    encoders: Mapping[str, Encoder],
    network: Trunk | None = None,
    points: Sequence[tuple[float, float]] = (),
) -> tuple[dict[str, int], tuple[Figure, ...]]:
    """The number of features, by encoder, and all figures."""
    features: dict[str, int] = {}
    figures: list[Figure] = []
    for name, encoder in encoders.items():
        inside, beside = look_inside(encoder, pixels, points), plain(encoder, network)
        other = None if beside is None else look_inside(beside, pixels)
        found = figures_of(pixels, name, inside, other, oriented=encoder.traits.oriented)
        several = len(encoders) > 1
        figures += [Figure(f"{name}-{one.name}", f"{name}: {one.title}", one.png) if several else one for one in found]
        features[name] = inside.count
    return features, tuple(figures)


def _different(recipe: str, inside: Inside, other: Inside | None) -> list[tuple[str, Sequence[Level]]]:
    """The rows of a comparison: plain HOW and the recipe, one of them where both saw the same or saw no maps."""
    rows = [(PLAIN, other.levels)] if other is not None and other.levels else []
    if not inside.levels:
        return list(rows)
    if other is not None and _same(inside, other):
        return [(recipe, inside.levels)]
    return [*rows, (recipe, inside.levels)]


def _same(inside: Inside, other: Inside) -> bool:
    pairs = zip(inside.levels, other.levels, strict=False)
    return len(inside.levels) == len(other.levels) and all(
        a.attention.shape == b.attention.shape and np.allclose(a.attention, b.attention) for a, b in pairs
    )


def _attention(photo: Pixels, seen: Sequence[tuple[str, Sequence[Level]]]) -> Figure:
    most = max(len(levels) for _, levels in seen)
    rows = []
    for label, levels in seen:
        missing = most - len(levels)
        maps = [*(level.attention for level in levels), *[None] * missing]
        rows.append(MapRow(label, maps, unit="attention", titles=[*map(_scale, levels), *[""] * missing]))
    title = "Attention at each scale: 1 is the strongest cell of all scales"
    return Figure("attention", title, maps_grid(photo, rows))


def _chosen(photo: Pixels, seen: Sequence[tuple[str, Sequence[Level]]]) -> Figure:
    rows = []
    for label, levels in seen:
        cells = [
            Cells(level.xy, level.side, f"{_scale(level)}: {len(level.xy)} of {level.candidates}", _wide(level))
            for level in levels
        ]
        rows.append((label, cells))
    return Figure("features", "Chosen features at each scale, as large as what they look at", cells_grid(photo, rows))


def _scale(seen: Level | Superfeature) -> str:
    return f"scale {seen.scale:.3g}"


def _wide(level: Level) -> bool:
    """Whether features are as wide as what they look at: circles then, where cells are squares of one width."""
    return len(level.side) > 1 and float(np.ptp(level.side)) > 1e-3 * float(level.side.max())


def _smoothing(photo: Pixels, inside: Inside, other: Inside | None) -> Figure:
    levels = inside.levels
    titles = [_scale(level) for level in levels]
    rows = []
    if other is not None:
        plainly = [level.attention for level in other.levels]
        rows.append(MapRow(f"{PLAIN}:\nattention", plainly, unit="attention", titles=titles))
    confidence, widths = [level.confidence for level in levels], [level.bandwidth for level in levels]
    rows.append(MapRow("self-confidence", confidence, unit="self-confidence", titles=None if rows else titles))
    top = max(float(one.max()) for one in widths if one is not None)
    rows.append(MapRow("bandwidth", widths, high=max(top, 1e-3), unit="bandwidth"))
    title = (
        "Learnable smoothing: how far a cell believes itself, and how few neighbours it looks at (a large bandwidth); "
        "in plain HOW confidence is 1 and bandwidth 0 everywhere"
    )
    return Figure("smoothing", title, maps_grid(photo, rows))


def _edges(photo: Pixels, recipe: str, inside: Inside) -> Figure:
    around = np.array([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1) if x or y], np.float32)
    window = [Edges(one.xy, one.side, one.xy + around * one.side, np.ones(8, np.float32)) for one in inside.edges]
    label = recipe if inside.joined else "most similar"
    title = "What a few cells are joined with: their window, and "
    title += "their neighbours in re-weighting" if inside.joined else "the cells that a graph would join them with"
    return Figure("edges", title, edges_grid(photo, [(PLAIN, window), (label, inside.edges)]))


def _superfeatures(photo: Pixels, inside: Inside) -> Figure:
    half = -(-len(inside.superfeatures) // 2)
    rows = []
    for start in range(0, len(inside.superfeatures), half):
        part = inside.superfeatures[start : start + half]
        missing = half - len(part)
        titles = [f"template {one.template}\n{_scale(one)}" for one in part] + [""] * missing
        maps = [*(one.attention / one.attention.max() for one in part), *[None] * missing]
        rows.append(MapRow("", maps, unit="share of strongest", titles=titles))
    title = "Where the strongest super-features look, one of each template: attention relative to its strongest cell"
    return Figure("superfeatures", title, maps_grid(photo, rows))
