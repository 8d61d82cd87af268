"""Pages and pictures as files: as a whole or not at all."""

from __future__ import annotations

from pathlib import Path

from PIL.Image import Image

from resight.errors import UsageError
from resight.store.folder import write_atomic


def need_folder(path: Path | None) -> None:
    """Raise `UsageError` unless there is a folder to write `path` in; None is fine.

    Asked before the work as well: nobody should compute for an hour and then lose the page.
    """
    if path is not None and not path.absolute().parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {path.absolute().parent}, make it first")


def write_page(path: Path, html: str) -> None:
    """Write a page. Raises `CollectionError` when the disk refuses, `UsageError` without a folder."""
    need_folder(path)
    write_atomic(path, html.encode())


def save_picture(path: Path, picture: Image) -> None:
    """Write a picture as PNG. Raises as `write_page` does."""
    need_folder(path)
    write_atomic(path, lambda file: picture.save(file, "PNG"))
