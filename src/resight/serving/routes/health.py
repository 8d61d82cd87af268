"""Whether the service is alive and ready, what it is, and its numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse, Response
from fastapi.security import HTTPAuthorizationCredentials
from prometheus_client import CONTENT_TYPE_LATEST

from resight.errors import ResightError
from resight.serving import models
from resight.serving.access import TheService, bearer, watcher
from resight.serving.keys import SCOPES
from resight.serving.problems import Refused
from resight.version import __version__

router = APIRouter(tags=["service"])


@router.get("/v1/version")
async def get_version(
    service: TheService, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> models.Version:
    """The version of the service, whether it needs a key, and what the given one may do. Needs no key."""
    scope: str | None = SCOPES[-1]
    if service.keys is not None:
        try:
            key = service.keys.find(given.credentials) if given is not None else None
        except ResightError as error:
            raise Refused(503, "the keys of this service cannot be read: its log says why") from error
        scope = None if key is None else key.scope
    return models.Version(
        resight=__version__, read_only=service.settings.read_only, keys=service.keys is not None, scope=scope
    )


@router.get("/healthz", response_class=PlainTextResponse)
async def is_alive() -> str:
    """The service is alive."""
    return "alive\n"


@router.get("/readyz", response_class=PlainTextResponse)
async def is_ready(service: TheService) -> str:
    """All collections are loaded."""
    waiting = [served.name for served in service.collections.values() if not served.ready]
    if waiting or service.stopping.is_set():
        raise Refused(
            503, "the service is stopping" if service.stopping.is_set() else f"{waiting[0]} is still being loaded"
        )
    return "ready\n"


@router.get("/metrics", response_class=PlainTextResponse, dependencies=[Depends(watcher)])
async def get_metrics(service: TheService) -> Response:
    """Numbers for Prometheus; only for this machine, and for keys of administrators."""
    metrics, now = service.metrics, datetime.now(UTC)
    metrics.waiting.set(service.gate.queued)
    metrics.busy.set(service.gate.busy)
    metrics.deaths.set(service.decoders.deaths)
    for served in service.collections.values():
        metrics.photos.labels(served.name).set(len(served.state.photos))
        metrics.pending.labels(served.name).set(served.state.collection.pending)
        metrics.age.labels(served.name).set((now - served.state.opened).total_seconds())
    return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)
