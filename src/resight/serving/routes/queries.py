"""Uploaded queries: what a page needs to show again what was asked."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from resight.serving import models
from resight.serving.access import Reader, TheService
from resight.serving.queries import Upload
from resight.serving.thumbnails import QUALITY, Size
from resight.viz.pictures import encode_jpeg

router = APIRouter(prefix="/v1/collections/{name}/queries", tags=["search"])
Token = Annotated[str, Path(max_length=100, description="Of an earlier search.")]


@router.get("/{token}")
async def get_query(service: TheService, client: Reader, name: str, token: Token) -> models.QueryInfo:
    """The size of an uploaded photo that is still kept."""
    service.find(name)
    photo = service.uploads.find(token).photo
    return models.QueryInfo(token=token, key=None, width=photo.width, height=photo.height, boxes=[])


@router.get("/{token}/thumbnail", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
async def get_query_thumbnail(
    service: TheService, client: Reader, name: str, token: Token, size: Size = Size.SMALL
) -> Response:
    """An uploaded photo as JPEG, its longer side at most `size` pixels."""
    service.find(name)
    upload = service.uploads.find(token)
    async with service.pictures.enter(client.name):
        content = await service.in_thread(_encoded, upload, int(size))
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})


def _encoded(upload: Upload, size: int) -> bytes:
    """The pixels that are kept, which may be fewer than the photo has."""
    return encode_jpeg(upload.photo.pixels, size, size, QUALITY)
