"""Which collections there are, and what they hold."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from resight.serving import models
from resight.serving.access import READ, TheService
from resight.serving.opened import Served
from resight.serving.service import Service

router = APIRouter(prefix="/v1", tags=["collections"], dependencies=[READ])


@router.get("/collections")
async def list_collections(service: TheService) -> list[models.CollectionSummary]:
    """All collections."""
    return [models.CollectionSummary(**_summary(served)) for served in service.collections.values()]


@router.get("/collections/{name}")
async def get_collection(service: TheService, name: str) -> models.CollectionInfo:
    """What a collection holds, and how it can be searched."""
    return await service.in_thread(_info, service, service.find(name))


def _summary(served: Served) -> dict[str, Any]:
    state = served.state
    return {
        "name": served.name,
        "photos": len(state.photos),
        "recipe": state.collection.snapshot.stamp.recipe,
        "updated": state.opened,
        "version": state.version,
    }


def _info(service: Service, served: Served) -> models.CollectionInfo:
    state, settings = served.state, service.settings
    snapshot, rule = state.collection.snapshot, state.collection.match_rule()
    parameters = {name: value for name, value in snapshot.stamp.parameters.items() if not _names_a_file(value)}
    return models.CollectionInfo(
        **_summary(served),
        recipes=[models.RecipeInfo(name=name, options=options) for name, options in state.recipes.items()],
        parameters=parameters,
        created=snapshot.stamp.created,
        broken=len(snapshot.tables) - snapshot.tables.readable,
        pending=state.collection.pending,
        proof=rule.proof,
        threshold=rule.threshold,
        read_only=settings.read_only,
        original_allowed=settings.originals,
        can_upload=not settings.read_only,
    )


def _names_a_file(value: object) -> bool:
    return isinstance(value, str) and "/" in value
