"""Why a photo was found: as numbers, and as a picture."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from resight.collection import answer as own
from resight.collection.steps import explanation
from resight.recipes.catalogue import check_recipe
from resight.reports.pictures import match_picture
from resight.serving import models
from resight.serving.access import Client, Reader, TheService
from resight.serving.answers import explanation_model
from resight.serving.opened import State
from resight.serving.querying import Asked, Source, ask, place_of, read_object
from resight.serving.routes.search import source_of
from resight.serving.service import Service

router = APIRouter(prefix="/v1/collections/{name}", tags=["search"])


@dataclass(frozen=True, eq=False)
class _Wanted:
    """What is to be explained."""

    service: Service
    client: Client
    state: State
    source: Source
    place: int
    recipe: str | None
    options: dict[str, Any]

    def explained(self, check: Callable[[], None]) -> tuple[Asked, own.Explanation]:
        """The query, and why the photo answers it."""
        asked = ask(self.state, self.source)
        check()
        collection, snapshot = self.state.collection, self.state.collection.snapshot
        pipeline = snapshot.pipeline(None, self.recipe, self.options)
        rule, row = collection.match_rule(self.recipe), int(self.state.photos.rows[self.place])
        return asked, explanation(snapshot, rule, pipeline, asked.query, row, verify=self.options.get("verify"))


async def _wanted(
    service: TheService,
    client: Reader,
    name: str,
    result: Annotated[str, Query(max_length=8192, description="The key of the result.")],
    photo: Annotated[str | None, Query(max_length=8192, description="The key of the photo searched with.")] = None,
    query: Annotated[str | None, Query(max_length=100, description="Or the token of an upload.")] = None,
    box: Annotated[list[str] | None, Query(description="As it was searched with.")] = None,
    recipe: Annotated[str | None, Query(max_length=100)] = None,
    options: Annotated[str | None, Query(max_length=20_000, description="As JSON.")] = None,
) -> _Wanted:
    state = service.state(name)
    source = await source_of(service, state, client, None, photo, query, box)
    chosen = read_object("options", options)
    check_recipe(recipe or state.collection.snapshot.stamp.recipe, chosen)
    return _Wanted(service, client, state, source, place_of(state, result), recipe or None, chosen)


Wanted = Annotated[_Wanted, Depends(_wanted)]


@router.get("/explain")
async def explain_result(request: Request, wanted: Wanted) -> models.Explanation:
    """Why a photo answers a query: the features that agree, the view that explains them, what every stage says."""

    def work(check: Callable[[], None]) -> models.Explanation:
        asked, found = wanted.explained(check)
        return explanation_model(wanted.state, asked, found)

    return await wanted.service.compute(request, wanted.client.name, work)


@router.get("/explain.png", response_class=Response, responses={200: {"content": {"image/png": {}}}})
async def draw_result(request: Request, wanted: Wanted) -> Response:
    """The query and the result side by side, joined by the features that agree."""

    def work(check: Callable[[], None]) -> bytes:
        asked, found = wanted.explained(check)
        check()
        shown = wanted.source.upload.photo if wanted.source.upload is not None else None
        picture = match_picture(wanted.state.collection, asked.query, found.result, shown=shown)
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        return stream.getvalue()

    content = await wanted.service.compute(request, wanted.client.name, work)
    return Response(content, media_type="image/png", headers={"Cache-Control": "private, no-store"})
