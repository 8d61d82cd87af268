"""What every writer is given, and how its product appears: whole, or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resight.collection.collection import Collection
from resight.errors import UsageError
from resight.progress import Progress, silent
from resight.store.folder import faults

TOP = 20  # photos in the ranked list of each photo, as hloc's recipes take


@dataclass(frozen=True, eq=False)
class Request:
    """An export: the `collection`, the path of the product, and how pairs are found: the first `top` results of every
    photo, ranked by `recipe` with these `settings`; None for the collection's own.
    """

    collection: Collection
    out: Path
    top: int = TOP
    recipe: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = silent


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """A scratch path beside `out` to write a file or folder to, which takes its place when the block ends well.

    Raises `UsageError` when something is at `out` or its folder is missing, `CollectionError` when the disk refuses.
    """
    free(out)
    scratch = out.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.{out.name}")
    try:
        with faults("write", out):
            yield scratch
            free(out)
            os.rename(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True) if scratch.is_dir() else scratch.unlink(missing_ok=True)


def free(out: Path) -> None:
    """Raise `UsageError` unless `out` can be made: nothing is there, and its folder is."""
    if os.path.lexists(out):
        raise UsageError(f"{out} exists already: choose another name, or remove it")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"cannot write {out}: there is no folder {out.absolute().parent}, make it first")
