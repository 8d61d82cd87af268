"""The folder of a collection in shards: which shards there are, and the head, which knows what all of them share.

`shards.json` names the shards, each an ordinary collection; `head.resight` is an ordinary collection without photos: it
holds stamp, codebooks, calibration and whitening, with which every shard was made.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from resight.errors import CollectionError, CollectionNotFound
from resight.regular_files import read_regular
from resight.store.folder import faults, write_atomic

MANIFEST = "shards.json"
HEAD = "head.resight"
FORMAT = 1
MOST_BYTES = 1 << 24
ROW_BITS = 32  # of a global row, for the row within its shard


@dataclass(frozen=True)
class Layout:
    """`folder` of the whole, and the path of every shard, in the order of their rows."""

    folder: Path
    shards: tuple[Path, ...]

    @property
    def head(self) -> Path:
        """The collection without photos that holds what all shards share."""
        return self.folder / HEAD


def is_sharded(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is the folder of a collection in shards."""
    return os.path.isfile(os.path.join(os.fspath(path), MANIFEST))


def write_layout(folder: Path, shards: list[str]) -> None:
    """Write which shards there are, by their paths relative to `folder`, or absolute ones."""
    write_atomic(folder / MANIFEST, json.dumps({"format": FORMAT, "shards": shards}, indent=1).encode())


def read_layout(path: str | os.PathLike[str]) -> Layout:
    """Read it. Raises `CollectionNotFound` where there is none, `CollectionError` when it is damaged or newer."""
    folder = Path(os.path.abspath(os.fspath(path)))
    file = folder / MANIFEST
    if not file.exists():
        raise CollectionNotFound(f"{folder} is no collection in shards: resight shards split makes one")
    with faults("read", file):
        text = read_regular(file, MOST_BYTES)
    try:
        content = json.loads(text)
        version, names = content["format"], content["shards"]
        if not (isinstance(names, list) and names and all(isinstance(name, str) and name for name in names)):
            raise ValueError("it names no shards")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CollectionError(f"{file} is damaged ({error}): split the collection again") from error
    if version != FORMAT:
        raise CollectionError(f"{file} has format {version}, this resight reads {FORMAT}: upgrade resight")
    if len(set(names)) < len(names):
        raise CollectionError(f"{file} names a shard twice: split the collection again")
    return Layout(folder, tuple(folder / name for name in names))
