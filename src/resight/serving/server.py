"""A service at work: the web server, its clock for slow heads of requests, and how it stops."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from resight.errors import UsageError
from resight.serving.app import create_app
from resight.serving.service import Service
from resight.serving.settings import ServeSettings

CONNECTIONS = 1000  # at a time; more are refused (503)
STOP_SECONDS = 15  # that requests at work have to finish
KEEP_ALIVE = 10  # seconds that an idle connection is kept
HEAD_BYTES = 1 << 15  # of a request: line and headers


def serve(paths: Sequence[str | Path], settings: ServeSettings, ready: Callable[[str], object] = str) -> None:
    """Serve collections until SIGINT or SIGTERM; requests at work are finished. `ready` gets the address of the page.

    Raises `UsageError` for a host beside this machine's without keys, and where the address is taken; as
    `open_collection` for collections.
    """
    if not settings.local and settings.keys is None:
        raise UsageError(
            f"--host {settings.host} can be reached from other machines: give --keys FILE, which resight keys add makes"
        )
    bound = _bound(settings)
    try:
        asyncio.run(_serve(paths, settings, bound, ready))
    finally:
        bound.close()


async def _serve(
    paths: Sequence[str | Path], settings: ServeSettings, bound: socket.socket, ready: Callable[[str], object]
) -> None:
    service = Service(paths, settings)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{bound.getsockname()[1]}/"
    await Server(_config(service), service, lambda: ready(url)).serve(sockets=[bound])


def _bound(settings: ServeSettings) -> socket.socket:
    """A socket that listens. Raises `UsageError` when the address is taken, or none of this machine."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot listen on {settings.host} port {settings.port} ({reason}): give another --port"
        ) from error
    return bound


class Server(uvicorn.Server):
    """Says when it listens, and tells the service that it is about to stop, so that streams end."""

    def __init__(self, config: uvicorn.Config, service: Service, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self.service = service
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self.started:
            self.ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGINT and SIGTERM."""
        self.service.stopping.set()
        super().handle_exit(sig, frame)


def _config(service: Service) -> uvicorn.Config:
    settings = service.settings
    protocol = type("Protocol", (ClockedProtocol,), {"head_seconds": settings.header_seconds})
    return uvicorn.Config(
        create_app(service),
        http=protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=STOP_SECONDS,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )


class ClockedProtocol(H11Protocol):
    """Closes a connection whose request does not get to the end of its headers in time."""

    head_seconds = 15.0
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Stop the clock when a request is at work; it runs on while headers trickle in."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        else:
            self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def _start(self) -> None:
        if self._clock is None:
            self._clock = self.loop.call_later(self.head_seconds, self._late)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _late(self) -> None:
        self._clock = None
        idle = self.cycle is None or self.cycle.response_complete
        if idle and not self.transport.is_closing():
            self.transport.abort()


def log_to_stderr() -> None:
    """One line for each request, and warnings, on standard error."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    for name in ("resight.access", "resight.serving"):
        logging.getLogger(name).setLevel(logging.INFO)
