"""Who asks, from where, and whether they may."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Receive, Scope, Send

from resight.errors import ResightError
from resight.serving.keys import SCOPES
from resight.serving.problems import Refused, answer_problem
from resight.serving.service import Service, service_of
from resight.serving.settings import LOOPBACK

bearer = HTTPBearer(auto_error=False, description="A key of `resight keys add`; none where the service asks for none.")


@dataclass(frozen=True)
class Client:
    """Who asks: `name` for fairness and the log, and the `scope` that it has."""

    name: str
    scope: str


def _client(
    request: Request,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    service: Annotated[Service, Depends(service_of)],
) -> Client:
    address = request.client.host if request.client else "unknown"
    if service.keys is None:
        return Client(address, SCOPES[-1])
    try:
        key = service.keys.find(given.credentials) if given is not None else None
    except ResightError as error:
        raise Refused(503, "the keys of this service cannot be read: its log says why") from error
    if key is None:
        why = "needs a key in the header Authorization: Bearer" if given is None else "does not know this key"
        raise Refused(401, f"this service {why}", {"WWW-Authenticate": "Bearer"})
    request.state.client = key.id
    return Client(f"key {key.id}", key.scope)


def _may(client: Client, scope: str) -> Client:
    if SCOPES.index(client.scope) < SCOPES.index(scope):
        raise Refused(403, f"this key may {client.scope}, and {scope} is needed: ask for another key")
    return client


def _reader(client: Annotated[Client, Depends(_client)]) -> Client:
    return _may(client, "read")


def _writer(client: Annotated[Client, Depends(_client)], service: Annotated[Service, Depends(service_of)]) -> Client:
    if service.settings.read_only:
        raise Refused(403, "this service is read-only: start it without --read-only to change collections")
    return _may(client, "write")


Reader = Annotated[Client, Depends(_reader)]
Writer = Annotated[Client, Depends(_writer)]
READ, WRITE = Depends(_reader), Depends(_writer)  # for routes that need not know who asks
TheService = Annotated[Service, Depends(service_of)]


def watcher(
    request: Request,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    service: TheService,
) -> None:
    """Who may read the metrics: this machine, and keys of administrators."""
    if request.client is not None and _is_loopback(request.client.host) and "x-forwarded-for" not in request.headers:
        return
    _may(_client(request, given, service), "admin")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class SameSite:
    """Refuse what a page of another site makes a browser ask, and, on a service for this machine alone without keys,
    names of hosts that are not this machine's: an attacker's name may lead here (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, local: bool) -> None:
        self.app = app
        self.local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (why := self._wrong(scope)):
            await answer_problem(403, why)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _wrong(self, scope: Scope) -> str | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "").lower()
        if self.local and _host_name(host) not in LOOPBACK:
            return "this service answers only to localhost: open it by that name, or start it with --host and --keys"
        origin = headers.get(b"origin", "")
        if origin and origin.partition("://")[2].lower() != host:
            return "pages of other sites may not use this service"
        if headers.get(b"sec-fetch-site", "none") in ("cross-site", "same-site") and scope["path"] != "/":
            return "pages of other sites may not use this service"
        return None


def _host_name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host
