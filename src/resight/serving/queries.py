"""Queries that clients gave: an upload is decoded once and kept for a while under a token, features with it."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from threading import Lock

from resight.collection.answer import Query
from resight.images.decode import Decoded
from resight.serving.problems import Refused

FEATURES = 128  # queries whose features are kept: some 60 MB


@dataclass(frozen=True, eq=False)
class Upload:
    """An uploaded query: its `token`, the `photo`, and the SHA-256 of its file."""

    token: str
    photo: Decoded
    sha256: str
    expires: float


class Uploads:
    """Uploaded queries, at most `most` bytes of pixels and each for `seconds`; the oldest go first."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self.seconds = seconds
        self.size = 0
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, photo: Decoded, content: bytes) -> Upload:
        """Keep a photo and give what it is kept as."""
        sha256 = hashlib.sha256(content).hexdigest()
        upload = Upload(secrets.token_urlsafe(24), photo, sha256, time.monotonic() + self.seconds)
        with self._lock:
            self._kept[upload.token] = upload
            self.size += photo.pixels.nbytes
            while self.size > self.most and len(self._kept) > 1:
                self._drop(next(iter(self._kept)))
        return upload

    def find(self, token: str) -> Upload:
        """The upload with this token. Raises `Refused` (404) when there is none any more."""
        self.tidy()
        found = self._kept.get(token)
        if found is None:
            raise Refused(404, "this query is not kept any more: upload the photo again")
        return found

    def tidy(self) -> None:
        """Forget what has expired."""
        now = time.monotonic()
        with self._lock:
            for token in [token for token, upload in self._kept.items() if upload.expires < now]:
                self._drop(token)

    def _drop(self, token: str) -> None:
        self.size -= self._kept.pop(token).photo.pixels.nbytes


class KnownQueries:
    """Features of the last queries, so that a page of results or a proof does not extract them again."""

    def __init__(self, most: int = FEATURES) -> None:
        self.most = most
        self._kept: OrderedDict[Hashable, Query] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: Hashable) -> Query | None:
        """The query under `key`."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: Hashable, query: Query) -> Query:
        """Keep a query under `key`; gives the one that is kept, which may have come first."""
        with self._lock:
            query = self._kept.setdefault(key, query)
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return query
