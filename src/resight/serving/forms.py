"""Forms with bounds: in parts, and in bytes of a part that is no file."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette._utils import AwaitableOrContextManager
from starlette.datastructures import FormData

PART_BYTES = 1 << 16  # of a field that is no file
PARTS = 64  # files, and fields


class _Bounded(Request):
    def form(self, **_: Any) -> AwaitableOrContextManager[FormData]:
        return super().form(max_files=PARTS, max_fields=PARTS, max_part_size=PART_BYTES)


class BoundedForms(APIRoute):
    """A route whose form has at most `PARTS` files and fields; more are refused (400)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the framework, given a request that reads forms with bounds."""
        handler = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            return await handler(_Bounded(request.scope, request.receive))

        return bounded
