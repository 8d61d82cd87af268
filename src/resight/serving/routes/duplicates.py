"""Photos that are the same file, or the same picture."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from resight.serving import models
from resight.serving.access import READ, TheService
from resight.serving.answers import photo_model
from resight.serving.jobs import Job
from resight.serving.opened import State
from resight.serving.photo_list import cursor_of, read_cursor
from resight.serving.service import Service

router = APIRouter(prefix="/v1/collections/{name}", tags=["duplicates"], dependencies=[READ])
Kind = Literal["exact", "near"]


@router.get("/duplicates")
async def list_duplicates(
    service: TheService,
    name: str,
    kind: Kind | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> models.DuplicatePage:
    """Groups of photos: `exact` are the same file; `near` the same picture in other sizes, crops and edits, which a job
    of kind `duplicates` looks for.
    """
    state = service.state(name)
    return await service.in_thread(_page, state, _looked(service, name), kind, read_cursor(cursor), limit)


def _page(state: State, job: Job | None, kind: Kind | None, after: int, limit: int) -> models.DuplicatePage:
    groups: list[tuple[Kind, list[int]]] = []
    if kind != "near":
        groups += [("exact", places) for places in state.photos.copies]
    if kind != "exact" and job is not None and job.result is not None:
        known = state.photos.place
        near = [[known[id_] for id_ in ids if id_ in known] for ids in job.result["groups"]]
        groups += [("near", places) for places in near if len(places) > 1]
    shown = groups[after : after + limit]
    return models.DuplicatePage(
        groups=[models.DuplicateGroup(kind=k, photos=[photo_model(state, place) for place in g]) for k, g in shown],
        next=cursor_of(after + limit) if after + limit < len(groups) else None,
        total=len(groups),
        near=job is not None,
    )


def _looked(service: Service, name: str) -> Job | None:
    """The last job that looked for near duplicates."""
    jobs = [job for job in service.jobs.all.values() if job.collection == name and job.kind == "duplicates"]
    return next((job for job in reversed(jobs) if job.state == "done"), None)
