"""Long work: adding folders, graphs, fitting; followed while it runs."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Body, Header
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse

from resight.serving import models
from resight.serving.access import READ, WRITE, Client, TheService, Writer
from resight.serving.jobs import Job
from resight.serving.problems import Refused, without_paths
from resight.serving.searching import Event
from resight.serving.service import Service

router = APIRouter(prefix="/v1/collections/{name}/jobs", tags=["jobs"], dependencies=[READ])
PROBLEMS = 1000  # files that could not be used of which a job tells
JobId = Annotated[str, InPath(max_length=64)]


@router.post("", status_code=202)
async def start_job(
    service: TheService,
    client: Writer,
    name: str,
    work: Annotated[
        models.Work, Body(examples=[{"kind": "add", "folder": "/photos/2026"}, {"kind": "graph", "verified": True}])
    ],
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> models.JobInfo:
    """Start a job; jobs of a collection run one after another. Folders must be allowed by the service."""
    served, plain = service.find(name), work.model_dump()
    if isinstance(work, models.AddWork):
        plain["folder"] = _allowed(service, work.folder)
    if isinstance(work, models.FitWork | models.TuneWork):
        _need_admin(client)
    content = json.dumps(plain, sort_keys=True)
    job = service.jobs.known(client.name, idempotency_key, content)
    if job is None:
        job = service.jobs.start(
            name, served.path, plain, client=client.name, idempotency=idempotency_key, content=content
        )
    return job_model(job, service)


@router.get("")
async def list_jobs(service: TheService, name: str) -> models.JobList:
    """Jobs of a collection, the newest first."""
    service.find(name)
    jobs = [job for job in reversed(service.jobs.all.values()) if job.collection == name]
    return models.JobList(jobs=[job_model(job, service) for job in jobs])


@router.get("/{job_id}")
async def get_job(service: TheService, name: str, job_id: JobId) -> models.JobInfo:
    """One job."""
    return job_model(service.jobs.find(name, job_id), service)


@router.delete("/{job_id}", dependencies=[WRITE])
async def cancel_job(service: TheService, name: str, job_id: JobId) -> models.JobInfo:
    """Stop a job; what it has stored stays, and the same job started again goes on."""
    job = service.jobs.find(name, job_id)
    await service.jobs.cancel(job)
    return job_model(job, service)


@router.get("/{job_id}/events", response_class=StreamingResponse,
            responses={200: {"content": {"text/event-stream": {}}}})  # fmt: skip
async def follow_job(
    service: TheService,
    name: str,
    job_id: JobId,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> StreamingResponse:
    """The job whenever it changes, as events `progress` and at last `done`; goes on behind `Last-Event-ID`."""
    job = service.jobs.find(name, job_id)
    number = int(last_event_id) if last_event_id is not None and last_event_id.isdecimal() else -1
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(service, job, number), media_type="text/event-stream", headers=headers)


async def _events(service: Service, job: Job, number: int) -> AsyncIterator[bytes]:
    async for changed in job.follow(number, service.stopping):
        event = Event("done" if changed.ended else "progress", job_model(changed, service).model_dump_json())
        yield f"id: {changed.number}\n".encode() + event.encode()


def job_model(job: Job, service: Service | None = None) -> models.JobInfo:
    """A job as clients see it."""
    result = dict(job.result or {})
    private = {} if service is None else service.private
    problems = [
        models.FileProblem(kind=one["kind"], message=without_paths(one["message"], private))
        for one in result.pop("problems", [])[:PROBLEMS]
    ]
    groups = result.pop("groups", None)
    if groups is not None:
        result["groups"] = len(groups)
    return models.JobInfo(
        id=job.id,
        collection=job.collection,
        kind=job.kind,
        state=job.state,
        created=job.created,
        step=job.step,
        done=job.done,
        of=job.of,
        per_second=job.per_second,
        seconds_left=job.seconds_left,
        problems=problems,
        result=None if job.result is None else result,
        error=None if job.error is None else without_paths(job.error, private),
    )


def _allowed(service: Service, folder: str) -> str:
    """The real path of a folder that photos may be added from. Raises `Refused` (403) for all others, there or not."""
    real = os.path.realpath(folder) if "\0" not in folder else ""
    allowed = [os.path.realpath(one) for one in service.settings.allow_folders]
    if not any(real == one or real.startswith(one.rstrip(os.sep) + os.sep) for one in allowed):
        raise Refused(403, "photos may not be added from this folder: start the service with --allow-folder for it")
    if not Path(real).is_dir():
        raise Refused(404, "this folder is not there")
    return real


def _need_admin(client: Client) -> None:
    if client.scope != "admin":
        raise Refused(403, f"this key may {client.scope}, and admin is needed: ask for another key")
