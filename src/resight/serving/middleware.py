"""Around every request: headers of safety, a clock for its body, one line in the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resight.serving.metrics import Metrics
from resight.serving.problems import answer_problem

POLICY = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
}
METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS")
log = logging.getLogger("resight.access")


class SafeHeaders:
    """Headers that keep a browser from doing more than the page needs; problems of the framework become ours."""

    def __init__(self, app: ASGIApp, body_bytes: int) -> None:
        self.app = app
        self.body_bytes = body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        too_large = False

        async def send_safely(message: Message) -> None:
            nonlocal too_large
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                too_large = message["status"] == 413 and headers.get("content-type", "").startswith("text/plain")
            if not too_large:
                await send(message)

        await self.app(scope, receive, send_safely)
        if too_large:
            why = f"the request is larger than {self.body_bytes >> 20} MiB: make the photo smaller"
            await answer_problem(413, why, HEADERS)(scope, receive, send)


class BodyClock:
    """A request whose body takes longer than `seconds` is not waited for (408)."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        deadline, whole = asyncio.get_running_loop().time() + self.seconds, False

        async def receive_in_time() -> Message:
            nonlocal whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(
                    408, f"the body did not arrive within {self.seconds:g} s", {"Connection": "close"}
                ) from error
            whole = not message.get("more_body", False)
            return message

        await self.app(scope, receive_in_time, send)


class AccessLog:
    """One line per request, without queries and headers, and the numbers of it."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, quiet: Sequence[str] = ("/healthz", "/readyz", "/metrics")
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.quiet = quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 499

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_counted)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "other")
        method = scope["method"] if scope["method"] in METHODS else "other"  # a bounded number of labels
        self.metrics.requests.labels(method, path, str(status)).inc()
        self.metrics.seconds.labels(path).observe(seconds)
        if scope["path"] not in self.quiet:
            who = scope.get("state", {}).get("client") or (scope["client"][0] if scope.get("client") else "-")
            shown = scope["raw_path"].decode("ascii", "replace")[:300]
            log.info("%s %s %s %d %.0f ms", who, scope["method"][:20], shown, status, 1000 * seconds)
