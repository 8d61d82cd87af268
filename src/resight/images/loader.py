"""Decode many images in threads: in order, with bounded memory, and without a bad file ending the run."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from resight.errors import ImageError, UsageError
from resight.images.decode import Decoded, check_positive, decode

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Loaded:
    """Image number `index` of those asked for: either `decoded`, or the `error` that says why not."""

    index: int
    path: str
    decoded: Decoded | None
    error: ImageError | None


def load(
    paths: Sequence[str], *, max_side: int | None = None, jobs: int = 0, ahead: int | None = None
) -> Iterator[Loaded]:
    """Decode `paths` in `jobs` threads (0: one per processor) and give them in order.

    At most `ahead` images (default two per thread) are decoded or waiting at a time, besides the one the caller holds.
    A file that cannot be decoded comes as a `Loaded` with its error. Raises `UsageError` for a bad limit.
    """
    check_positive("max_side", max_side)

    def read(item: tuple[int, str]) -> Loaded:
        index, path = item
        try:
            return Loaded(index, path, decode(path, max_side=max_side), None)
        except ImageError as error:
            return Loaded(index, path, None, error)

    return map_ordered(read, enumerate(paths), jobs=jobs, ahead=ahead)


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], *, jobs: int = 0, ahead: int | None = None
) -> Iterator[Result]:
    """`map(function, items)` in `jobs` threads (0: one per processor), in order, at most `ahead` results in memory.

    `items` is read only `ahead` (default two per thread) past the last result given out, so it may be endless. The
    threads stop when the results are used up, when `function` raises (the error arrives in its place in the order), and
    when the caller closes the iterator, drops it or is interrupted: then only calls already running are waited for.
    Raises `UsageError` when `jobs` is negative or `ahead` below 1.
    """
    if jobs < 0:
        raise UsageError(f"jobs is {jobs}: give a number of threads, or 0 for one per processor")
    check_positive("ahead", ahead)
    threads = jobs or _processors()
    return _run(function, iter(items), threads, ahead or 2 * threads)


def _run(function: Callable[[Item], Result], items: Iterator[Item], threads: int, ahead: int) -> Iterator[Result]:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="resight")
    try:
        pending: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(items, ahead))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(items, 1))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _processors() -> int:
    """Those this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
