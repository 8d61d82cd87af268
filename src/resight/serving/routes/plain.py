"""A search without scripts: a form that is posted, and a page that lists what was found."""

from __future__ import annotations

from html import escape
from typing import Annotated

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import HTMLResponse

from resight.serving import models
from resight.serving.access import Reader, TheService
from resight.serving.forms import BoundedForms
from resight.serving.problems import Refused
from resight.serving.routes.search import source_of, whole_answer
from resight.serving.searching import read_search

router = APIRouter(include_in_schema=False, route_class=BoundedForms)
WORDS = {"proven": "Match", "possible": "Possible", "none": "No match", None: "Not checked"}


@router.post("/search.html")
async def search_by_form(
    request: Request,
    service: TheService,
    client: Reader,
    file: Annotated[UploadFile, File()],
    collection: Annotated[str | None, Form(max_length=200)] = None,
) -> HTMLResponse:
    """Search for an uploaded photo, and answer with a page. For services without keys: a form cannot send one."""
    name = collection or next(iter(service.collections), None)
    if name is None:
        raise Refused(404, "the service has no collection: start it with the name of one")
    state = service.state(name)
    source = await source_of(service, state, client, file, None, None, None)
    answer = await whole_answer(request, service, state, client, read_search(state, source))
    return HTMLResponse(_page(name, answer), headers={"Cache-Control": "no-store"})


def _page(name: str, answer: models.SearchAnswer) -> str:
    shown = "".join(_card(name, result) for result in answer.results)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(answer.sentence)} · resight</title>
<link rel="icon" href="page/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="page/base.css">
<link rel="stylesheet" href="page/shell.css">
<link rel="stylesheet" href="page/search.css">
</head>
<body>
<main>
<p><a class="button" href="./">Search again</a></p>
<h1>{escape(answer.sentence.capitalize())}</h1>
<ul class="grid plain-list">{shown}</ul>
</main>
</body>
</html>
"""


def _card(name: str, result: models.Result) -> str:
    kind = result.match or "pending"
    address = f"v1/collections/{escape(name)}/photos/{escape(result.key)}/thumbnail?v={escape(result.version)}"
    facts = f"score {result.score:.1f}" + (f" · {result.inliers} inliers" if result.inliers else "")
    return f"""
<li class="card {kind}"><a class="frame" href="{address}&amp;size=1280">
<img src="{address}&amp;size=320" alt="{escape(result.id)}" loading="lazy"></a>
<p class="words"><span class="badge {kind}">{WORDS[result.match]}</span> {facts}<br>{escape(result.id)}</p></li>"""
