"""What the API takes and gives: the OpenAPI document is made of these."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Match = Literal["proven", "possible", "none"]
Point = tuple[float, float]


class Model(BaseModel):
    """Of all models: no field that is not named."""

    model_config = ConfigDict(extra="forbid")


class Problem(Model):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="One sentence: what was wrong, and what to do.")


class Version(Model):
    """The version of the service."""

    resight: str
    api: Literal["v1"] = "v1"
    read_only: bool
    keys: bool = Field(description="Whether requests need a key.")
    scope: str | None = Field(description="What the given key may do; null without a valid key.")


class RecipeInfo(Model):
    """A way to rank, and the defaults of its options."""

    name: str
    options: dict[str, Any]


class CollectionSummary(Model):
    """A collection in the list of all."""

    name: str
    photos: int
    recipe: str
    updated: datetime
    version: str


class CollectionInfo(CollectionSummary):
    """A collection."""

    recipes: list[RecipeInfo] = Field(description="Every recipe that it can be searched with.")
    parameters: dict[str, Any]
    created: str
    broken: int = Field(description="Files that could not be decoded.")
    pending: int = Field(description="Photos that are stored and not searchable yet.")
    proof: bool = Field(description="Whether geometry can prove a match.")
    threshold: float | None
    read_only: bool
    original_allowed: bool
    can_upload: bool


class Photo(Model):
    """A photo of a collection. Sizes in pixels of the upright photo."""

    key: str = Field(examples=["MjAxOS9yb21lLzA0MTIuanBn"])
    id: str = Field(examples=["2019/rome/0412.jpg"])
    width: int
    height: int
    taken_at: str | None = Field(examples=["2019-05-31T18:03:59"])
    folder: str
    tags: list[str]
    version: str = Field(description="Changes with the file; as `v` of a thumbnail's URL it makes it immutable.")


class PhotoPage(Model):
    """A page of photos."""

    photos: list[Photo]
    next: str | None = Field(description="The cursor of the next page.")
    total: int


class Count(Model):
    """How many photos have a value."""

    value: str
    count: int


class Facets(Model):
    """Counts of the photos that fit the filters."""

    folders: list[Count]
    months: list[Count]
    sizes: list[Count]
    tags: list[Count]
    total: int


class Where(Model):
    """Which photos may be found."""

    folder: str | None = Field(None, max_length=4096, description="In this folder or below.")
    from_: str | None = Field(
        None, alias="from", pattern=r"^\d{4}[0-9T:-]*$", max_length=19, description="Taken then or later."
    )
    to: str | None = Field(None, pattern=r"^\d{4}[0-9T:-]*$", max_length=19, description="Taken before.")
    tag: str | None = Field(None, max_length=1000)
    min_side: int | None = Field(None, ge=0, le=10**9)
    max_side: int | None = Field(None, ge=0, le=10**9)


class QueryInfo(Model):
    """What was searched for. Boxes are [x0, y0, x1, y1]."""

    token: str | None = Field(description="Of an upload: `query` of the next search; kept for some minutes.")
    key: str | None = Field(description="Of a photo of the collection.")
    width: int
    height: int
    boxes: list[tuple[float, float, float, float]]


class Result(Model):
    """A photo that was found."""

    key: str
    id: str
    rank: int
    score: float = Field(description="Standard deviations above what unrelated photos of the collection show.")
    match: Match | None = Field(description="null: geometry has not looked at it yet.")
    inliers: int | None = Field(description="Features that one view explains; null where there is no proof to give.")
    significance: str | None = Field(description="What the inliers mean, in words.")
    outline: list[Point] | None = Field(description="Where the thing lies in the result: a polygon in its pixels.")
    example: str | None = Field(None, description="The key of the example of `also` that found it; null: the query.")
    width: int
    height: int
    taken_at: str | None
    version: str


class SearchAnswer(Model):
    """What a search found."""

    query: QueryInfo
    recipe: str
    collection_version: str
    results: list[Result]
    next: str | None = Field(description="The cursor of the next results.")
    confident: bool
    pending: int
    took_ms: float
    sentence: str


class Stage(Model):
    """What one stage of the recipe has to say."""

    stage: str
    summary: str


class PhotoName(Model):
    """A photo by key and id."""

    key: str
    id: str


class Explanation(Model):
    """Why a photo answers a query."""

    query: QueryInfo
    result: Result
    transform: list[list[float]] | None = Field(description="3 x 3, from pixels of the query to those of the result.")
    inliers: list[tuple[float, float, float, float]] = Field(description="[x, y in the query, x, y in the result].")
    outline: list[Point] | None
    significance: str | None
    stages: list[Stage]
    path: list[PhotoName] = Field(description="Photos on the way through the graph, the result last.")
    sources: list[PhotoName] = Field(description="Photos that the query was enriched with.")


class DuplicateGroup(Model):
    """Photos that are the same file, or the same picture."""

    kind: Literal["exact", "near"]
    photos: list[Photo]


class DuplicatePage(Model):
    """Groups of duplicates."""

    groups: list[DuplicateGroup]
    next: str | None
    total: int
    near: bool = Field(description="Whether near duplicates have been looked for: a job of kind duplicates does.")


class Node(Model):
    """A photo in the neighbourhood, with its place: 0 to 1 from the left and from the top."""

    key: str
    id: str
    x: float
    y: float
    width: int
    height: int
    version: str


class Edge(Model):
    """Two nodes by their numbers. `inliers`: where geometry proves it; `similarity`: 0 to 1 where it is known."""

    a: int
    b: int
    inliers: int | None
    similarity: float | None


class Neighbourhood(Model):
    """A photo, the first node, and what is near it."""

    nodes: list[Node]
    edges: list[Edge]


Tag = Annotated[str, Field(min_length=1, max_length=100)]


class TagChange(Model):
    """Tags to give to photos and to take from them."""

    photos: list[Annotated[str, Field(max_length=8192)]] = Field(min_length=1, max_length=10_000, description="Keys.")
    add: list[Tag] = Field(default=[], max_length=100)
    remove: list[Tag] = Field(default=[], max_length=100)


class AddWork(Model):
    """Add the photos of a folder."""

    kind: Literal["add"]
    folder: str = Field(max_length=4096, description="On the server, below a folder that it allows.")


class GraphWork(Model):
    """Build the kNN graph."""

    kind: Literal["graph"]
    k: int = Field(50, ge=1, le=1000)
    verified: bool = False
    offline: bool = False


class TuneWork(Model):
    """Choose the options of graph recipes."""

    kind: Literal["tune"]


class FitWork(Model):
    """Fit a part to the collection."""

    kind: Literal["fit"]
    what: Literal["fusion", "whitening", "words"]
    method: str = Field("zca", max_length=40, description="Of whitening.")


class DuplicatesWork(Model):
    """Look for near duplicates."""

    kind: Literal["duplicates"]


Work = Annotated[AddWork | GraphWork | TuneWork | FitWork | DuplicatesWork, Field(discriminator="kind")]


class FileProblem(Model):
    """A file that could not be used."""

    kind: str
    message: str


class JobInfo(Model):
    """A job."""

    id: str
    collection: str
    kind: str
    state: Literal["waiting", "running", "done", "failed", "stopped"]
    created: datetime
    step: str
    done: int
    of: int
    per_second: float
    seconds_left: float | None
    problems: list[FileProblem]
    result: dict[str, Any] | None
    error: str | None


class JobList(Model):
    """Jobs, the newest first."""

    jobs: list[JobInfo]
