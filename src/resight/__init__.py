"""resight finds every photograph of the same thing: instance-level image retrieval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resight.kernel_cache import choose_kernel_cache
from resight.version import __version__

if TYPE_CHECKING:
    from resight.collection.collection import Collection
    from resight.serving.client import RemoteCollection

__all__ = ["__version__", "connect", "open"]

choose_kernel_cache()  # before the first kernel is loaded


def open(path: str, engine: str | None = None) -> Collection:
    """Open the collection, or the collection in shards, at `path`; `engine`: what searches it, such as
    `ray://HOST:PORT` or `milvus://HOST:PORT/NAME`. Raises `CollectionNotFound` when there is none; see
    `resight.collection` and `resight.cluster.open`.
    """
    from resight.cluster.open import open_searched  # lazy: `import resight` must stay light

    return open_searched(path, engine)


def connect(url: str, key: str | None = None, collection: str | None = None) -> RemoteCollection:
    """The collection that a service (`resight serve`) at `url` serves, which has the methods of one that is open.

    `collection`: its name, where there are several. See `resight.serving.client`.
    """
    from resight.serving.client import connect

    return connect(url, key, collection)
