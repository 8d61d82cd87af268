"""The process that decodes uploaded photos: it gets bytes, gives pixels, and may die of what it is given.

A request on standard input is a line of JSON {"bytes", "max_side", "max_pixels", "seconds"} and the bytes of the file;
the answer is a line of JSON {"width", "height", "taken_at", "shape"} and the pixels, or {"error", "message"}.
"""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any, BinaryIO

from resight.errors import ImageError
from resight.images.decode import decode

SLACK_BYTES = 1 << 30  # beyond what the process has when it starts: 14 bytes for each of 80 million pixels


def main() -> None:
    """Answer requests until standard input ends."""
    reading = os.fdopen(os.dup(0), "rb", buffering=1 << 16)
    writing = os.fdopen(os.dup(1), "wb", buffering=1 << 16)
    os.dup2(2, 1)  # what a library prints must not pass for an answer
    _limit()
    while line := reading.readline():
        request = json.loads(line)
        _spend(request["seconds"])
        _answer(writing, reading.read(request["bytes"]), request)


def _answer(writing: BinaryIO, content: bytes, request: dict[str, Any]) -> None:
    pixels = b""
    try:
        found = decode(content, max_side=request["max_side"], max_pixels=request["max_pixels"])
        answer = {
            "width": found.width,
            "height": found.height,
            "taken_at": found.taken_at,
            "shape": found.pixels.shape[:2],
        }
        pixels = found.pixels.tobytes()
    except ImageError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    writing.write(json.dumps(answer).encode() + b"\n" + pixels)
    writing.flush()


def _limit() -> None:
    """No more memory than a photo may need, no files, no core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sizes = Path("/proc/self/statm")
    if sizes.exists():  # elsewhere the limit of pixels alone has to do
        most = int(sizes.read_text().split()[0]) * resource.getpagesize() + SLACK_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _spend(seconds: float) -> None:
    """Die when the next photo takes more processor time than `seconds`."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    most = int(usage.ru_utime + usage.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
