"""One search as a client asks for it, and the events of its answer."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import ValidationError

from resight.collection.answer import Answer, MatchRule, Query
from resight.collection.examples import with_example, without_example
from resight.collection.steps import Proved, Ranked, search_in_steps
from resight.errors import UsageError
from resight.ranking.pipeline import Pipeline
from resight.recipes.catalogue import check_recipe
from resight.serving import models
from resight.serving.answers import proved_models, ranked_models, search_answer
from resight.serving.opened import State
from resight.serving.photo_list import Filter, cursor_of, read_cursor
from resight.serving.querying import Asked, Source, ask, place_of, read_object
from resight.types import Int64

MOST_RESULTS = 2000  # that can be paged through
MOST_EXAMPLES = 4
BATCH = 20  # candidates that geometry looks at between two events, and between two looks whether the client is there


@dataclass(frozen=True)
class Search:
    """What is searched for and how. `also`: further photos that show it; `without`: photos that do not, and what they
    show is left out. `after`: results that earlier pages had. `budget`: seconds after which geometry looks no further,
    None for no end.
    """

    source: Source
    also: tuple[Source, ...]
    without: tuple[Source, ...]
    recipe: str | None
    options: Mapping[str, Any]
    where: Filter
    top: int
    after: int
    budget: float | None


@dataclass(frozen=True)
class Event:
    """A server-sent event: its name, and JSON."""

    name: str
    data: str

    def encode(self) -> bytes:
        """As it is sent."""
        return f"event: {self.name}\ndata: {self.data}\n\n".encode()


def read_search(
    state: State,
    source: Source,
    *,
    also: Sequence[str] | None = None,
    without: Sequence[str] | None = None,
    recipe: str | None = None,
    options: str | None = None,
    where: str | None = None,
    top: int = 20,
    cursor: str | None = None,
    budget: int | None = None,
) -> Search:
    """A search out of the fields of a form; `budget` in milliseconds. Raises `UsageError` where one cannot be."""
    after = read_cursor(cursor, MOST_RESULTS)
    recipe = recipe or None
    chosen = read_object("options", options)
    check_recipe(recipe or state.collection.snapshot.stamp.recipe, chosen)
    examples, others = _examples(state, also), _examples(state, without)
    return Search(
        source,
        examples,
        others,
        recipe,
        chosen,
        read_where(where),
        min(top, max(MOST_RESULTS - after, 1)),
        after,
        None if budget is None else budget / 1000,
    )


def read_where(text: str | None) -> Filter:
    """A filter out of JSON. Raises `UsageError` for a field that there is not, or a value that it cannot have."""
    try:
        return as_filter(models.Where.model_validate(read_object("where", text)))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])[:80] or "it"
        allowed = ", ".join(field.alias or name for name, field in models.Where.model_fields.items())
        raise UsageError(f"where: {name}: {first['msg']}; it may have {allowed}") from error


def as_filter(where: models.Where) -> Filter:
    """A filter of the API as one of the list of photos."""
    return Filter(where.folder, where.from_, where.to, where.tag, where.min_side, where.max_side)


def run(state: State, search: Search, check: Callable[[], None]) -> Iterator[Event | models.SearchAnswer]:
    """Do a search: events `ranking` and `proof` while it is under way, at last the answer. `check` is called between
    steps and raises where nobody waits any more. Raises as `Collection.search`. Not for the event loop.
    """
    until = math.inf if search.budget is None else time.perf_counter() + search.budget
    asked = ask(state, search.source)
    check()
    collection, snapshot = state.collection, state.collection.snapshot
    recipe = search.recipe or snapshot.stamp.recipe
    rule, pipeline = (
        collection.match_rule(search.recipe),
        snapshot.pipeline(_rows(state, search.where), search.recipe, search.options),
    )
    wanted = search.after + search.top
    told: set[int] = set()
    verify = search.options.get("verify")
    steps = search_in_steps(
        snapshot, rule, pipeline, asked.query, top=wanted + 1, verify=verify, batch=BATCH, until=until
    )
    for step in steps:
        check()
        if isinstance(step, Ranked):
            yield _event(
                "ranking", {"query": asked.info, "recipe": recipe, "results": ranked_models(state, step, wanted)}
            )
        elif isinstance(step, Proved):
            results = proved_models(state, rule, asked, _untold(step, told))
            if results:
                yield _event("proof", {"results": results, "done": step.done, "of": step.of})
        else:
            known: dict[int, Asked] = {}
            for example in (*search.also, *search.without):
                check()
                other = ask(state, example)
                known[id(other.query)] = other
                found = _found(state, rule, pipeline, other.query, wanted + 1, verify, until)
                step = without_example(step, found) if example in search.without else with_example(step, found)
            origins = {row: known[id(query)] for row, query in step.origins.items()}
            yield _answer(state, asked, step, recipe, search, origins)


def _examples(state: State, keys: Sequence[str] | None) -> tuple[Source, ...]:
    if keys is not None and len(keys) > MOST_EXAMPLES:
        raise UsageError(f"{len(keys)} examples were given: at most {MOST_EXAMPLES} of a kind are searched for")
    return tuple(_known(state, key) for key in keys or ())


def _known(state: State, key: str) -> Source:
    place_of(state, key)  # raises where there is no such photo
    return Source(None, key)


def _found(
    state: State, rule: MatchRule, pipeline: Pipeline, query: Query, top: int, verify: int | None, until: float
) -> Answer:
    *_, answer = search_in_steps(
        state.collection.snapshot, rule, pipeline, query, top=top, verify=verify, batch=BATCH, until=until
    )
    assert isinstance(answer, Answer)
    return answer


def _untold(step: Proved, told: set[int]) -> Proved:
    """The part of a step that is news: stages after the first one look at most photos again."""
    new = [row not in told for row in step.rows.tolist()]
    told.update(step.rows.tolist())
    return replace(step, rows=step.rows[new], scores=step.scores[new])


def _answer(
    state: State, asked: Asked, answer: Answer, recipe: str, search: Search, origins: Mapping[int, Asked]
) -> models.SearchAnswer:
    """The page of results that was asked for, of an answer with one more so that it is known whether there are more."""
    wanted = search.after + search.top
    more = len(answer.results) > wanted and wanted < MOST_RESULTS
    shown = replace(answer, results=answer.results[:wanted])
    fields = search_answer(state, asked, shown, recipe, search.after, origins)
    return models.SearchAnswer(**fields, next=cursor_of(wanted) if more else None)


def _rows(state: State, where: Filter) -> Int64 | None:
    """The rows that may be found, ascending; None for all."""
    return None if where.empty else np.asarray(state.photos.rows[state.photos.fitting(where)])


def _event(name: str, fields: Mapping[str, Any]) -> Event:
    plain = {key: _plain(value) for key, value in fields.items()}
    return Event(name, json.dumps(plain, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.model_dump(mode="json") if isinstance(value, models.Model) else value
