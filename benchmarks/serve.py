"""How many clients a service bears: mixed reads, searches and uploads, beside a bare FastAPI that echoes the upload.

python benchmarks/serve.py COLLECTION.resight PHOTOS [--clients 100] [--seconds 60]

Clients are threads of this process, each on a connection of its own. Prints, for each kind of request, how many there
were, p50, p95 and p99 in milliseconds, and the statuses; 429 is an answer, with Retry-After, after which a client waits.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

ECHO = """
import uvicorn
from fastapi import FastAPI, UploadFile
app = FastAPI()
@app.post("/")
async def echo(file: UploadFile):
    return {"bytes": len(await file.read())}
uvicorn.run(app, port=0, log_level="info", access_log=False)
"""
MIX = (("list", 30), ("thumbnail", 40), ("search photo", 15), ("search upload", 10), ("explain", 5))


@contextmanager
def started(command: list[str], wanted: str) -> Iterator[int]:
    """A server process; gives the port that its output names."""
    with tempfile.NamedTemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ})
        try:
            while not (found := re.search(wanted, Path(log.name).read_text())):
                if process.poll() is not None:
                    sys.exit(Path(log.name).read_text())
                time.sleep(0.1)
            yield int(found[1])
        finally:
            process.terminate()
            process.wait()


class Client(threading.Thread):
    """Asks for what chance says until the time is over."""

    def __init__(self, port: int, number: int, until: float, photos: list[bytes], keys: list[str], name: str) -> None:
        super().__init__()
        self.port, self.random, self.until = port, random.Random(number), until
        self.photos, self.keys, self.collection = photos, keys, name
        self.times: dict[str, list[float]] = defaultdict(list)
        self.statuses: Counter[tuple[str, int]] = Counter()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=180)
        while time.monotonic() < self.until:
            kind = self.random.choices([k for k, _ in MIX], [w for _, w in MIX])[0] if self.keys else "echo"
            method, path, body, headers = self.request(kind)
            started_at = time.monotonic()
            try:
                connection.request(method, path, body, headers)
                reply = connection.getresponse()
                reply.read()
            except (OSError, http.client.HTTPException):
                self.statuses[kind, 0] += 1
                connection.close()
                continue
            self.statuses[kind, reply.status] += 1
            if reply.status == 429:
                time.sleep(min(float(reply.headers["Retry-After"]), 5) * self.random.random())
            else:
                self.times[kind].append(time.monotonic() - started_at)
        connection.close()

    def request(self, kind: str) -> tuple[str, str, bytes | None, dict[str, str]]:
        at = f"/v1/collections/{quote(self.collection)}"
        if kind in ("echo", "search upload"):
            content = self.random.choice(self.photos)
            return ("POST", "/" if kind == "echo" else f"{at}/search", *form([("file", content)]))
        key, other = self.random.choice(self.keys), self.random.choice(self.keys)
        if kind == "search photo":
            return "POST", f"{at}/search", *form([("photo", key.encode())])
        asked = {
            "list": f"{at}/photos?limit=100",
            "thumbnail": f"{at}/photos/{key}/thumbnail",
            "explain": f"{at}/explain?photo={key}&result={other}",
        }
        return "GET", asked[kind], None, {}


def form(fields: list[tuple[str, bytes]]) -> tuple[bytes, dict[str, str]]:
    """A multipart form."""
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"{"; filename=a" * (name == "file")}\r\n\r\n'.encode()
        + value
        for name, value in fields
    ]
    return b"\r\n".join([*parts, b"--x--\r\n"]), {"Content-Type": "multipart/form-data; boundary=x"}


def load(port: int, clients: int, seconds: float, photos: list[bytes], keys: list[str], name: str) -> None:
    """Run the clients and print what they saw."""
    until = time.monotonic() + seconds
    running = [Client(port, number, until, photos, keys, name) for number in range(clients)]
    for client in running:
        client.start()
    for client in running:
        client.join()
    print("| request | answered | p50 ms | p95 ms | p99 ms | other statuses |\n|---|--:|--:|--:|--:|---|")
    for kind in [k for k, _ in MIX] if keys else ["echo"]:
        times = sorted(t for client in running for t in client.times[kind])
        counts: Counter[int] = Counter()
        for client in running:
            for (asked, status), count in client.statuses.items():
                counts[status] += count if asked == kind else 0
        others = ", ".join(f"{s or 'no answer'}: {n}" for s, n in sorted(counts.items()) if s != 200 and n)
        p50, p95, p99 = (1000 * times[int(len(times) * share)] if times else 0 for share in (0.5, 0.95, 0.99))
        print(f"| {kind} | {len(times)} | {p50:.0f} | {p95:.0f} | {p99:.0f} | {others or 'none'} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    files = sorted(p for p in given.photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))[:40]
    photos = [file.read_bytes() for file in files]
    print(
        f"{given.clients} clients, {given.seconds:g} s; uploads of {sum(map(len, photos)) // len(photos) >> 10} KiB\n"
    )
    with started([sys.executable, "-c", ECHO], r"http://127.0.0.1:(\d+)") as port:
        load(port, given.clients, given.seconds / 3, photos, [], "")
    print()
    with started(
        [sys.executable, "-m", "resight", "serve", given.collection, "--port", "0"], r"page: .*:(\d+)/"
    ) as port:
        name, keys = keys_of(port)
        load(port, given.clients, given.seconds, photos, keys, name)


def keys_of(port: int) -> tuple[str, list[str]]:
    """The collection of a service that is ready, and keys of its photos."""
    while True:
        try:
            if ask(port, "/readyz")[0] == 200:
                break
        except OSError:
            pass
        time.sleep(0.2)
    name = json.loads(ask(port, "/v1/collections")[1])[0]["name"]
    listed = json.loads(ask(port, f"/v1/collections/{quote(name)}/photos?limit=500")[1])
    return name, [photo["key"] for photo in listed["photos"]]


def ask(port: int, path: str) -> tuple[int, bytes]:
    """One request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, content


if __name__ == "__main__":
    main()
