"""What is near a photo, as a graph."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from resight.serving import models
from resight.serving.access import Reader, TheService
from resight.serving.neighbourhood import neighbourhood
from resight.serving.querying import place_of

router = APIRouter(prefix="/v1/collections/{name}", tags=["photos"])


@router.get("/photos/{key}/neighbours")
async def get_neighbours(
    request: Request,
    service: TheService,
    client: Reader,
    name: str,
    key: str,
    limit: Annotated[int, Query(ge=2, le=300, description="Photos, the first one included.")] = 40,
) -> models.Neighbourhood:
    """The photos around a photo, their places in a drawing, and what joins them."""
    state = service.state(name)
    place = place_of(state, key)
    return await service.compute(request, client.name, lambda check: neighbourhood(state, place, limit, check))
