"""A folder of photographs whose truth is known: which show the same thing, and by which homography."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from resight.demo import sources, textures
from resight.demo.camera import corners, jpeg_quality, project
from resight.demo.scene import shoot
from resight.errors import ArrayError, ResightError, UsageError

Pixels = NDArray[np.uint8]

PHOTOS = "photos"
GROUND_TRUTH = "ground_truth.csv"
MAX_PICTURE = 900  # pixels a side: it must fit on the wall with room around
_OFF_OBJECTS = 1 << 20  # the random streams of photos without an object, apart from those of the objects


@dataclass(frozen=True, eq=False)
class WorldPhoto:
    """One photograph: file `name`, the `object` on it, and where.

    `homography` (3, 3) float64 maps object pixels to photo pixels, `corners` (4, 2) float64 are the object's corners in
    the photo, clockwise from its top left, possibly outside the frame. Pixels follow the half-pixel rule: the centre
    of the top-left one is (0.5, 0.5). A photo that shows no object has None in all three.
    """

    name: str
    object: str | None
    homography: NDArray[np.float64] | None
    corners: NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class World:
    """What `build_world` wrote: the photos lie in `folder / "photos"`.

    `queries` names one photo per object; `positives` gives, in their order, the other photos of that object.
    """

    folder: Path
    objects: tuple[str, ...]
    photos: tuple[WorldPhoto, ...]
    queries: tuple[str, ...]
    positives: tuple[tuple[str, ...], ...]

    @property
    def lonely(self) -> tuple[str, ...]:
        """Names of the photos that show no object: none has a partner."""
        return tuple(photo.name for photo in self.photos if photo.object is None)

    @property
    def photos_folder(self) -> Path:
        """The folder that holds the photos and nothing else."""
        return self.folder / PHOTOS


@dataclass(frozen=True, eq=False)
class _Shot:
    """The order for one photo."""

    name: str
    object: str | None
    picture: Pixels | None
    level: float
    seed: tuple[int, int, int]


def build_world(folder: str | Path, *, seed: int = 0, views: int = 8, distractors: int = 48) -> World:
    """Write the demo's photographs and their ground truth to `folder`; the same arguments write the same photos.

    Nineteen real pictures are seen `views` times each, hung among other prints, from easy to hard: viewpoint, crop,
    scale, occlusion, light, blur, noise and compression; `distractors` photos show none of them, but often a part of
    the same texture. The first view of each object is its query. Files: `photos/*.jpg` and `ground_truth.csv`
    (columns query, positive); some 10 s and 9 MB. Raises `UsageError` for a bad number, when the pictures' packages
    are missing, and when the folder cannot be made or its photos/ holds other files; `ResightError` when a file
    cannot be written.
    """
    objects = sources.load_all(sources.OBJECTS)
    others = sources.load_all(sources.DISTRACTORS)
    occluders = tuple(sources.load_all(sources.OCCLUDERS).values())
    return write_world(folder, objects, others, occluders, seed=seed, views=views, distractors=distractors)


def write_world(
    folder: str | Path,
    objects: Mapping[str, Pixels],
    others: Mapping[str, Pixels],
    occluders: Sequence[Pixels],
    *,
    seed: int,
    views: int,
    distractors: int,
    photo_size: tuple[int, int] = (640, 480),
) -> World:
    """Photograph any pictures (H, W, 3) uint8 RGB by name into `folder`, as `build_world` does with its own.

    Distractors show each of `others` once, then posters and bare scenes. `photo_size` is (width, height); a third of
    the photos are upright. Raises `ArrayError` for a picture of another shape or with a side above 900 pixels,
    `UsageError` and `ResightError` as `build_world` does.
    """
    for what, value, least in (("seed", seed, 0), ("views", views, 2), ("distractors", distractors, 0)):
        if value < least:
            raise UsageError(f"a demo world with {what} {value} cannot be built: at least {least} is needed")
    for name, picture in (*objects.items(), *others.items()):
        if picture.ndim != 3 or picture.shape[2] != 3 or max(picture.shape) > MAX_PICTURE:
            raise ArrayError(
                f"picture {name} has shape {picture.shape}, expected (H, W, 3) of at most {MAX_PICTURE} pixels"
            )
    shots = _object_shots(objects, seed, views) + _distractor_shots(others, seed, distractors)
    folder = Path(folder)
    _prepare(folder / PHOTOS, {shot.name for shot in shots})
    with ThreadPoolExecutor() as threads:
        photos = tuple(threads.map(lambda shot: _take(folder / PHOTOS, shot, occluders, photo_size), shots))
    by_object = [[photo.name for photo in photos if photo.object == name] for name in objects]
    queries = tuple(names[0] for names in by_object)
    positives = tuple(tuple(names[1:]) for names in by_object)
    _write_ground_truth(folder / GROUND_TRUTH, queries, positives)
    return World(folder, tuple(objects), photos, queries, positives)


def _object_shots(objects: Mapping[str, Pixels], seed: int, views: int) -> list[_Shot]:
    levels = [0.2, *np.linspace(0, 1, views - 1).tolist()]  # the query is a fair view, the others go from easy to hard
    return [
        _Shot(f"{name}-{view:02d}.jpg", name, picture, levels[view], (seed, number, view))
        for number, (name, picture) in enumerate(objects.items())
        for view in range(views)
    ]


def _distractor_shots(others: Mapping[str, Pixels], seed: int, count: int) -> list[_Shot]:
    """Each other picture once, so that no two photos off the objects match; then new posters and bare scenes."""
    shots = []
    pictures = list(others.items())
    levels = np.random.default_rng((seed, _OFF_OBJECTS)).uniform(0, 0.7, count)
    for number, level in enumerate(levels.tolist()):
        key = (seed, _OFF_OBJECTS, number)
        name, picture = pictures[number] if number < len(pictures) else _unseen(key, number)
        shots.append(_Shot(f"other-{number:02d}-{name}.jpg", None, picture, level, key))
    return shots


def _unseen(key: tuple[int, int, int], number: int) -> tuple[str, Pixels | None]:
    if number % 2:
        return "scene", None
    return "poster", textures.poster(np.random.default_rng((*key, 1)), 400, 540)


def _prepare(folder: Path, names: set[str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = sorted(path.name for path in folder.iterdir() if path.name not in names)
    except OSError as error:
        raise UsageError(f"the demo cannot use the folder {folder} ({error.strerror}): give another one") from error
    if foreign:
        raise UsageError(f"the folder {folder} already holds {foreign[0]!r}: give the demo a new or empty folder")


def _take(folder: Path, shot: _Shot, occluders: Sequence[Pixels], photo_size: tuple[int, int]) -> WorldPhoto:
    rng = np.random.default_rng(shot.seed)
    size = photo_size if rng.random() < 2 / 3 else photo_size[::-1]
    photo, homography = shoot(rng, shot.picture, occluders, size, shot.level)
    quality = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality(rng, shot.level)]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), quality)
    _write(folder / shot.name, encoded.tobytes())
    if shot.object is None or shot.picture is None:
        return WorldPhoto(shot.name, None, None, None)
    height, width = shot.picture.shape[:2]
    return WorldPhoto(shot.name, shot.object, homography, project(homography, corners(width, height)))


def _write_ground_truth(path: Path, queries: Sequence[str], positives: Sequence[Sequence[str]]) -> None:
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["query", "positive"])
    writer.writerows((query, name) for query, names in zip(queries, positives, strict=True) for name in names)
    _write(path, table.getvalue().encode())


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ResightError(
            f"the demo cannot write {path} ({error.strerror}): free its place or give another folder"
        ) from error
