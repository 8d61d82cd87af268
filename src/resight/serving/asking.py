"""Requests to a service and its answers, for the client: the standard library is enough."""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any

from resight.errors import ResightError, UsageError

USAGE = (400, 404, 413, 415, 422)
Part = tuple[str, str | tuple[str, bytes]]


class ServiceError(ResightError):
    """A service refused a request or could not be reached. `status`: the HTTP status, 0 where there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ServiceRefused(ServiceError, UsageError):
    """The request asked for something that cannot be."""


@dataclass(frozen=True)
class Asking:
    """Requests to a service, and its answers."""

    url: str
    key: str | None
    timeout: float

    def json(self, method: str, path: str, query: Any = None, **how: Any) -> Any:
        """The JSON of an answer; as `bytes`."""
        return json.loads(self.bytes(method, path, query, **how))

    def bytes(
        self,
        method: str,
        path: str,
        query: Any = None,
        *,
        form: Sequence[Part] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """The body of an answer; `form` or `body`: what is sent. Raises `ServiceError`."""
        sent, content = dict(headers or {}), None
        if self.key is not None:
            sent["Authorization"] = f"Bearer {self.key}"
        if form is not None:
            content, sent["Content-Type"] = _multipart(form)
        if body is not None:
            content, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        asked = f"?{urllib.parse.urlencode(query)}" if query else ""
        request = urllib.request.Request(f"{self.url}{path}{asked}", content, sent, method=method)
        if request.type not in ("http", "https"):
            raise UsageError(f"{self.url} is not the address of a service: it begins with http:// or https://")
        try:
            response: HTTPResponse
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            raise _refusal(error) from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise ServiceError(f"the service at {self.url} cannot be reached: {reason}") from error


def _refusal(error: urllib.error.HTTPError) -> ServiceError:
    try:
        detail = str(json.loads(error.read())["detail"])
    except (ValueError, KeyError, TypeError, OSError, HTTPException):
        detail = f"the service answered {error.code} {error.reason}"
    return (ServiceRefused if error.code in USAGE else ServiceError)(detail, error.code)


def _multipart(form: Sequence[Part]) -> tuple[bytes, str]:
    boundary = secrets.token_hex(16)
    parts = []
    for name, value in form:
        file = f'; filename="{urllib.parse.quote(value[0])}"' if isinstance(value, tuple) else ""
        content = value[1] if isinstance(value, tuple) else value.encode()
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content)
    return b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"
