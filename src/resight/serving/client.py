"""A collection behind a service, with the methods of one that is open: `resight.connect`. Needs nothing installed."""

from __future__ import annotations

import json
import os
import secrets
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from resight.errors import UsageError
from resight.progress import Progress, silent
from resight.serving.asking import Asking, Part, ServiceError, ServiceRefused
from resight.serving.photo_keys import key_of
from resight.types import Box

T = TypeVar("T")
POLL_SECONDS = 0.3


@dataclass(frozen=True)
class RemotePhoto:
    """A photo of the collection; sizes in pixels, `taken_at` ISO 8601."""

    key: str
    id: str
    width: int
    height: int
    taken_at: str | None
    folder: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class RemoteResult:
    """A photo that was found; `match` is `proven`, `possible` or `none`, `outline` a polygon in its pixels."""

    rank: int
    id: str
    key: str
    score: float
    match: str
    inliers: int | None
    significance: str | None
    outline: tuple[tuple[float, float], ...] | None
    width: int
    height: int


@dataclass(frozen=True)
class RemoteAnswer:
    """What a search found, best first. `token`: of the upload, to search with it again without sending it."""

    results: tuple[RemoteResult, ...]
    recipe: str
    collection_version: str
    confident: bool
    pending: int
    took_ms: float
    sentence: str
    token: str | None


@dataclass(frozen=True)
class RemoteExplanation:
    """Why a photo answers a query: `inliers` as x, y in the query and x, y in the result, the 3 x 3 `transform`, what
    every stage says, the ids on the `path` through the graph and of the `sources` of expansion.
    """

    result: RemoteResult
    transform: tuple[tuple[float, ...], ...] | None
    inliers: tuple[tuple[float, ...], ...]
    stages: tuple[tuple[str, str], ...]
    path: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class RemoteInfo:
    """What the collection holds."""

    name: str
    photos: int
    recipe: str
    version: str
    updated: str
    created: str
    broken: int
    pending: int
    proof: bool
    threshold: float | None
    parameters: Mapping[str, Any]
    read_only: bool
    original_allowed: bool


@dataclass(frozen=True)
class RemoteJob:
    """A job; `result` when it has ended well."""

    id: str
    kind: str
    state: str
    step: str
    done: int
    of: int
    result: Mapping[str, Any] | None
    error: str | None
    problems: tuple[Mapping[str, str], ...]


