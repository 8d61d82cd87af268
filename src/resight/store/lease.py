"""One writer at a time in a bucket: an object that only one process can make, and that it renews while it works.

A writer that was killed does not renew it: after `SECONDS` another one may take it over. Every commit asks first
whether the lease is still held, so that a writer that slept for longer stops before it writes.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from resight.errors import CollectionError, CollectionLocked
from resight.store.remote import RemoteFolder, bucket, pull

KEY = "writer.lease"
SECONDS = 30.0
MAX_COMMAND = 200


@dataclass
class Lease:
    """A lease that this process holds; `etag` of its object."""

    view: RemoteFolder
    content: bytes
    etag: str
    lock: threading.Lock = field(default_factory=threading.Lock)

    def require(self) -> None:
        """Renew it. Raises `CollectionError` when it is not held any more, or the bucket cannot be reached."""
        with self.lock:
            found = bucket(self.view).get(KEY)  # a store that knows no conditions would let the next line pass
            etag = None
            if found is not None and found.content == self.content:
                etag = bucket(self.view).put(KEY, self.content, instead_of=self.etag)
            if etag is None:
                raise CollectionError(
                    f"another process has taken over the writing of {self.view}, as this one did not answer for "
                    f"{SECONDS:.0f} seconds: run the same command again, what was stored before is intact"
                )
            self.etag = etag


@contextmanager
def write_lease(view: RemoteFolder, command: str) -> Iterator[None]:
    """Hold the lease of a collection in a bucket; `command` tells others who does.

    Raises `CollectionLocked`, naming the process, while another one holds it.
    """
    content = json.dumps(
        {"process": os.getpid(), "host": platform.node(), "command": command, "token": secrets.token_hex(16)}
    ).encode()
    lease = Lease(view, content, _acquire(view, content))
    done = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lease, done), daemon=True)
    renewing.start()
    try:
        pull(view)  # what the last writer left while this one was waiting
        view.state.lease = lease
        yield
    finally:
        view.state.lease = None
        done.set()
        renewing.join()
        _release(lease)


def _acquire(view: RemoteFolder, content: bytes) -> str:
    etag = bucket(view).put(KEY, content, only_new=True)
    if etag is None:
        held = bucket(view).get(KEY)
        if held is None:
            etag = bucket(view).put(KEY, content, only_new=True)
        elif held.age > SECONDS:
            etag = bucket(view).put(KEY, content, instead_of=held.etag)
    found = bucket(view).get(KEY)
    if etag is None or found is None or found.content != content:
        holder = _holder(b"" if found is None else found.content)
        raise CollectionLocked(
            f"{view} is being written by {holder}: wait until it is done, and "
            f"run this again; one that was killed is forgotten after {SECONDS:.0f} seconds"
        )
    return etag


def _renew(lease: Lease, done: threading.Event) -> None:
    while not done.wait(SECONDS / 3):
        with suppress(CollectionError):  # the next commit says so
            lease.require()


def _release(lease: Lease) -> None:
    with suppress(CollectionError):  # it ends by itself
        found = bucket(lease.view).get(KEY)
        if found is not None and found.content == lease.content:
            bucket(lease.view).delete(KEY)


def _holder(content: bytes) -> str:
    try:
        fields = json.loads(content)
        words = [str(fields[name]) for name in ("process", "host", "command")]
    except (ValueError, KeyError, TypeError):
        return "another process"
    process, host, command = ("".join(c for c in word if c.isprintable())[:MAX_COMMAND] for word in words)
    return f"process {process} on {host} ({command or 'unnamed'})"
