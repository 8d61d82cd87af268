"""The files behind a benchmark's image names."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from resight.errors import UsageError
from resight.evaluation.benchmark import Benchmark
from resight.regular_files import open_regular

LONGEST_LIST = 1 << 30  # bytes of a list of names, unpacked: seven times that of GLDv2
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic", ".ppm"))


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Files of a benchmark: `images` in row order and `queries` in query order, None where missing.

    `missing`: the names without a file, each once.
    """

    images: tuple[Path | None, ...]
    queries: tuple[Path | None, ...]
    missing: tuple[str, ...]

    def require(self) -> ImageFiles:
        """These files when all are there. Raises `UsageError` with the count and first names of the missing ones."""
        if self.missing:
            first = ", ".join(self.missing[:5]) + (", ..." if len(self.missing) > 5 else "")
            raise UsageError(f"{len(self.missing)} images of the benchmark are not in the folder: {first}")
        return self


def find_images(benchmark: Benchmark, folder: str | os.PathLike[str]) -> ImageFiles:
    """Look up every image name of `benchmark` under `folder`: as relative path, with or without suffix, else by stem.

    Raises `UsageError` when the folder is missing or a name fits several files.
    """
    root = Path(folder)
    found = image_names(root)
    known: dict[str, list[str]] = {}
    for name in found:
        for key in dict.fromkeys((name, str(PurePosixPath(name).with_suffix("")), PurePosixPath(name).stem)):
            known.setdefault(key, []).append(name)

    def look_up(name: str) -> Path | None:
        path = PurePosixPath(name)
        hits = known.get(name) or known.get(path.name) or known.get(path.stem, [])
        if len(hits) > 1:
            raise UsageError(f"image {name} fits {len(hits)} files under {root}: {', '.join(hits[:3])}")
        if hits:
            return root / hits[0]
        # files without suffix are not in the listing; names come from files and must not leave the folder
        inside = not path.is_absolute() and ".." not in path.parts
        return root / name if inside and (root / name).is_file() else None

    images = tuple(look_up(name) for name in benchmark.images)
    queries = tuple(look_up(query.image) for query in benchmark.queries)
    names = (*benchmark.images, *(query.image for query in benchmark.queries))
    missing = dict.fromkeys(name for name, file in zip(names, images + queries, strict=True) if file is None)
    return ImageFiles(images, queries, tuple(missing))


def images_checksum(files: ImageFiles) -> str:
    """SHA-256 over the content of all images and query images, in order; every file is read once, 1 MiB at a time.

    Two copies of a benchmark with equal lists and unequal sums do not have the same pixels: the re-release of Oxford
    and Paris with blurred faces, for example, differs from the original. Raises `UsageError` when images are missing.
    """
    digest = hashlib.sha256()
    for path in (*files.require().images, *files.queries):
        if path is not None:
            with open_regular(path) as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def image_names(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """Relative POSIX paths of the image files (by suffix) below `folder`, sorted; hidden ones and links are left out.

    Raises `UsageError` when `folder` is not a folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder of images")
    names = []
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names += [Path(parent, name).relative_to(root).as_posix() for name in _visible_images(files)]
    return tuple(sorted(names))


def _visible_images(files: Iterable[str]) -> list[str]:
    return [name for name in files if not name.startswith(".") and PurePosixPath(name).suffix.lower() in SUFFIXES]


def read_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Names, one a line, of a text file, also when compressed with gzip (`.gz`); empty lines are skipped.

    Raises `UsageError` when it cannot be read.
    """
    try:
        with open_regular(path) as file:
            raw = (gzip.GzipFile(fileobj=file) if str(path).endswith(".gz") else file).read(LONGEST_LIST + 1)
        if len(raw) > LONGEST_LIST:
            raise ValueError(f"it holds more than {LONGEST_LIST} bytes")
        text = raw.decode("utf-8")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UsageError(f"cannot read names from {path}: {error}") from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def database_names(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The images of a benchmark folder in row order: the lines of its `images.txt`, else all image files below it.

    Raises `UsageError` when there are none.
    """
    listed = Path(folder, "images.txt")
    names = read_names(listed) if listed.is_file() else image_names(folder)
    if not names:
        raise UsageError(f"{folder} holds neither an images.txt nor images")
    return names
