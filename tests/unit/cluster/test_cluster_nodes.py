"""Two Ray nodes on this machine, at 127.0.0.2 and 127.0.0.3, whose workers and node are killed for real.

Ray takes 127.0.0.1 for another address of the machine, which a node at 127.0.0.1 does not listen to.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from photo_factory import SMALL
from resight.cluster.extract import ray_reads
from resight.cluster.sharded import open_shards
from resight.cluster.split import split
from resight.collection import create_collection, open_collection

pytestmark = pytest.mark.slow
os.environ["RAY_AUTH_MODE"] = "disabled"  # read when ray is imported, and by the nodes
ray = pytest.importorskip("ray")
START_SECONDS = 180


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        return probe.getsockname()[1]


def _start(*arguments, base):
    command = [Path(sys.executable).with_name("ray"), "start", "--block", "--num-cpus=2", "--disable-usage-stats"]
    options = ["--object-store-memory=100000000", *arguments]
    with (base / "log").open("w") as log:
        return subprocess.Popen(
            [*command, *options, f"--temp-dir={base}"], stdout=log, stderr=log, start_new_session=True
        )


@pytest.fixture(scope="module")
def nodes():
    """The address of a cluster of two nodes, and the process of the second."""
    port, bases = _free_port(), []
    for name in "ab":  # short paths: sockets lie in them
        bases.append(Path("/tmp") / f"ray-{os.getpid()}-{name}")
        bases[-1].mkdir()
    head = _start("--head", "--node-ip-address=127.0.0.2", f"--port={port}", "--include-dashboard=false", base=bases[0])
    _wait(lambda: _answers(port))
    second = _start(f"--address=127.0.0.2:{port}", "--node-ip-address=127.0.0.3", base=bases[1])
    try:
        yield f"ray://127.0.0.2:{port}", second
    finally:
        ray.shutdown()
        for process in (second, head):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        subprocess.run(["pkill", "-9", "-f", str(Path("/tmp") / f"ray-{os.getpid()}-")], check=False)
        for base in bases:
            shutil.rmtree(base, ignore_errors=True)


def _answers(port):
    try:
        socket.create_connection(("127.0.0.2", port), 1).close()
    except OSError:
        return False
    return True


def _wait(ready):
    until = time.monotonic() + START_SECONDS
    while not ready():
        assert time.monotonic() < until, "the node did not start"
        time.sleep(0.5)


def _facts(answer):
    return [(r.id, r.score, r.match, r.inliers) for r in answer.results]


def _pids(name):
    found = subprocess.run(["pgrep", "-f", f"ray::{name}"], capture_output=True, text=True, check=False).stdout
    return [int(pid) for pid in found.split()]


def test_shards_on_two_nodes_outlive_an_actor_and_a_node(nodes, built, tmp_path):
    address, second = nodes
    split(built.path, tmp_path / "c.shards", 3)
    one, shards = open_collection(built.path), open_shards(tmp_path / "c.shards", address)
    ids = [photo["id"] for photo in one.snapshot.photos(one.snapshot.tables.feature_rows)]
    expected = {id_: _facts(one.search(id_)) for id_ in ids[:6]}
    _wait(lambda: sum(node["Alive"] for node in ray.nodes()) == 2)
    assert _facts(shards.search(ids[0])) == expected[ids[0]]
    os.kill(_pids("Shard")[0], signal.SIGKILL)
    assert _facts(shards.search(ids[1])) == expected[ids[1]]
    os.killpg(second.pid, signal.SIGKILL)
    for id_ in ids[2:6]:
        assert _facts(shards.search(id_)) == expected[id_]
    assert shards.absent == ()
    shards.close()


def test_photos_described_by_workers_are_those_of_one_process(nodes, built, tmp_path):
    address, _ = nodes
    here = create_collection(tmp_path / "here.resight", "classic", SMALL)
    here.add([built.photos.folder])
    there = create_collection(tmp_path / "there.resight", "classic", SMALL)
    killed = []

    def progress(what, _, __):
        if what == "reading photos" and not killed and (workers := _pids("MapWorker")):
            killed.append(workers[0])
            os.kill(workers[0], signal.SIGKILL)

    report = there.add([built.photos.folder], reads=ray_reads(str(there.path), address, workers=2), progress=progress)
    assert (report.added, len(report.problems)) == (len(here.snapshot.tables) - 4, 4)
    mine, theirs = here.snapshot.tables, there.snapshot.tables
    columns = ["id", "row", "sha256", "error_kind"]
    assert mine.images(columns).equals(theirs.images(columns))
    assert mine.local(mine.feature_rows) == theirs.local(theirs.feature_rows)
    query = built.photos.groups[0][0]
    assert _facts(open_collection(there.path).search(query)) == _facts(open_collection(here.path).search(query))
