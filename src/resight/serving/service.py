"""What all requests share: collections, queries, limits, and the threads that compute."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from fastapi import Request

from resight.errors import UsageError
from resight.images.decode import Decoded
from resight.ranking.bounded_cache import BoundedCache
from resight.serving.decoding import DecodePool
from resight.serving.gate import Gate
from resight.serving.jobs import Jobs
from resight.serving.keys import KeyFile
from resight.serving.metrics import Metrics
from resight.serving.opened import Served, State
from resight.serving.problems import Refused
from resight.serving.queries import Uploads
from resight.serving.settings import ServeSettings
from resight.store.folder import collection_folder

T = TypeVar("T")
FOLLOW_SECONDS = 1.0  # between two looks at the disk
LEFT_SECONDS = 0.2  # between two looks whether the client is still there
CLIENT_LEFT = 499  # what nginx logs; nobody reads it
PICTURES_WAITING = 20  # times as many thumbnails as searches may wait
log = logging.getLogger("resight.serving")


class Stopped(Exception):
    """Nobody waits for the answer any more."""


class Service:
    """Collections that are served, and everything that requests share."""

    def __init__(self, paths: Sequence[str | Path], settings: ServeSettings) -> None:
        self.settings = settings
        self.keys = None if settings.keys is None else KeyFile(settings.keys)
        self.collections = _opened(paths)
        self.uploads = Uploads(settings.query_bytes, settings.query_seconds)
        self.thumbnails: BoundedCache[tuple[str, int], bytes] = BoundedCache(settings.thumbnail_bytes)
        self.metrics = Metrics()
        self.stopping = asyncio.Event()
        self.gate = Gate(settings.threads, settings.waiting, settings.waiting_each)
        self.decoding = Gate(settings.threads, settings.waiting, settings.waiting_each)
        self.pictures = Gate(
            settings.threads, PICTURES_WAITING * settings.waiting, PICTURES_WAITING * settings.waiting_each
        )
        self.threads = ThreadPoolExecutor(2 * settings.threads + 2, thread_name_prefix="resight-serve")
        self.decoders = DecodePool(settings.threads, pixels=settings.pixels, seconds=settings.decode_seconds)
        self.jobs = Jobs(self.follow)

    def find(self, name: str) -> Served:
        """The collection of this name. Raises `Refused` (404) when there is none."""
        if name not in self.collections:
            raise Refused(404, f"there is no collection {name!a}: /v1/collections lists them")
        return self.collections[name]

    def state(self, name: str) -> State:
        """The state of the collection of this name. Raises as `find`."""
        return self.find(name).state

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Warm up, and follow what happens on disk until the block ends."""
        tasks = [asyncio.create_task(self._warm()), asyncio.create_task(self._follow())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.jobs.close()
            self.decoders.close()
            self.threads.shutdown(wait=True, cancel_futures=True)

    async def follow(self, name: str) -> None:
        """Open a collection anew, now, where it has changed."""
        await self.in_thread(self.find(name).follow)

    async def in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in a thread of the service."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)

    async def compute(self, request: Request | None, client: str, function: Callable[[Callable[[], None]], T]) -> T:
        """Call `function(check)` in a thread as soon as there is a place; `check` raises where nobody waits any more.

        Raises `Refused`: 429 when too many wait, 503 when the deadline passes.
        """
        stop = threading.Event()

        def check() -> None:
            if stop.is_set():
                raise Stopped

        started = await self.gate.acquire(client)
        task = asyncio.ensure_future(self.in_thread(function, check))
        task.add_done_callback(lambda done: self._computed(done, started))  # the place is free when the thread is
        try:
            async with asyncio.timeout(self.settings.deadline):
                while not (await asyncio.wait({task}, timeout=LEFT_SECONDS))[0]:
                    if request is not None and await request.is_disconnected():
                        raise Refused(CLIENT_LEFT, "the client has left")
            return task.result()
        except TimeoutError as error:
            raise Refused(503, f"this took longer than {self.settings.deadline:g} s: ask for less") from error
        finally:
            stop.set()

    def _computed(self, task: asyncio.Future[T], started: float) -> None:
        self.gate.release(started)
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits for it any more

    async def decode(self, client: str, content: bytes, max_side: int) -> Decoded:
        """An uploaded photo, decoded in a process that may die. Raises `ImageError`, and `Refused` as `compute`."""
        async with self.decoding.enter(client):
            return await self.decoders.decode(content, max_side)

    async def _warm(self) -> None:
        for served in self.collections.values():
            await self.in_thread(served.warm)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            self.uploads.tidy()
            for served in self.collections.values():
                try:
                    await self.in_thread(served.follow)
                except OSError as error:
                    log.warning("%s cannot be looked at: %s", served.name, error)

    @property
    def private(self) -> Mapping[str, str]:
        """Paths that no answer may name, and what it names instead."""
        private = {str(served.path): name for name, served in self.collections.items()}
        folders = [os.path.realpath(folder) for folder in self.settings.allow_folders]
        for folder in (*folders, *(root for served in self.collections.values() for root in served.state.roots)):
            private.setdefault(f"{folder}/", "")
        return private


def service_of(request: Request) -> Service:
    """The service that answers a request."""
    service: Service = request.app.state.service
    return service


def _opened(paths: Sequence[str | Path]) -> dict[str, Served]:
    """Collections by the names of their folders. Raises `UsageError` when two have the same."""
    found: dict[str, Served] = {}
    for path in paths:
        folder = collection_folder(path)
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name.removesuffix(".resight")).strip(".-") or "collection"
        if name in found:
            raise UsageError(f"{found[name].path} and {folder} would both be called {name}: rename one of them")
        found[name] = Served(name, folder)
    if not found:
        raise UsageError("no collection is given: name one or more to serve")
    return found
