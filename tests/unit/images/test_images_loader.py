"""resight.images.loader: order, bounded memory, errors in place, prompt end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resight.errors import ImageError, UsageError
from resight.images.loader import load, map_ordered


def test_order_is_kept_whatever_takes_longest() -> None:
    def slow_first(n: int) -> int:
        time.sleep(0.02 if n % 4 == 0 else 0)
        return n * n

    assert list(map_ordered(slow_first, range(30), jobs=4)) == [n * n for n in range(30)]


@pytest.mark.parametrize("jobs", [0, 1, 3])
def test_no_items_give_no_results(jobs: int) -> None:
    assert list(map_ordered(str, [], jobs=jobs)) == []


@pytest.mark.parametrize(("jobs", "ahead"), [(1, 1), (2, 3), (4, 2), (3, None)])
def test_only_so_many_items_are_ahead(jobs: int, ahead: int | None) -> None:
    started: list[int] = []
    results = map_ordered(started.append, count(), jobs=jobs, ahead=ahead)
    for taken in range(1, 20):
        next(results)
        time.sleep(0.002)
        assert len(started) <= taken - 1 + (ahead or 2 * jobs)
    results.close()  # type: ignore[attr-defined]


def test_threads_really_run_side_by_side() -> None:
    meeting = threading.Barrier(3, timeout=10)
    assert list(map_ordered(lambda n: meeting.wait() >= 0 and n, range(6), jobs=3)) == list(range(6))


def test_an_error_arrives_in_its_place() -> None:
    def fail_at_three(n: int) -> int:
        if n == 3:
            raise KeyError(n)
        return n

    results = map_ordered(fail_at_three, range(10), jobs=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(results)
    assert list(results) == []
    assert not _own_threads()


def test_closing_stops_the_threads() -> None:
    done: list[int] = []

    def work(n: int) -> int:
        time.sleep(0.05)
        done.append(n)
        return n

    results = map_ordered(work, range(1000), jobs=2, ahead=100)
    next(results)
    results.close()  # type: ignore[attr-defined]
    finished = len(done)
    assert finished <= 6
    assert not _own_threads()
    time.sleep(0.12)
    assert len(done) == finished


@pytest.mark.parametrize(("jobs", "ahead"), [(-1, None), (1, 0)])
def test_bad_limits_are_refused_at_once(jobs: int, ahead: int | None) -> None:
    with pytest.raises(UsageError):
        map_ordered(str, [], jobs=jobs, ahead=ahead)


def test_load_gives_good_and_bad_files_in_order(tmp_path: Path) -> None:
    paths = []
    for n in range(12):
        paths.append(str(tmp_path / f"{n}.png"))
        if n % 3:
            Image.fromarray(np.full((4, 6, 3), n, np.uint8)).save(paths[-1])
    (tmp_path / "3.png").write_bytes(b"")
    loaded = list(load(paths, max_side=3, jobs=3))
    assert [item.index for item in loaded] == list(range(12))
    assert [item.path for item in loaded] == paths
    for n, item in enumerate(loaded):
        if n % 3:
            assert item.error is None
            assert item.decoded is not None
            assert item.decoded.pixels.shape == (2, 3, 3)
            assert (item.decoded.pixels == n).all()
        else:
            assert item.decoded is None
            assert isinstance(item.error, ImageError)
            assert item.error.kind == ("empty" if n == 3 else "unreadable")
            assert f"{n}.png" in str(item.error)


def test_load_refuses_a_bad_limit() -> None:
    with pytest.raises(UsageError, match="max_side is 0"):
        load([], max_side=0)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_ctrl_c_ends_at_once() -> None:
    program = (
        "import time; from itertools import count; from resight.images.loader import map_ordered\n"
        "for n in map_ordered(lambda n: time.sleep(0.02) or n, count(), jobs=4, ahead=400): print(n, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, errors = process.communicate(timeout=20)
        assert time.monotonic() - started < 5
    assert b"KeyboardInterrupt" in errors


def _own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("resight")]
