"""Services in processes of their own, for the tests: started as users start them, asked over loopback."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_SECONDS = 120


@dataclass(frozen=True)
class Reply:
    """What a service answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        assert self.headers["content-type"] == "application/problem+json", self
        return str(self.json["detail"])


@dataclass
class Running:
    """A service at work."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    key: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return urllib.parse.urlsplit(self.url).netloc

    def connection(self, timeout: float = 60) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, timeout=timeout)

    def socket(self, timeout: float = 30) -> socket.socket:
        name, _, port = self.host.rpartition(":")
        return socket.create_connection((name, int(port)), timeout)

    def ask(
        self,
        method: str,
        path: str,
        *,
        form: list[tuple[str, Any]] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Reply:
        """One request on a connection of its own; `form`: fields, files as (name, bytes); `body`: JSON, or bytes."""
        sent = {**self.headers, **(headers or {})}
        if self.key is not None:
            sent.setdefault("Authorization", f"Bearer {self.key}")
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if body is not None and not isinstance(body, bytes):
            sent["Content-Type"] = "application/json"
        if form is not None:
            content, sent["Content-Type"] = multipart(form)
        connection = self.connection(timeout)
        try:
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **how: Any) -> Reply:
        return self.ask("GET", path, **how)

    def post(self, path: str, **how: Any) -> Reply:
        return self.ask("POST", path, **how)

    def wait(self, name: str, job: str, seconds: float = 120) -> dict[str, Any]:
        """The job when it has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.get(f"/v1/collections/{name}/jobs/{job}").json
            if found["state"] not in ("waiting", "running"):
                return found
            time.sleep(0.1)
        raise AssertionError(f"job {job} did not end: {found}")

    def memory(self) -> int:
        """Bytes of memory that the process has, its workers aside."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]

    def children(self, module: str) -> list[int]:
        """Processes that the service started to run `module`."""
        listed = Path(f"/proc/{self.process.pid}/task")
        pids = [pid for task in listed.iterdir() for pid in (task / "children").read_text().split()]
        return [int(pid) for pid in pids if module in _command(pid)]

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def multipart(form: list[tuple[str, Any]]) -> tuple[bytes, str]:
    parts = []
    for name, value in form:
        file = f'; filename="{value[0]}"' if isinstance(value, tuple) else ""
        content = value[1] if isinstance(value, tuple) else str(value).encode()
        parts.append(f'--xXx\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content)
    return b"\r\n".join([*parts, b"--xXx--\r\n"]), "multipart/form-data; boundary=xXx"


def events(body: bytes) -> list[tuple[str, Any]]:
    """Server-sent events as (name, JSON)."""
    found = []
    for block in body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


@contextmanager
def serving(
    log: Path, *arguments: str | Path, key: str | None = None, ready: bool = True, **env: str
) -> Iterator[Running]:
    """`resight serve` with `arguments` on a free port; its output goes to the file `log`."""
    command = [sys.executable, "-m", "resight", "serve", *map(str, arguments), "--port", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **env})
    running = Running(process, "", log, key)
    try:
        running.url = _address(running)
        while ready and running.get("/readyz").status != 200:
            time.sleep(0.05)
        yield running
    finally:
        running.stop(signal.SIGKILL if process.poll() is None and not ready else signal.SIGTERM)


def _address(running: Running) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = re.search(r"page: (http://\S+?)/\s", running.log.read_text())
        if found:
            running.url = found[1]
            try:
                running.socket().close()
                return found[1]
            except OSError:
                pass
        assert running.process.poll() is None, running.log.read_text()
        time.sleep(0.05)
    raise AssertionError(f"the service did not start: {running.log.read_text()}")
