"""The application: routes, limits and errors put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from resight.serving import problems
from resight.serving.access import SameSite
from resight.serving.middleware import AccessLog, BodyClock, SafeHeaders
from resight.serving.models import Problem
from resight.serving.routes import (
    collections,
    duplicates,
    explain,
    health,
    jobs,
    neighbours,
    page,
    photos,
    plain,
    queries,
    results,
    search,
)
from resight.serving.service import Service
from resight.version import __version__

_MODULES = (health, collections, photos, search, results, queries, explain, duplicates, neighbours, jobs, page, plain)
ROUTERS: tuple[APIRouter, ...] = tuple(module.router for module in _MODULES)
DESCRIPTION = "Find every photograph of the same thing, with proof."
OPEN = ("/v1/version", "/metrics")  # a key tells or opens more, and none is needed everywhere
_PROBLEMS = (400, 401, 403, 404, 408, 409, 410, 413, 415, 422, 429, 503)


def create_app(service: Service) -> FastAPI:
    """The application of a service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    settings = service.settings
    app = FastAPI(
        title="resight",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.service = service
    problems.install(app)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=settings.body_bytes)  # the innermost: added first
    app.add_middleware(BodyClock, seconds=settings.body_seconds)
    app.add_middleware(SameSite, local=settings.local and service.keys is None)
    app.add_middleware(SafeHeaders, body_bytes=settings.body_bytes)
    app.add_middleware(AccessLog, metrics=service.metrics)
    for router in ROUTERS:
        app.include_router(router)
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]
    return app


def openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, every error of which is a problem."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        for path, operations in document["paths"].items():
            for operation in operations.values():
                if path in OPEN:
                    operation["security"] = [{}, *operation["security"]]
                for status in _PROBLEMS:
                    described = {"description": problems.problem(status, "")["title"], "content": content}
                    operation["responses"][str(status)] = described
        app.openapi_schema = document
    return app.openapi_schema