class RemoteCollection:
    """A collection behind a service. Errors are `ServiceError`, those of usage `ServiceRefused` as well."""

    def __init__(self, url: str, name: str, key: str | None = None, timeout: float = 120.0) -> None:
        self.name = name
        self._asking = Asking(url.rstrip("/"), key, timeout)
        self._at = f"/v1/collections/{urllib.parse.quote(name, safe='')}"

    def info(self) -> RemoteInfo:
        """Counts and settings."""
        return _made(RemoteInfo, self._asking.json("GET", self._at))

    def photos(self, *, order: str = "name", **filters: Any) -> Iterator[RemotePhoto]:
        """The photos that fit `filters` (folder, from_, to, tag, min_side, max_side), page by page."""
        asked = {name.rstrip("_"): value for name, value in filters.items() if value is not None}
        for page in self._pages(f"{self._at}/photos", {"order": order, "limit": 500, **asked}):
            yield from (_made(RemotePhoto, photo) for photo in page["photos"])

    def search(
        self,
        image: str | os.PathLike[str] | bytes,
        box: Box | None = None,
        top: int = 20,
        where: Mapping[str, Any] | None = None,
        recipe: str | None = None,
        **options: Any,
    ) -> RemoteAnswer:
        """Find the photos that show what `image` shows: the path of a file here, its bytes, or the id of a photo there.

        `where`: fields folder, from, to, tag, min_side, max_side. The others as for `Collection.search`.
        """
        form = [*_query(image), *_form(box, recipe, options), ("top", str(top))]
        if where is not None:
            form.append(("where", json.dumps(where)))
        return _answer(self._asking.json("POST", f"{self._at}/search", form=form))

    def explain(
        self, image: str, id: str, box: Box | None = None, recipe: str | None = None, **options: Any
    ) -> RemoteExplanation:
        """Why photo `id` does or does not answer a query: the id of another photo, or the `token` of an answer."""
        return _explanation(self._asking.json("GET", f"{self._at}/explain", self._why(image, id, box, recipe, options)))

    def explain_picture(
        self, image: str, id: str, box: Box | None = None, recipe: str | None = None, **options: Any
    ) -> bytes:
        """The same as a PNG."""
        return self._asking.bytes("GET", f"{self._at}/explain.png", self._why(image, id, box, recipe, options))

    def duplicates(self, kind: str | None = None) -> Iterator[tuple[str, list[str]]]:
        """Groups of the same file (`exact`) or picture (`near`, after a job `duplicates`): their kind, and ids."""
        for page in self._pages(f"{self._at}/duplicates", {} if kind is None else {"kind": kind}):
            yield from ((group["kind"], [photo["id"] for photo in group["photos"]]) for group in page["groups"])

    def neighbours(self, id: str, limit: int = 40) -> Mapping[str, Any]:
        """What is near a photo: nodes with their places, and edges."""
        found: Mapping[str, Any]
        found = self._asking.json("GET", f"{self._at}/photos/{key_of(id)}/neighbours", {"limit": limit})
        return found

    def thumbnail(self, id: str, size: int = 320) -> bytes:
        """A photo as JPEG, its longer side at most 160, 320, 640 or 1280 pixels."""
        return self._asking.bytes("GET", f"{self._at}/photos/{key_of(id)}/thumbnail", {"size": size})

    def original(self, id: str) -> bytes:
        """The file of a photo, where the service allows it."""
        return self._asking.bytes("GET", f"{self._at}/photos/{key_of(id)}/original")

    def add(self, paths: Sequence[str | os.PathLike[str]], *, progress: Progress = silent) -> RemoteJob:
        """Upload photos and wait until they are in; sent again after a failure, they are not added twice."""
        form: list[Part] = [("file", (Path(path).name, Path(path).read_bytes())) for path in paths]
        header = {"Idempotency-Key": secrets.token_urlsafe(16)}
        return self.wait(self._asking.json("POST", f"{self._at}/photos", form=form, headers=header)["id"], progress)

    def remove(self, ids: Sequence[str], *, progress: Progress = silent) -> int:
        """Take photos out by id, and wait until they are; their files stay. Returns how many."""
        jobs = [self._asking.json("DELETE", f"{self._at}/photos/{key_of(id_)}")["id"] for id_ in ids]
        return sum(int((self.wait(job, progress).result or {}).get("removed", 0)) for job in jobs)

    def tag(
        self, ids: Sequence[str], *, add: Sequence[str] = (), remove: Sequence[str] = (), progress: Progress = silent
    ) -> int:
        """Give tags to photos by id and take others away, and wait until that is done. Returns how many changed."""
        body = {"photos": [key_of(id_) for id_ in ids], "add": list(add), "remove": list(remove)}
        job = self._asking.json("POST", f"{self._at}/tags", body=body)
        return int((self.wait(job["id"], progress).result or {}).get("changed", 0))

    def start(self, kind: str, **work: Any) -> RemoteJob:
        """Start a job: add (folder=), graph (k=, verified=, offline=), tune, fit (what=) or duplicates."""
        return _made(RemoteJob, self._asking.json("POST", f"{self._at}/jobs", body={"kind": kind, **work}))

    def job(self, id: str) -> RemoteJob:
        """A job as it is now."""
        return _made(RemoteJob, self._asking.json("GET", f"{self._at}/jobs/{id}"))

    def wait(self, id: str, progress: Progress = silent) -> RemoteJob:
        """Wait for the end of a job. Raises `ServiceError` when it failed."""
        while (job := self.job(id)).state in ("waiting", "running"):
            progress(job.step, job.done, job.of)
            time.sleep(POLL_SECONDS)
        if job.state == "failed":
            raise ServiceError(job.error or f"job {id} failed")
        return job

    def _why(
        self, image: str, id: str, box: Box | None, recipe: str | None, options: Mapping[str, Any]
    ) -> list[tuple[str, str]]:
        asked = ("photo", key_of(image)) if self._holds(image) else ("query", image)
        return [asked, ("result", key_of(id)), *((name, str(value)) for name, value in _form(box, recipe, options))]

    def _holds(self, id: str) -> bool:
        try:
            self._asking.json("GET", f"{self._at}/photos/{key_of(id)}")
        except ServiceRefused as error:
            if error.status != 404:
                raise
            return False
        return True

    def _pages(self, path: str, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        while True:
            page = self._asking.json("GET", path, asked if cursor is None else {**asked, "cursor": cursor})
            yield page
            if (cursor := page["next"]) is None:
                return


def connect(url: str, key: str | None = None, collection: str | None = None) -> RemoteCollection:
    """A collection behind the service at `url`; its name may be left out where there is one. `key`: of `resight keys`.

    Raises `ServiceError` when the service cannot be reached or refuses the key, `UsageError` for an unknown name.
    """
    asking = Asking(url.rstrip("/"), key, 120.0)
    names = [one["name"] for one in asking.json("GET", "/v1/collections")]
    if collection is None and len(names) == 1:
        return RemoteCollection(url, names[0], key)
    if collection is None or collection not in names:
        raise UsageError(f"{url} serves {', '.join(names)}: give the name of one of them as collection")
    return RemoteCollection(url, collection, key)


def _query(image: str | os.PathLike[str] | bytes) -> list[Part]:
    if isinstance(image, bytes):
        return [("file", ("query", image))]
    if os.path.isfile(image):
        return [("file", ("query", Path(image).read_bytes()))]
    return [("photo", key_of(os.fspath(image)))]


def _form(box: Box | None, recipe: str | None, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    form = []
    if box is not None:
        form.append(("box", f"{box.x!r},{box.y!r},{box.x + box.width!r},{box.y + box.height!r}"))
    if recipe is not None:
        form.append(("recipe", recipe))
    if options:
        form.append(("options", json.dumps(options)))
    return form


def _made(kind: type[T], given: Mapping[str, Any]) -> T:
    """A record of `kind` out of JSON; what a newer service says besides is left out."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: _frozen(given[name]) for name in names})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _answer(given: Mapping[str, Any]) -> RemoteAnswer:
    results = tuple(_made(RemoteResult, result) for result in given["results"])
    names = ("recipe", "collection_version", "confident", "pending", "took_ms", "sentence")
    return RemoteAnswer(results, **{name: given[name] for name in names}, token=given["query"]["token"])


def _explanation(given: Mapping[str, Any]) -> RemoteExplanation:
    return RemoteExplanation(
        _made(RemoteResult, given["result"]),
        _frozen(given["transform"]),
        _frozen(given["inliers"]),
        tuple((stage["stage"], stage["summary"]) for stage in given["stages"]),
        tuple(photo["id"] for photo in given["path"]),
        tuple(photo["id"] for photo in given["sources"]),
    )
