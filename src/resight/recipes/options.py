"""Options of recipes: the one place where names and values that users give are checked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from resight.errors import UsageError


@cache
def options_of(recipe: Callable[..., Any]) -> Mapping[str, Any]:
    """The options of a recipe, its keyword-only parameters, with their defaults."""
    parameters = inspect.signature(recipe).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def check_options(name: str, recipe: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raises `UsageError`, with what is allowed, for an option that recipe `name` lacks or a value of another kind."""
    check_values(f"recipe {name}", given, options_of(recipe), _hints(recipe))


def check_values(what: str, given: Mapping[str, Any], defaults: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """Raises `UsageError` for a name that is not in `defaults`, and for a value that its type in `hints` excludes.

    Whole numbers pass as numbers, truth values never do; numbers must be finite.
    """
    for name, value in given.items():
        if name not in defaults:
            raise UsageError(f"{what} has no option {name!r}: it has {', '.join(defaults) or 'none'}")
        if not _fits(value, hints[name]):
            shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
            raise UsageError(f"{name}={shown} is not {_said(hints[name])}: its default is {defaults[name]!r}")


def check_verify(verify: int) -> None:
    """Raises `UsageError` unless `verify`, the number of results that geometry looks at, is one."""
    if verify < 1:
        raise UsageError(f"verify={verify}: at least 1 result must be verified")


@cache
def _hints(recipe: Callable[..., Any]) -> Mapping[str, Any]:
    return get_type_hints(recipe)


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, list | tuple) and all(_fits(item, get_args(kind)[0]) for item in value)
    if kind is type(None):
        return value is None
    if kind in (int, float):
        number = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
        return number and abs(value) < 2**63 and math.isfinite(value)
    return isinstance(value, kind)


def _said(kind: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "none"}
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_said(one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        return "a list of names" if get_args(kind)[0] is str else "a list of numbers"
    return names[kind]
