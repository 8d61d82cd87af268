"""A collection with dates, folders and duplicates, for browsing."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image

from photo_factory import SMALL, picture, view

FOLDERS = ("harbour", "market", "museum/ground floor")
SEEN = 36  # photos, a third of them in each folder, over three years
TAKEN = 0x9003  # DateTimeOriginal
EXIF = 0x8769


def make_album(base: Path) -> Path:
    """Write the photos and index them; gives the path of the collection."""
    from resight.collection import create_collection

    photos = base / "photos"
    for number in range(SEEN):
        folder = photos / FOLDERS[number % len(FOLDERS)]
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / f"photo-{number:02}.jpg", number)
    shutil.copy(photos / "harbour" / "photo-00.jpg", photos / "market" / "the same file.jpg")
    shutil.copy(photos / "market" / "photo-01.jpg", photos / "harbour" / "copy of 01.jpg")
    create_collection(base / "album.resight", "classic", SMALL).add([photos])
    return base / "album.resight"


def _write(path: Path, number: int) -> None:
    height, width = ((240, 320), (320, 240), (270, 360))[number % 3]
    image = Image.fromarray(view(picture(100 + number // 2, height, width), number % 2))
    exif = Image.Exif()
    exif.get_ifd(EXIF)[TAKEN] = f"{2019 + number // 12}:{1 + number % 12:02}:{1 + number % 28:02} 12:00:00"
    image.save(path, quality=88, exif=exif)
