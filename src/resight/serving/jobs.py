"""Long work on collections: one job at a time for each, in a process of its own, told while it runs."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from resight.serving.problems import Refused

JobState = Literal["waiting", "running", "done", "failed", "stopped"]
KEPT = 200  # jobs that have ended
WAITING = 20  # of one collection
LINE = 1 << 26  # bytes of a line that a process may write: groups of a large collection
GRACE_SECONDS = 20.0  # that a job has to store what it did before it is ended


@dataclass(eq=False)
class Job:
    """One job: what it is, how far it is, and what came of it. `number` grows with every change, for its readers."""

    id: str
    collection: str
    kind: str
    work: dict[str, Any] = field(repr=False)
    state: JobState = "waiting"
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    step: str = ""
    done: int = 0
    of: int = 0
    per_second: float = 0.0
    seconds_left: float | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    number: int = 0
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)
    cancelled: bool = False
    begun: bool = False
    _began: tuple[str, float, int] = ("", 0.0, 0)
    _changed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state in ("done", "failed", "stopped")

    def change(self, **values: Any) -> None:
        """Set fields, and wake those who follow the job."""
        for name, value in values.items():
            setattr(self, name, value)
        self.number += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def tell(self, step: str, done: int, of: int) -> None:
        """Note how far it is, its speed, and the time that is left of this step."""
        now = time.monotonic()
        if step != self._began[0]:
            self._began = (step, now, done)
        _, since, at = self._began
        speed = (done - at) / (now - since) if now > since and done > at else 0.0
        left = (of - done) / speed if speed else None
        self.change(step=step, done=done, of=of, per_second=round(speed, 2), seconds_left=left)

    async def follow(self, number: int, stopping: asyncio.Event) -> AsyncIterator[Job]:
        """The job whenever it has changed since `number`, until it has ended or the service stops."""
        while not stopping.is_set():
            changed = self._changed
            if self.number != number or self.ended:
                number = self.number
                yield self
                if self.ended:
                    return
            await _first(changed, stopping)


async def _first(*events: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


class Jobs:
    """The jobs of a service. `follow`: called with the name of a collection that a job has changed."""

    def __init__(self, follow: Callable[[str], Awaitable[None]]) -> None:
        self.all: OrderedDict[str, Job] = OrderedDict()
        self.follow = follow
        self._same: OrderedDict[tuple[str, str], tuple[str, str]] = OrderedDict()
        self._runners: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    def find(self, collection: str, id_: str) -> Job:
        """A job of a collection. Raises `Refused` (404) when there is none."""
        job = self.all.get(id_)
        if job is None or job.collection != collection:
            raise Refused(404, f"there is no job {id_!a} of this collection")
        return job

    def known(self, client: str, idempotency: str | None, content: str) -> Job | None:
        """The job that this client asked for before under the same idempotency key.

        Raises `Refused` (422) when it asked for something else then.
        """
        found = None if idempotency is None else self._same.get((client, idempotency))
        if found is None:
            return None
        if found[0] != content:
            raise Refused(422, "this Idempotency-Key was given with another request before: use a new one")
        return self.all.get(found[1])

    def start(
        self,
        collection: str,
        path: Path,
        work: dict[str, Any],
        *,
        client: str = "",
        idempotency: str | None = None,
        content: str = "",
    ) -> Job:
        """Queue a job. Raises `Refused` (429) when too many of the collection wait."""
        waiting = [job for job in self.all.values() if job.collection == collection and not job.ended]
        if len(waiting) >= WAITING or self._closing:
            raise Refused(
                429, f"{len(waiting)} jobs of {collection} wait already: try again later", {"Retry-After": "60"}
            )
        job = Job(secrets.token_hex(8), collection, work["kind"], {**work, "path": str(path)})
        self.all[job.id] = job
        if idempotency is not None:
            self._same[client, idempotency] = (content, job.id)
        self._tidy()
        if collection not in self._runners:
            self._runners[collection] = asyncio.create_task(self._run(collection))
        return job

    async def cancel(self, job: Job) -> None:
        """Stop a job; what it has stored stays."""
        job.cancelled = True
        if job.state == "waiting":
            job.change(state="stopped")
        elif job.process is not None and job.process.returncode is None:
            # a process that has not begun yet has nothing to keep, and Python itself would answer SIGINT
            job.process.send_signal(signal.SIGINT if job.begun else signal.SIGTERM)

    async def close(self) -> None:
        """Stop all jobs as Ctrl-C does, and end those that do not stop in time."""
        self._closing = True
        for job in self.all.values():
            if not job.ended:
                await self.cancel(job)
        if self._runners:
            await asyncio.wait(self._runners.values(), timeout=GRACE_SECONDS)
        for job in self.all.values():
            if job.process is not None and job.process.returncode is None:
                job.process.kill()

    def _tidy(self) -> None:
        ended = [job.id for job in self.all.values() if job.ended]
        for id_ in ended[:-KEPT]:
            del self.all[id_]
        while len(self._same) > 10 * KEPT:
            self._same.popitem(last=False)

    async def _run(self, collection: str) -> None:
        """Do the jobs of one collection, one after another."""
        try:
            while waiting := [j for j in self.all.values() if j.collection == collection and j.state == "waiting"]:
                await self._do(waiting[0])
        finally:
            del self._runners[collection]

    async def _do(self, job: Job) -> None:
        job.change(state="running")
        job.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "resight.serving.job_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE,
            env=dict(os.environ),
            start_new_session=True,  # Ctrl-C is for the service, which stops them itself
        )
        assert job.process.stdin is not None
        with suppress(ConnectionError):
            job.process.stdin.write(json.dumps(job.work).encode() + b"\n")
            await job.process.stdin.drain()
        result, error = await self._listen(job)
        code = await job.process.wait()
        if code == 0 or result is not None:
            await self.follow(job.collection)  # before it is told, so that who waited finds the change
        state: JobState = "stopped" if job.cancelled else "done" if code == 0 else "failed"
        if state == "failed" and error is None:
            error = f"the process of the job was ended (code {code}): start the job again, it goes on where it stopped"
        job.change(state=state, result=result, error=error, seconds_left=None)

    async def _listen(self, job: Job) -> tuple[dict[str, Any] | None, str | None]:
        """Read what the process writes, to its end: the result, and what went wrong."""
        assert job.process is not None
        assert job.process.stdout is not None
        result, error = None, None
        async for text in job.process.stdout:
            try:
                line = json.loads(text)
            except ValueError:
                continue  # the last line of a process that was killed while it wrote
            job.begun = True
            if line.get("step"):
                job.tell(line["step"], line["done"], line["of"])
            result, error = line.get("result", result), line.get("error", error)
        return result, error
