"""What a service is allowed to do, and where its limits lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class ServeSettings:
    """`host`, `port`: where it listens. `keys`: the file of keys, None for a service that asks for none. `read_only`:
    nothing can be added, removed or fitted. `originals`: files of photos are given out as they are. `allow_folders`:
    folders from which photos may be added. `uploads`: where uploaded photos are kept; None for a folder beside each
    collection. `workers`: computations at a time. `waiting`: requests that wait for one, of all clients and of one.
    `body_bytes`: of a request; `pixels`: of an uploaded photo. Seconds: `header_seconds` until the
    head of a request is there, `body_seconds` until its body is, `decode_seconds` of processor time for a photo,
    `deadline` of a request from its body to its answer, `query_seconds` that an uploaded query is kept.
    `query_bytes`: pixels of uploaded queries kept at a time. `thumbnail_bytes`: thumbnails kept at a time.
    """

    host: str = "127.0.0.1"
    port: int = 8321
    keys: Path | None = None
    read_only: bool = False
    originals: bool = False
    allow_folders: tuple[Path, ...] = ()
    uploads: Path | None = None
    workers: int = 0
    waiting: int = 128
    waiting_each: int = 32
    body_bytes: int = 32 << 20
    pixels: int = 80_000_000
    header_seconds: float = 15.0
    body_seconds: float = 60.0
    decode_seconds: float = 20.0
    deadline: float = 60.0
    query_seconds: float = 900.0
    query_bytes: int = 256 << 20
    thumbnail_bytes: int = 128 << 20

    @property
    def threads(self) -> int:
        """Computations at a time: `workers`, or one per processor."""
        return self.workers or processors()

    @property
    def local(self) -> bool:
        """Whether it listens on this machine alone."""
        return self.host in LOOPBACK
