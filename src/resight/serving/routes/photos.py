"""The photos of a collection: lists, counts, pictures; adding and removing them."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Body, Depends, File, Header, Query, Response, UploadFile

from resight.collection.tags import checked_tags
from resight.errors import UsageError
from resight.serving import models
from resight.serving.access import READ, WRITE, Reader, TheService, Writer
from resight.serving.answers import VERSION, photo_model
from resight.serving.forms import BoundedForms
from resight.serving.opened import State
from resight.serving.photo_list import Filter, Order, cursor_of, read_cursor
from resight.serving.problems import Refused
from resight.serving.querying import place_of
from resight.serving.routes.jobs import job_model
from resight.serving.thumbnails import Size, original, thumbnail
from resight.serving.uploading import keep_files

router = APIRouter(prefix="/v1/collections/{name}", tags=["photos"], dependencies=[READ], route_class=BoundedForms)
MOMENT = r"^\d{4}[0-9T:-]*$"
DAY, YEAR = 86400, 31536000


def _filter(
    folder: Annotated[str | None, Query(max_length=4096, description="In this folder or below.")] = None,
    from_: Annotated[
        str | None, Query(alias="from", pattern=MOMENT, max_length=19, description="Taken then or later.")
    ] = None,
    to: Annotated[str | None, Query(pattern=MOMENT, max_length=19, description="Taken before.")] = None,
    tag: Annotated[str | None, Query(max_length=1000)] = None,
    min_side: Annotated[int | None, Query(ge=0, le=10**9, description="Pixels of the longer side.")] = None,
    max_side: Annotated[int | None, Query(ge=0, le=10**9)] = None,
) -> Filter:
    return Filter(folder, from_, to, tag, min_side, max_side)


Wanted = Annotated[Filter, Depends(_filter)]


@router.get("/photos")
async def list_photos(
    service: TheService,
    name: str,
    wanted: Wanted,
    order: Order = "time",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> models.PhotoPage:
    """Photos by time, newest first, or by name."""
    return await service.in_thread(_page, service.state(name), wanted, order, read_cursor(cursor), limit)


def _page(state: State, wanted: Filter, order: Order, after: int, limit: int) -> models.PhotoPage:
    places, total = state.photos.page(wanted, order, after, limit)
    behind = after + len(places)
    return models.PhotoPage(
        photos=[photo_model(state, place) for place in places],
        next=cursor_of(behind) if behind < total else None,
        total=total,
    )


@router.get("/facets")
async def get_facets(service: TheService, name: str, wanted: Wanted) -> models.Facets:
    """How many of the photos that fit are in each folder, month, class of size, and under each tag."""
    state = service.state(name)
    found = await service.in_thread(state.photos.facets, wanted)
    counts = {what: [models.Count(value=value, count=n) for value, n in pairs] for what, pairs in found.items()}
    return models.Facets(**counts, total=sum(count.count for count in counts["sizes"]))


@router.get("/photos/{key}")
async def get_photo(service: TheService, name: str, key: str) -> models.Photo:
    """One photo."""
    state = service.state(name)
    return photo_model(state, place_of(state, key))


@router.get("/photos/{key}/thumbnail", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
async def get_thumbnail(
    service: TheService,
    client: Reader,
    name: str,
    key: str,
    size: Size = Size.SMALL,
    v: Annotated[str | None, Query(max_length=64, description="`version` of the photo: makes it immutable.")] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A photo as JPEG, its longer side at most `size` pixels."""
    state = service.state(name)
    place = place_of(state, key)
    version = state.photos.sha256[place][:VERSION]
    etag = f'"{version}-{size}"'
    immutable = f"private, max-age={YEAR}, immutable" if v == version else "private, no-cache"
    headers = {"ETag": etag, "Cache-Control": immutable}
    if if_none_match is not None and etag in if_none_match:
        return Response(status_code=304, headers=headers)
    content = service.thumbnails.get((state.photos.sha256[place], size))
    if content is None:
        async with service.pictures.enter(client.name):
            content = await service.in_thread(thumbnail, service, state, place, size)
    return Response(content, media_type="image/jpeg", headers=headers)


@router.get("/photos/{key}/original", response_class=Response, responses={200: {"content": {"image/*": {}}}})
async def get_original(service: TheService, client: Reader, name: str, key: str) -> Response:
    """The file of a photo as it is, EXIF included, where the service allows that."""
    if not service.settings.originals:
        raise Refused(403, "this service gives out no files of photos: start it with --originals to allow it")
    state = service.state(name)
    async with service.pictures.enter(client.name):
        content, kind = await service.in_thread(original, state, place_of(state, key))
    headers = {"Content-Disposition": "attachment", "Cache-Control": "private, no-cache"}
    return Response(content, media_type=kind, headers=headers)


@router.delete("/photos/{key}", status_code=202, dependencies=[WRITE])
async def remove_photo(service: TheService, name: str, key: str) -> models.JobInfo:
    """Take a photo out of the collection, as a job; its file stays."""
    served = service.find(name)
    id_ = served.state.photos.ids[place_of(served.state, key)]
    return job_model(service.jobs.start(name, served.path, {"kind": "remove", "ids": [id_]}))


@router.post("/tags", status_code=202, dependencies=[WRITE])
async def change_tags(
    service: TheService,
    name: str,
    change: Annotated[models.TagChange, Body(examples=[{"photos": ["MjAxOS9yb21lLzA0MTIuanBn"], "add": ["beach"]}])],
) -> models.JobInfo:
    """Give tags to photos, or take them away, as a job; all photos change together."""
    served = service.find(name)
    add, remove = checked_tags(change.add), checked_tags(change.remove)
    if not (add or remove):
        raise UsageError("there is nothing to change: give tags to add or remove")
    ids = [served.state.photos.ids[place_of(served.state, key)] for key in change.photos]
    work = {"kind": "tag", "ids": ids, "add": add, "remove": remove}
    return job_model(service.jobs.start(name, served.path, work))


@router.post("/photos", status_code=202)
async def add_photos(
    service: TheService,
    client: Writer,
    name: str,
    file: Annotated[list[UploadFile], File(description="One photo or more.")],
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> models.JobInfo:
    """Add uploaded photos, as a job. The same photos again change nothing; files that are no photos are refused."""
    served = service.find(name)
    contents = [await one.read() for one in file]
    digest = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()
    if (known := service.jobs.known(client.name, idempotency_key, digest)) is not None:
        return job_model(known)
    for content in contents:
        await service.decode(client.name, content, 16)
    named = [(one.filename or "", content) for one, content in zip(file, contents, strict=True)]
    root, paths = await service.in_thread(keep_files, service.settings.uploads, served.path, named)
    work = {"kind": "add", "files": paths, "root": root}
    job = service.jobs.start(name, served.path, work, client=client.name, idempotency=idempotency_key, content=digest)
    return job_model(job)
