"""A writer that is really killed: whatever the moment, each operation is done or not done, and the next one goes on."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from store_samples import packed_of

from resight.store.check import check_tables
from resight.store.tables import open_tables

WORKER = """
import json, random, sys
from datetime import timedelta
from store_samples import append
from resight.store import writer as w

w.MAX_SMALL_FRAGMENTS, w.READER_GRACE = 4, timedelta(0)
rng = random.Random(int(sys.argv[2]))
names = [f"p{k}" for k in range(30)]

def say(text):
    print(text, flush=True)

with w.writing(sys.argv[1], "worker") as writer:
    table = writer.tables.images(["id", "row"])
    live = dict(zip(table["id"].to_pylist(), table["row"].to_pylist()))
    say("ready")
    while True:
        if rng.random() < 0.6 or not live:
            ids = rng.sample(names, rng.randint(1, 5))
            new = dict(zip(ids, range(writer.next_row, writer.next_row + len(ids))))
            say(json.dumps(["add", new]))
            append(writer, ids)
            live.update(new)
        else:
            gone = rng.sample(sorted(live), min(len(live), rng.randint(1, 4)))
            say(json.dumps(["remove", gone]))
            writer.remove_rows([live.pop(id_) for id_ in gone])
        say("done")
"""


def run_and_kill(folder: Path, seed: int, seconds: float) -> list[str]:
    """Let a writer work for that long, kill it, and give what it said."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.kill()
    said = process.stdout.read()
    process.stdout.close()
    assert process.wait() == -9
    return [line for line in said.split("\n")[:-1] if line]


def after(state: dict[str, int], step: str) -> dict[str, int]:
    kind, what = json.loads(step)
    return {**state, **what} if kind == "add" else {id_: row for id_, row in state.items() if id_ not in what}


def survive(folder: Path, rounds: int) -> None:
    state: dict[str, int] = {}
    rng = random.Random(5)
    for seed in range(rounds):
        said = run_and_kill(folder, seed, rng.uniform(0.0, 0.25))
        begun = [line for line in said if line != "done"]
        unfinished = begun[-1] if begun and said[-1] != "done" else None
        for step in begun[: -1 if unfinished else None]:
            state = after(state, step)
        tables = open_tables(folder)
        table = tables.images(["id", "row"])
        found = dict(zip(table["id"].to_pylist(), table["row"].to_pylist(), strict=True))
        assert found in ([state, after(state, unfinished)] if unfinished else [state])
        assert tables.local(tables.rows) == [packed_of(row) for row in tables.rows.tolist()]
        assert {finding.name for finding in check_tables(folder) if not finding.ok} <= {"leftovers"}
        state = found


def test_ten_kills(make):
    survive(make(), 10)


@pytest.mark.slow
def test_many_kills(make):
    survive(make(), 80)
