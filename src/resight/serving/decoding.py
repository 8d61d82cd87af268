"""Uploaded photos are decoded in processes that may die: the service does not."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import numpy as np

from resight import errors
from resight.errors import ImageError, TruncatedImage
from resight.images.decode import Decoded

LINE = 1 << 16  # bytes of an answer's first line, far more than it has
LIVES = 200  # photos after which a process is replaced, so that nothing piles up in it


class _Worker:
    """One process, and what it has done."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.done = 0

    async def ask(self, request: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        """The answer to a request. Raises `EOFError` or `OSError` when the process died."""
        writing, reading = self.process.stdin, self.process.stdout
        assert writing is not None
        assert reading is not None
        writing.write(json.dumps(request).encode() + b"\n")
        writing.write(content)
        await writing.drain()
        line = await reading.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        answer: dict[str, Any] = json.loads(line)
        height, width = answer.get("shape", (0, 0))
        self.done += 1
        return answer, await reading.readexactly(3 * height * width)

    def kill(self) -> None:
        """End the process, at once."""
        if self.process.returncode is None:
            self.process.kill()


class DecodePool:
    """`places` processes that decode; each is started when it is first needed, and again after it died."""

    def __init__(self, places: int, *, pixels: int, seconds: float) -> None:
        self.pixels = pixels
        self.seconds = seconds
        self.deaths = 0
        self._free: asyncio.Queue[_Worker | None] = asyncio.Queue()
        self._all: set[_Worker] = set()
        for _ in range(places):
            self._free.put_nowait(None)

    @property
    def pids(self) -> list[int]:
        """The processes that live."""
        return [worker.process.pid for worker in self._all if worker.process.returncode is None]

    async def decode(self, content: bytes, max_side: int) -> Decoded:
        """The photo in `content`, as `resight.images.decode.decode` gives it.

        Raises `ImageError`; a photo that ends the process twice, or takes too long, is damaged.
        """
        for attempt in range(2):
            worker = await self._free.get()
            try:
                if attempt or worker is None or worker.process.returncode is not None:
                    self._drop(worker)  # a second one may have died as well, unnoticed
                    worker = await self._start()
                request = {"bytes": len(content), "max_side": max_side, "max_pixels": self.pixels}
                async with asyncio.timeout(3 * self.seconds):  # others may want the processor too
                    answer, pixels = await worker.ask({**request, "seconds": self.seconds}, content)
                return _decoded(answer, pixels)
            except (EOFError, OSError, TimeoutError, json.JSONDecodeError, asyncio.LimitOverrunError) as error:
                self._drop(worker)
                self.deaths += 1
                worker = None
                if attempt or isinstance(error, TimeoutError):
                    raise TruncatedImage(
                        "the image data cannot be decoded within the limits of time and memory: it is damaged, "
                        "or made to do harm"
                    ) from error
            except asyncio.CancelledError:  # it is in the middle of an answer that nobody will read
                self._drop(worker)
                worker = None
                raise
            finally:
                if worker is not None and worker.done >= LIVES:
                    self._drop(worker)
                    worker = None
                self._free.put_nowait(worker)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End all processes."""
        for worker in list(self._all):
            self._drop(worker)

    async def _start(self) -> _Worker:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "resight.serving.decode_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the service, which ends them itself
        )
        worker = _Worker(process)
        self._all.add(worker)
        return worker

    def _drop(self, worker: _Worker | None) -> None:
        if worker is not None:
            worker.kill()
            self._all.discard(worker)


def _decoded(answer: dict[str, Any], pixels: bytes) -> Decoded:
    if "error" in answer:
        kind = getattr(errors, answer["error"], ImageError)
        raise kind(answer["message"])
    height, width = answer["shape"]
    array = np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
    return Decoded(array, answer["width"], answer["height"], answer["taken_at"])
