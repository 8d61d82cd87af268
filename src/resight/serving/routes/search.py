"""Searching: with an uploaded photo, an earlier upload, or a photo of the collection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import Response, StreamingResponse

from resight.serving import models
from resight.serving.access import Client, Reader, TheService
from resight.serving.forms import BoundedForms
from resight.serving.opened import State
from resight.serving.problems import Refused, problem_of
from resight.serving.querying import Source, read_boxes
from resight.serving.searching import Event, Search, read_search, run
from resight.serving.service import Service

router = APIRouter(prefix="/v1/collections/{name}", tags=["search"], route_class=BoundedForms)
STREAM = "text/event-stream"
Token = Annotated[str | None, Form(max_length=100)]
Key = Annotated[str | None, Form(max_length=8192)]
Task = asyncio.Future[None]
Queue = asyncio.Queue[Event | Task]
Text = Annotated[str | None, Form(max_length=20_000)]


@router.post(
    "/search",
    response_model=models.SearchAnswer,
    responses={200: {"content": {STREAM: {}}}},
)
async def search_photos(
    request: Request,
    service: TheService,
    client: Reader,
    name: str,
    file: Annotated[UploadFile | None, File(description="The photo to search with.")] = None,
    photo: Annotated[Key, Form(description="Or the key of a photo of the collection.")] = None,
    query: Annotated[Token, Form(description="Or the token of an earlier upload.")] = None,
    also: Annotated[list[str] | None, Form(description="Keys of photos that show it, too; at most 4.")] = None,
    without: Annotated[
        list[str] | None, Form(description="Keys of photos that show something else: their matches are left out.")
    ] = None,
    box: Annotated[list[str] | None, Form(description="A part of it, `x0,y0,x1,y1` in pixels; repeatable.")] = None,
    recipe: Annotated[str | None, Form(max_length=100)] = None,
    options: Annotated[Text, Form(description="Options of the recipe, as JSON.")] = None,
    where: Annotated[Text, Form(description="Which photos may be found, as JSON: see Where.")] = None,
    top: Annotated[int, Form(ge=1, le=500)] = 20,
    cursor: Annotated[str | None, Form(max_length=200)] = None,
    budget: Annotated[
        int | None, Form(ge=0, le=600_000, description="Milliseconds after which geometry looks at no more photos.")
    ] = None,
) -> Response:
    """Find the photos that show the same thing. With `Accept: text/event-stream` the answer comes as events: `ranking`
    at once, `proof` as geometry looks at results, `done` with the answer, or `problem`.
    """
    served = service.find(name)
    source = await source_of(service, served.state, client, file, photo, query, box)
    search = read_search(
        served.state,
        source,
        also=also,
        without=without,
        recipe=recipe,
        options=options,
        where=where,
        top=top,
        cursor=cursor,
        budget=budget,
    )
    if STREAM in request.headers.get("accept", ""):
        return await _streamed(request, service, served.state, client, search)
    answer = await whole_answer(request, service, served.state, client, search)
    headers = {"Cache-Control": "no-store", **service.gate.limits(client.name)}
    return Response(answer.model_dump_json(), media_type="application/json", headers=headers)


async def whole_answer(
    request: Request, service: Service, state: State, client: Client, search: Search
) -> models.SearchAnswer:
    """The answer of a search, at once."""
    answer = await service.compute(request, client.name, lambda check: _last(state, search, check))
    _count(service, answer)
    return answer


async def source_of(
    service: Service,
    state: State,
    client: Client,
    file: UploadFile | None,
    photo: str | None,
    query: str | None,
    box: list[str] | None,
) -> Source:
    """What is asked about; an upload is decoded, and kept. Raises `Refused` (422) unless it is one thing."""
    if sum(one is not None for one in (file, photo, query)) != 1:
        raise Refused(422, "give one of file, photo and query: what to search with")
    boxes = read_boxes(box)
    if file is not None:
        content = await file.read()
        decoded = await service.decode(client.name, content, state.collection.settings.max_side)
        return Source(service.uploads.keep(decoded, content), None, boxes)
    if query is not None:
        return Source(service.uploads.find(query), None, boxes)
    return Source(None, photo, boxes)


def _last(state: State, search: Search, check: Callable[[], None]) -> models.SearchAnswer:
    *_, answer = run(state, search, check)
    assert isinstance(answer, models.SearchAnswer)
    return answer


async def _streamed(request: Request, service: Service, state: State, client: Client, search: Search) -> Response:
    """The answer as events. What fails before the first one is a response of its own."""
    loop, queue = asyncio.get_running_loop(), Queue()

    def work(check: Callable[[], None]) -> None:
        for item in run(state, search, check):
            if not isinstance(item, Event):
                loop.call_soon_threadsafe(_count, service, item)
                item = Event("done", item.model_dump_json())
            loop.call_soon_threadsafe(queue.put_nowait, item)

    task = asyncio.create_task(service.compute(request, client.name, work))
    task.add_done_callback(queue.put_nowait)
    first = await queue.get()
    if not isinstance(first, Event):
        first.result()  # raises
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **service.gate.limits(client.name)}
    return StreamingResponse(_events(service, queue, first, task), media_type=STREAM, headers=headers)


async def _events(service: Service, queue: Queue, item: Event | Task, task: Task) -> AsyncIterator[bytes]:
    try:
        while isinstance(item, Event):
            yield item.encode()
            item = await queue.get()
        error = item.exception()
        if error is not None:
            yield Event("problem", json.dumps(problem_of(error, service.private))).encode()
    finally:
        task.cancel()  # the client has left: the search stops at its next step


def _count(service: Service, answer: models.SearchAnswer) -> None:
    service.metrics.searches.labels("match" if answer.confident else "no match").inc()
    service.metrics.stages.labels("search").observe(answer.took_ms / 1000)
