"""The answer to a search at an address of its own, as JSON and as CSV: it can be kept, mailed and put into a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from resight.serving import models
from resight.serving.access import Client, Reader, TheService
from resight.serving.routes.search import source_of, whole_answer
from resight.serving.searching import read_search
from resight.serving.service import Service

router = APIRouter(prefix="/v1/collections/{name}", tags=["search"])
COLUMNS = ("rank", "id", "score", "match", "inliers", "key")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # OWASP, "CSV Injection"


class Question(models.Model):
    """What the address of an answer asks: the fields of the form of a search, but no file."""

    photo: str | None = Field(None, max_length=8192, description="The key of a photo of the collection.")
    query: str | None = Field(None, max_length=100, description="Or the token of an earlier upload.")
    also: list[str] = Field([], description="Keys of photos that show it, too; at most 4.")
    without: list[str] = Field([], description="Keys of photos that show something else; at most 4.")
    box: list[str] = Field([], description="A part of it, `x0,y0,x1,y1` in pixels; repeatable.")
    recipe: str | None = Field(None, max_length=100)
    options: str | None = Field(None, max_length=20_000, description="Options of the recipe, as JSON.")
    where: str | None = Field(None, max_length=20_000, description="Which photos may be found, as JSON: see Where.")
    top: int = Field(20, ge=1, le=500)
    cursor: str | None = Field(None, max_length=200)
    budget: int | None = Field(
        None, ge=0, le=600_000, description="Milliseconds after which geometry looks at no more photos."
    )


@router.get("/search.json", response_model=models.SearchAnswer)
async def answer_as_json(
    request: Request, service: TheService, client: Reader, name: str, question: Annotated[Question, Query()]
) -> Response:
    """The answer to a search with a photo of the collection or an earlier upload, at an address that can be kept."""
    answer = await _answered(request, service, client, name, question)
    return Response(answer.model_dump_json(), media_type="application/json", headers=_headers(service, client))


@router.get("/search.csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
async def answer_as_csv(
    request: Request, service: TheService, client: Reader, name: str, question: Annotated[Question, Query()]
) -> Response:
    """The same answer as comma-separated values (RFC 4180): rank, id, score, match, inliers and key.

    An id that a spreadsheet could take for a formula stands behind a single quote; `key` is never changed.
    """
    answer = await _answered(request, service, client, name, question)
    headers = {**_headers(service, client), "Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response(as_table(answer.results), media_type="text/csv", headers=headers)


async def _answered(
    request: Request, service: Service, client: Client, name: str, question: Question
) -> models.SearchAnswer:
    state = service.state(name)
    fields = question.model_dump()
    source = await source_of(service, state, client, None, fields.pop("photo"), fields.pop("query"), fields.pop("box"))
    return await whole_answer(request, service, state, client, read_search(state, source, **fields))


def _headers(service: Service, client: Client) -> dict[str, str]:
    return {"Cache-Control": "no-store", **service.gate.limits(client.name)}


def as_table(results: Iterable[models.Result]) -> str:
    """Results as lines of CSV behind a line of names; text that a spreadsheet could run begins with a single quote."""
    text = io.StringIO()
    table = csv.writer(text)  # writes None as nothing, and ends lines as RFC 4180 does
    table.writerow(COLUMNS)
    table.writerows([_cell(getattr(result, column)) for column in COLUMNS] for result in results)
    return text.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
