"""Run by test_cluster_milvus in a network namespace of its own: starts the real server, and prints what was answered.

python milvus_server.py COLLECTION FOLDER
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from resight.cluster.milvus import MilvusIndex, address_of
from resight.cluster.on_milvus import fill, milvus_index
from resight.cluster.open import open_searched
from resight.collection import open_collection
from resight.errors import CollectionError

SERVER = "127.0.0.1:19530"
START_SECONDS = 120


def main(path: str, folder: str) -> None:
    server = start(Path(folder))
    try:
        engine = f"milvus://{SERVER}/photos"
        wait_for(open_collection(path).snapshot, engine)
        found = {"filled": fill(path, engine), "again": fill(path, engine), "equal": equal(path, engine)}
        index = milvus_index(open_collection(path).snapshot, engine)
        found["before"] = len(index)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        try:
            len(MilvusIndex(address_of(engine), "x", lambda _: None))
        except CollectionError as error:
            found["down"] = str(error)
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
    print(json.dumps(found))


def start(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", "from milvus import main; main()", "--data", str(folder)]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def wait_for(snapshot, engine: str) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            milvus_index(snapshot, engine).rows()
        except CollectionError as error:
            if "not found" in str(error) or "can't find" in str(error) or "exist" in str(error):
                return
            if time.monotonic() > until:
                raise
            time.sleep(1)
        else:
            return


def equal(path: str, engine: str) -> bool:
    one, other = open_collection(path), open_searched(path, engine)
    facts = [[[(r.id, r.score) for r in c.search(id_, **how).results] for c in (one, other)]
             for id_ in list(one.ids)[:8] for how in ({}, {"top": 3, "where": "id > 'b'"})]  # fmt: skip
    return all(mine == theirs for mine, theirs in facts)


if __name__ == "__main__":
    main(*sys.argv[1:])
