"""YAML that comes from outside: plain values only, and a text that would cost much time or memory is refused unread.

Values are those of YAML 1.2 (core schema): `1e-2` is a number, `yes`, `1:30` and `2020-01-01` are text. Aliases, tags
and keys given twice are refused, and so is what is nested deeper than `DEEPEST` or longer than `LONGEST`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import IO, Any, ClassVar

import yaml

DEEPEST = 12  # levels of lists and mappings
LONGEST = 100_000  # bytes of a file: ten times what a table of published scores has, and some two seconds of reading


class _Loader(yaml.SafeLoader):
    """Composes nodes one by one, so that aliases and depth are seen before anything is expanded."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - filled below; its base declares it as an attribute of instances
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it uses an alias (*name): write the value out")
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST} levels")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise ValueError(f"line {key_node.start_mark.line + 1} has a list or a mapping as a key")
            if key in mapping:
                raise ValueError(f"line {key_node.start_mark.line + 1} gives {key!r} a second time")
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping


def _construct_unknown(_: Any, node: yaml.Node) -> Any:
    raise ValueError(f"it uses the tag {node.tag}: only plain values are read")


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).lower()
    return int(text, 16 if text.startswith("0x") else 8 if text.startswith("0o") else 10)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _construct_bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return str(loader.construct_scalar(node)).lower() == "true"


_CORE = "tag:yaml.org,2002:"
for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_CORE + _kind, re.compile(rf"(?:{_pattern})\Z"), _first)
for _kind, _make in (
    ("null", lambda _loader, _node: None),
    ("bool", _construct_bool),
    ("int", _construct_int),
    ("float", _construct_float),
    ("str", _Loader.construct_yaml_str),
    ("seq", _Loader.construct_yaml_seq),
    ("map", _Loader.construct_yaml_map),
):
    _Loader.add_constructor(_CORE + _kind, _make)
_Loader.add_constructor(None, _construct_unknown)


def parse_yaml(text: str, longest: int = LONGEST) -> Any:
    """The value of a YAML text: None, bool, int, float, str, and lists and dicts of them.

    Raises `ValueError`, with a clause that says what is wrong, for anything else and for more than `longest`
    characters.
    """
    if len(text) > longest:
        raise ValueError(f"it is longer than {longest} characters")
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        raise ValueError(f"{where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def read_yaml(file: IO[bytes]) -> Any:
    """The value of an open file in UTF-8. Raises `ValueError` as `parse_yaml`, and `OSError` when it cannot be read."""
    content = file.read(LONGEST + 1)
    if len(content) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST} bytes")
    return parse_yaml(content.decode("utf-8-sig"))
