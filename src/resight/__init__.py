"""resight finds every photograph of the same thing: instance-level image retrieval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resight.kernel_cache import choose_kernel_cache
from resight.version import __version__

if TYPE_CHECKING:
    from resight.collection.collection import Collection

__all__ = ["__version__", "open"]

choose_kernel_cache()  # before the first kernel is loaded


def open(path: str) -> Collection:
    """Open the collection at `path`. Raises `CollectionNotFound` when there is none; see `resight.collection`."""
    from resight.collection.open import open_collection  # lazy: `import resight` must stay light

    return open_collection(path)
