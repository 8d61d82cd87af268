"""The golden world: a small folder of photos with known truth, all drawn from random numbers, and some bad files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from resight.demo import textures
from resight.demo.world import World, WorldPhoto, write_world

Pixels = NDArray[np.uint8]

SIZE = (360, 480)  # height, width of the generated pictures
ORIENTATION = 0x0112  # the EXIF tag; 6 says: turn 90 degrees clockwise to look at it


@dataclass(frozen=True, eq=False)
class GoldenWorld:
    """`world` with its readable photos (`rotated` is one of them), and the bad files that lie among them.

    `rotated` names a photo whose pixels lie on their side under an EXIF orientation tag: its homography and corners are
    those of the upright photo. `truncated` ends halfway, `corrupt` holds random bytes; neither is in `world.photos`.
    """

    world: World
    rotated: str
    truncated: str
    corrupt: str


def build_golden(folder: str | Path, seed: int = 0) -> GoldenWorld:
    """Write some 40 photos of six generated objects, distractors, three odd files; the same seed, the same bytes."""
    rng = np.random.default_rng(seed)
    objects = {name: draw(rng) for name, draw in _OBJECTS.items()}
    others = {f"{name}-twin": draw(rng) for name, draw in _OBJECTS.items()}  # the same kind, another thing
    occluders = (textures.wood(rng, *SIZE), textures.paving(rng, *SIZE))
    world = write_world(folder, objects, others, occluders, seed=seed, views=5, distractors=10)
    photos = world.photos_folder
    last = world.positives[0][-1]
    (photos / "truncated.jpg").write_bytes(_half((photos / last).read_bytes()))
    (photos / "corrupt.jpg").write_bytes(rng.integers(0, 256, 5000, np.uint8).tobytes())
    return GoldenWorld(_with_rotated(world), "rotated.jpg", "truncated.jpg", "corrupt.jpg")


def _poster(rng: Generator) -> Pixels:
    return textures.poster(rng, *SIZE)


def _stones(rng: Generator) -> Pixels:
    return textures.paving(rng, *SIZE)


def _chips(rng: Generator) -> Pixels:
    return textures.terrazzo(rng, *SIZE)


def _clouds(rng: Generator) -> Pixels:
    shade = textures.fractal(rng, *SIZE, cells=(6, 8), octaves=6)
    tint = np.float32(textures.colour(rng, saturation=0.5))
    return np.clip(255 * (0.5 + 2.2 * (shade - 0.5))[..., None] * tint / tint.max(), 0, 255).astype(np.uint8)


def _collage(rng: Generator) -> Pixels:
    """Four pictures side by side, each of another kind."""
    height, width = SIZE[0] // 2, SIZE[1] // 2
    parts = [draw(rng)[:height, :width] for draw in (_poster, _stones, _clouds, _chips)]
    return np.vstack([np.hstack(parts[:2]), np.hstack(parts[2:])])


_OBJECTS = {
    "chips": _chips,
    "clouds": _clouds,
    "collage": _collage,
    "poster": _poster,
    "print": _poster,
    "stones": _stones,
}


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _with_rotated(world: World) -> World:
    """Store the second view of the first object once more, on its side with a tag, as one more positive."""
    source = next(photo for photo in world.photos if photo.name == world.positives[0][0])
    with Image.open(world.photos_folder / source.name) as image:
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        sideways = image.transpose(Image.Transpose.ROTATE_90)
        sideways.save(world.photos_folder / "rotated.jpg", quality=90, exif=exif)
    rotated = WorldPhoto("rotated.jpg", source.object, source.homography, source.corners)
    positives = ((*world.positives[0], rotated.name), *world.positives[1:])
    return replace(world, photos=(*world.photos, rotated), positives=positives)
