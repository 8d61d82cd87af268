"""Who may compute: a few at a time, a bounded number waits, and clients take turns."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from resight.serving.problems import Refused

PATIENCE = 20.0  # seconds: whoever would wait longer comes back later
MEMORY = 0.9  # of the mean duration that is kept with every further one


class Gate:
    """At most `places` at work; at most `waiting` wait, and `waiting_each` of one client, and nobody who would wait
    longer than `patience` seconds by what computations took of late.

    Those who wait are let in by turns of clients, so that one with many requests does not hold up the others. For one
    event loop.
    """

    def __init__(self, places: int, waiting: int, waiting_each: int, patience: float = PATIENCE) -> None:
        self.places = places
        self.waiting = waiting
        self.waiting_each = waiting_each
        self.patience = patience
        self.busy = 0
        self.seconds = 0.1  # that a computation takes, on average of late
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def queued(self) -> int:
        """How many wait."""
        return sum(len(queue) for queue in self._queues.values())

    def limits(self, client: str) -> dict[str, str]:
        """What a client may ask, as headers (draft-ietf-httpapi-ratelimit-headers-10): how many requests may be there
        at a time (`q`), how many more would be taken now (`r`), and the seconds until such a one gets its place (`t`).
        """
        free = 0 if self._queues else self.places - self.busy
        own = len(self._queues.get(client, ()))
        patient = int(self.patience * self.places / max(self.seconds, 1e-3))
        room = max(0, min(self.waiting_each - own, self.waiting - self.queued, patient - self.queued))
        seconds = 0 if free else math.ceil(self.seconds * (self.queued + 1) / self.places)
        most = self.places + self.waiting_each
        return {
            "RateLimit-Policy": f'"search";q={most};qu="concurrent-requests"',
            "RateLimit": f'"search";r={free + room};t={seconds}',
        }

    @asynccontextmanager
    async def enter(self, client: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it while the block runs. Raises as `acquire`."""
        started = await self.acquire(client)
        try:
            yield
        finally:
            self.release(started)

    async def acquire(self, client: str) -> float:
        """Wait for a place; gives what `release` needs. Raises `Refused` (429, with Retry-After) when too many wait."""
        await self._wait(client)
        return time.monotonic()

    def release(self, started: float) -> None:
        """Give a place back."""
        self.seconds = MEMORY * self.seconds + (1 - MEMORY) * (time.monotonic() - started)
        self._leave()

    async def _wait(self, client: str) -> None:
        if self.busy < self.places and not self._queues:
            self.busy += 1
            return
        queue = self._queues.get(client, deque())
        ahead = self.seconds * (self.queued + 1) / self.places
        if self.queued >= self.waiting or len(queue) >= self.waiting_each or ahead > self.patience:
            seconds = max(1, math.ceil(ahead))
            raise Refused(
                429,
                f"{self.queued} requests wait already, {len(queue)} of them yours: try again in {seconds} s",
                {"Retry-After": str(seconds), **self.limits(client)},
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._queues[client] = queue
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()  # the place was given in the moment in which the client left
            else:
                self._forget(client, turn)
            raise

    def _leave(self) -> None:
        """Pass the place on: to the first request of the client whose turn it is."""
        self.busy -= 1
        while self._queues and self.busy < self.places:
            client, queue = next(iter(self._queues.items()))
            turn = queue.popleft()
            self._queues.move_to_end(client)
            if not queue:
                del self._queues[client]
            if not turn.done():
                self.busy += 1
                turn.set_result(None)

    def _forget(self, client: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(client, deque())
        if turn in queue:
            queue.remove(turn)
        if not queue:
            self._queues.pop(client, None)
