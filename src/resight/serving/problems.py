"""Errors as problem+json (RFC 9457), with the sentences of the command line and without paths of the machine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Match

from resight.errors import (
    CollectionError,
    CollectionLocked,
    CollectionNotFound,
    ImageError,
    ImageTooLarge,
    NotAnImage,
    ReaderMissing,
    ResightError,
    UnreadableFile,
    UsageError,
)

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger("resight.serving")
_TITLES = {499: "Client Left"}
_STATUS: tuple[tuple[type[ResightError], int], ...] = (  # the first that fits
    (ImageTooLarge, 413),
    (NotAnImage, 415),
    (ReaderMissing, 415),
    (UnreadableFile, 410),
    (ImageError, 422),
    (CollectionNotFound, 404),
    (CollectionLocked, 409),
    (UsageError, 400),
    (CollectionError, 503),
)


class Refused(HTTPException):
    """An answer that is a problem: `status`, the sentence `detail`, headers."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))


def status_of(error: ResightError) -> int:
    """The HTTP status of an error that resight raises on purpose."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 503)


def problem(status: int, detail: str) -> dict[str, Any]:
    """The JSON of a problem."""
    return {
        "type": "about:blank",
        "title": _TITLES.get(status) or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }


def problem_of(error: BaseException, private: Mapping[str, str]) -> dict[str, Any]:
    """The JSON of what went wrong during an answer that has begun already."""
    if isinstance(error, HTTPException):
        return problem(error.status_code, str(error.detail))
    if isinstance(error, ResightError):
        return problem(status_of(error), without_paths(str(error), private))
    log.error("an answer failed", exc_info=error)
    return problem(500, "the service failed to answer: its log says why")


def without_paths(sentence: str, private: Mapping[str, str]) -> str:
    """`sentence` with what lies on the machine by the names that clients know: `private` maps paths to names."""
    for path in sorted(private, key=len, reverse=True):
        sentence = sentence.replace(path, private[path])
    return sentence


def answer_problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A response that is a problem."""
    return JSONResponse(problem(status, detail), status, headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error as a problem."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            allowed = ", ".join(_methods(app, request))
            why = f"{request.method[:20]} is not possible here: use {allowed}"
            return answer_problem(405, why, {"Allow": allowed})
        return answer_problem(error.status_code, str(error.detail), error.headers)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return answer_problem(422, "; ".join(_sentence(one) for one in error.errors()[:5]))

    async def expected(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ResightError)
        return answer_problem(status_of(error), without_paths(str(error), request.app.state.service.private))

    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer_problem(500, "the service failed to answer: its log says why")

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ResightError, expected)
    app.add_exception_handler(Exception, unexpected)


def _methods(app: FastAPI, request: Request) -> list[str]:
    """The methods of all routes of a path: the framework knows only those of the first one."""
    fitting = [route for route in app.routes if route.matches(request.scope)[0] != Match.NONE]
    return sorted({method for route in fitting for method in getattr(route, "methods", None) or ()})


def _sentence(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"][1:]) or "the request"
    return f"{where}: {error['msg']}"
