"""What collections can be made of, each with its reader; which of them a path is, is seen from its content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from resight.errors import UsageError
from resight.exchange import from_colmap, from_delf, from_hloc
from resight.exchange.given import Given
from resight.regular_files import open_regular


@dataclass(frozen=True)
class Source:
    """`read`: the features in a path, photo by photo. `begins`: the first bytes of such files, None for folders.
    `pairs`: reads the pairs that it holds, names and inliers; None where it has none.
    """

    title: str
    begins: bytes | None
    read: Callable[[Path], Iterator[Given]]
    pairs: Callable[[Path], list[tuple[str, str, int]]] | None = None


SOURCES: Mapping[str, Source] = {
    "hloc-h5": Source("features that hloc extracted", b"\x89HDF\r\n\x1a\n", from_hloc.read_features),
    "colmap-db": Source("a COLMAP database", b"SQLite format 3\0", from_colmap.read_features, from_colmap.read_pairs),
    "delf": Source("a folder of .delf files", None, from_delf.read_features),
}


def source_of(path: Path) -> str:
    """The name of the source that `path` is. Raises `UsageError` when it is none of them, or not there."""
    if path.is_dir():
        return next(name for name, source in SOURCES.items() if source.begins is None)
    try:
        with open_regular(path) as file:
            head = file.read(max(len(source.begins or b"") for source in SOURCES.values()))
    except OSError as error:
        raise UsageError(f"cannot open {path}: {error}") from error
    for name, source in SOURCES.items():
        if source.begins is not None and head.startswith(source.begins):
            return name
    kinds = ", ".join(source.title for source in SOURCES.values())
    raise UsageError(f"{path} is none of what can be imported: {kinds}")
