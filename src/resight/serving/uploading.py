"""Where uploaded photos are kept, and under which names: none that a client could choose a place with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from resight.images.formats import HEADER_BYTES, sniff
from resight.store.folder import faults, write_atomic

LONGEST = 40  # characters of a given name that are kept


def keep_files(uploads: Path | None, collection: Path, files: Sequence[tuple[str, bytes]]) -> tuple[str, list[str]]:
    """Write uploaded files, (given name, content) each, into a folder beside the collection, or the folder `uploads`.

    Gives the folder and the paths. A file's name is made of letters and digits of the given one and of its hash, so
    that the same photo is written once. Raises `CollectionError` when the disk refuses.
    """
    name = collection.name.removesuffix(".resight")
    folder = (collection.with_name(f"{name}-uploads") if uploads is None else uploads / name).absolute()
    with faults("make", folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for given, content in files:
        path = folder / safe_name(given, content)
        if not path.exists():
            write_atomic(path, content)
        paths.append(str(path))
    return str(folder), sorted(set(paths))


def safe_name(given: str, content: bytes) -> str:
    """The name of the file of an uploaded photo."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", given.rpartition(".")[0] or given)[:LONGEST].strip("-") or "photo"
    kind = sniff(content[:HEADER_BYTES]) or "jpeg"
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:12]}.{'jpg' if kind == 'jpeg' else kind}"
