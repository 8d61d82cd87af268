"""Write docs/api.md from the OpenAPI document of the service.

python docs/generate_api.py           # writes the page
python docs/generate_api.py --check   # exits 1 where the page is not what the service says
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("api.md")
HEAD = """<!-- Made by docs/generate_api.py: change src/resight/serving, and run it again. -->
# HTTP API

What `resight serve` answers; how to run it, and its limits, are on the page [serve](serve.md). The OpenAPI document is
at `/v1/openapi.json` of every service.

- **Keys of photos** are their ids as unpadded base64url of UTF-8: `2019/rome/0412.jpg` is `MjAxOS9yb21lLzA0MTIuanBn`.
- **Boxes** are `x0,y0,x1,y1` in pixels of the upright photo.
- **Errors** are `application/problem+json` with `title`, `status` and `detail`, the sentence of the command line.
- **Pages**: give `next` of an answer as `cursor` of the next request.
- **Keys**, where the service asks for them: `Authorization: Bearer rs_...`.

```bash
curl -F file=@holiday.jpg -F top=5 http://127.0.0.1:8321/v1/collections/photos/search
curl -N -H 'Accept: text/event-stream' -F file=@holiday.jpg -F box=40,30,500,420 \\
    http://127.0.0.1:8321/v1/collections/photos/search
```

A search that streams sends `ranking` (`query`, `recipe`, `results` of which nothing is proven yet: `match` is null),
then `proof` for some results at a time (`results`, `done`, `of`), then `done` with the whole answer, or `problem`. Jobs
send `progress` and at last `done`, each with the job; `Last-Event-ID` goes on behind it.
"""


def document() -> dict[str, Any]:
    """The OpenAPI document of a service."""
    from resight.collection import create_collection
    from resight.serving.app import create_app
    from resight.serving.service import Service
    from resight.serving.settings import ServeSettings

    with tempfile.TemporaryDirectory() as folder:
        create_collection(Path(folder) / "photos.resight")
        service = Service([Path(folder) / "photos.resight"], ServeSettings())
        found: dict[str, Any] = json.loads(json.dumps(create_app(service).openapi()))
        service.threads.shutdown()
    return found


def page(api: dict[str, Any]) -> str:
    """The page of an OpenAPI document."""
    operations = [(m.upper(), path, one) for path, item in api["paths"].items() for m, one in item.items()]
    rows = [f"| [`{method} {path}`](#{_anchor(one)}) | {_cell(_first(one))} |" for method, path, one in operations]
    overview = ["| request | does |", "|---|---|", *rows, ""]
    sections = [line for method, path, one in operations for line in _section(api, method, path, one)]
    records = [line for name, schema in sorted(api["components"]["schemas"].items()) for line in _record(name, schema)]
    return "\n".join([HEAD, *overview, *sections, "## Records", "", *records])


def _section(api: dict[str, Any], method: str, path: str, one: dict[str, Any]) -> Iterator[str]:
    yield from (f"## {_title(one)}", "", f"    {method} {path}", "", " ".join(one.get("description", "").split()), "")
    rows = [
        (p["name"], p["in"], p["schema"], p.get("required"), p.get("description", ""))
        for p in one.get("parameters", [])
    ]
    for kind, content in one.get("requestBody", {}).get("content", {}).items():
        body = _resolved(api, content["schema"])
        if "properties" not in body:
            rows.append(("body", kind, content["schema"], True, ""))
        for name, schema in body.get("properties", {}).items():
            rows.append((name, "form", schema, name in body.get("required", []), schema.get("description", "")))
    if rows:
        yield from ("| | in | type | |", "|---|---|---|---|")
        for name, where, schema, required, text in rows:
            yield f"| `{name}` | {where} | {_cell(_kind(schema))}{', needed' if required else ''} | {_cell(text)} |"
        yield ""
    for status, response in one["responses"].items():
        if status.startswith("2"):
            kinds = [f"{kind} {_kind(c.get('schema', {}))}".strip() for kind, c in response.get("content", {}).items()]
            yield from (f"Answers {status}: {'; '.join(kinds) or 'nothing'}.", "")


def _record(name: str, schema: dict[str, Any]) -> Iterator[str]:
    if name.startswith(("Body_", "HTTPValidation", "ValidationError")):
        return
    yield from (f"### {name}", "", " ".join(schema.get("description", "").split()), "")
    if "properties" in schema:
        yield from ("| | type | |", "|---|---|---|")
        for field, one in schema["properties"].items():
            yield f"| `{field}` | {_cell(_kind(one))} | {_cell(one.get('description', ''))} |"
        yield ""
    elif "enum" in schema:
        yield from (f"One of {', '.join(map(str, schema['enum']))}.", "")


def _resolved(api: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = api["components"]["schemas"][name] if name else schema
    return found


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_kind(one) for one in schema[several])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(_kind(one) for one in schema['prefixItems'])}]"
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("contentMediaType") or schema.get("format") == "binary":
        return "file"
    return str(schema.get("type", ""))


def _title(one: dict[str, Any]) -> str:
    return str(one["summary"]).capitalize()


def _anchor(one: dict[str, Any]) -> str:
    return _title(one).lower().replace(" ", "-")


def _first(one: dict[str, Any]) -> str:
    return " ".join(one.get("description", "").split("\n\n")[0].split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    found = page(document())
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == found else f"{PAGE} is not current: run {__file__}")
    PAGE.write_text(found, encoding="utf-8")


if __name__ == "__main__":
    main()
