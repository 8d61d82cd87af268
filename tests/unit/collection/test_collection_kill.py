"""The command, really killed: whatever the moment, the collection opens, and the same command again finishes."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from photo_factory import picture, save, view
from resight.collection import open_collection
from resight.collection.check import check_collection

PHOTOS = 150  # more than two batches of the ingest
GONE = [f"{number:03d}.jpg" for number in range(0, 60, 3)]
SETTINGS = ("--set", "words=64", "--set", "count=60", "--set", "enlarge_below=0")
HARMLESS = {"leftovers", "index"}


def command_line(*arguments):
    return [sys.executable, "-c", "from resight.cli import main; main()", *map(str, arguments), "--json"]


def command(*arguments):
    return subprocess.Popen(
        command_line(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*arguments):
    """Run the command to its end; what it reports, and the seconds it took."""
    started = time.perf_counter()
    process = command(*arguments)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out), time.perf_counter() - started


def killed_after(seconds, *arguments):
    """Run the command and kill it; False when it was done before."""
    process = command(*arguments)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    assert process.returncode in (0, -9)
    return process.returncode == -9


def answers(path):
    collection = open_collection(path)
    found = [collection.search(f"{number:03d}.jpg", top=10).results for number in range(1, 60, 15)]
    return [[(r.id, round(r.score, 3), r.inliers) for r in results] for results in found]


def stored(path):
    """Ids in the collection, after a look that nothing but harmless things is wrong; 0 while there is none."""
    if not path.exists():
        return 0
    assert {finding.name for finding in check_collection(path) if not finding.ok} <= HARMLESS
    collection = open_collection(path)
    assert collection.pending <= len(collection.snapshot.tables)
    index = collection.snapshot.index
    if index is not None and len(index) and not collection.pending:
        known = set(collection.ids)
        assert {r.id for r in collection.search(next(iter(known)), top=500).results} <= known
    return len(collection.snapshot.tables)


def removed(path):
    """Whether a removal came to its end."""
    collection = open_collection(path)
    return collection.snapshot.finished and GONE[0] not in collection.ids


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folders of photos to index and to add; the undisturbed collections after each step and the seconds it took."""
    base = tmp_path_factory.mktemp("kill")
    for name, first, count in (("photos", 0, PHOTOS), ("more", PHOTOS, 80)):
        (base / name).mkdir()
        for number in range(first, first + count):
            pixels = picture(number // 5, 120, 160)
            save(base / name / f"{number:03d}.jpg", view(pixels, number % 5 and number))
    name, seconds = base / "whole.resight", {}
    for step, arguments in steps(base, name).items():
        _, seconds[step] = finish(*arguments)
        shutil.copytree(name, base / f"after-{step}.resight")
    return base, seconds


def steps(base, name):
    return {
        "index": ("index", base / "photos", "--to", name, *SETTINGS),
        "add": ("add", name, base / "more"),
        "remove": ("remove", name, *GONE),
    }


BEFORE = {"add": "index", "remove": "add"}
TOTAL = {"index": PHOTOS, "add": 80}


def survive(world, folder, step, rng, kills):
    """Kill `step` that often, each time a run that goes on where the last one was killed, then let it finish."""
    base, seconds = world
    name = folder / f"{step}.resight"
    if step in BEFORE:
        shutil.copytree(base / f"after-{BEFORE[step]}.resight", name)
    earlier = PHOTOS if step == "add" else 0
    arguments, before, hits = steps(base, name)[step], stored(name), 0
    for _ in range(kills):
        hits += killed_after(rng.uniform(0.3, 1.0) * seconds[step], *arguments)
        now = stored(name)
        assert now <= before if step == "remove" else now >= before  # what was stored stays stored
        before = now
    if step != "remove" or not removed(name):
        report, _ = finish(*arguments)
        if step == "remove":
            assert report["removed"] in (0, len(GONE))
        else:
            had = before - earlier
            assert (report["added"], report["unchanged"], report["problems"]) == (TOTAL[step] - had, had, [])
    assert not [finding for finding in check_collection(name) if not finding.ok]
    assert answers(name) == answers(base / f"after-{step}.resight")
    return hits


@pytest.mark.parametrize(("step", "kills"), [("index", 2), ("add", 1), ("remove", 1)])
def test_a_few_kills(world, tmp_path, step, kills):
    survive(world, tmp_path, step, random.Random(f"few {step}"), kills)


@pytest.mark.slow
def test_twenty_kills(world, tmp_path):
    rng = random.Random(11)
    hits = 0
    for round_ in range(4):
        for step, kills in (("index", 3), ("add", 2), ("remove", 1)):
            (tmp_path / f"{round_}-{step}").mkdir()
            hits += survive(world, tmp_path / f"{round_}-{step}", step, rng, kills)
    assert hits >= 15  # of 24: some runs are done before they are killed


STOPS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STOPPED = 21


def wait_until(there, mark, process):
    """Wait until the note that a run is at work is there, or gone, or the process has ended; the time then."""
    while mark.exists() != there and process.poll() is None:
        time.sleep(0.002)
    return time.perf_counter()


def stopped_at_work(name, delay, stop, *arguments):
    """Run the command, and send it a signal so many seconds after it began to write, None never.

    Its exit code, what it said on standard error, and how long it wrote.
    """
    process, mark = command(*arguments), name / "derived" / "unfinished.json"
    began = wait_until(True, mark, process)
    if delay is None:
        wrote = wait_until(False, mark, process) - began
    else:
        time.sleep(delay)
        process.send_signal(stop)
        wrote = delay
    _, said = process.communicate(timeout=120)
    return process.returncode, said, wrote


def has_work_left(name):
    """Whether the collection knows that a run was stopped; `check` and `search` must then say so."""
    snapshot = open_collection(name).snapshot
    findings = {finding.name: finding for finding in check_collection(name)}
    assert findings["index"].ok == snapshot.finished, findings["index"]
    found, _ = finish("search", name, "001.jpg", "--top", 3)
    assert found["calibrated"] == snapshot.calibrated
    return not snapshot.finished


@pytest.mark.slow
def test_a_stopped_removal_is_finished_by_the_same_command(world, tmp_path):
    base, _ = world
    rng, whole = random.Random(5), answers(base / "after-remove.resight")
    arguments = steps(base, name := tmp_path / "c.resight")["remove"]
    seconds, stopped, repaired = None, 0, 0
    for number in range(4 * STOPPED):
        shutil.rmtree(name, ignore_errors=True)
        shutil.copytree(base / "after-add.resight", name)
        delay = None if seconds is None else rng.random() * seconds
        code, said, wrote = stopped_at_work(name, delay, STOPS[number % 3], *arguments)
        seconds = seconds or wrote
        if code == 0:
            continue
        assert code in (-signal.SIGKILL, -signal.SIGTERM, 130, -signal.SIGINT), said
        assert code != 130 or "stopping: what was done so far is kept" in said
        work = has_work_left(name)
        stopped += work
        if work and number % 4 == 0:
            subprocess.run(command_line("check", name, "--repair"), check=True, capture_output=True)
            repaired += 1
        if GONE[0] in open_collection(name).ids or has_work_left(name):
            report, _ = finish(*arguments)
            assert report["removed"] in (0, len(GONE))
        assert not [finding for finding in check_collection(name) if not finding.ok]
        assert answers(name) == whole
        if stopped == STOPPED:
            break
    print(f"{stopped} runs were stopped, {repaired} of them mended by check --repair")
    assert stopped == STOPPED
    assert repaired


def test_no_scratch_is_left_for_long(world):
    base, _ = world
    assert sorted(path.name for path in (base / "whole.resight" / "derived").iterdir()) == [
        "asmk.lists",
        "asmk.safetensors",
        "codebook.json",
        "codebook.safetensors",
        "confidence.json",
        "followed.json",
    ]
    assert list(Path(base).glob(".*")) == []
