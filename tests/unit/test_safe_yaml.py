"""YAML from outside: the values of YAML 1.2, and nothing that costs more than its length."""

from __future__ import annotations

import contextlib
import io
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.safe_yaml import DEEPEST, LONGEST, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-2", 0.01),
        ("1E+3", 1000.0),
        (".5", 0.5),
        ("-3", -3),
        ("0123", 123),
        ("0x1f", 31),
        ("0o17", 15),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("", None),
        ("~", None),
        ("null", None),
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("'1'", "1"),
        ("a b", "a b"),
        ("[1, 1.41, x]", [1, 1.41, "x"]),
        ("{a: {b: [~]}}", {"a": {"b": [None]}}),
        ("<<: 1", {"<<": 1}),
    ],
)
def test_values(text, value):
    found = parse_yaml(text)
    assert found == value
    assert type(found) is type(value)


def test_nan():
    assert math.isnan(parse_yaml(".nan"))


BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(24)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "uses an alias"),
        ("&a [*a]", "uses an alias"),
        ("[" * 90_000, f"nested deeper than {DEEPEST}"),
        ("{a: " * 20_000, f"nested deeper than {DEEPEST}"),
        ("- " * 40_000, f"nested deeper than {DEEPEST}"),
        ("x" * (LONGEST + 1), "longer than"),
        ("!!python/object/apply:os.system [ls]", "uses the tag"),
        ("!!timestamp 2020-01-01", "uses the tag"),
        ("!!binary aGk=", "uses the tag"),
        ("!!int x", "invalid literal"),
        ("a: 1\na: 2", "'a' a second time"),
        ("{[1]: 2}", "as a key"),
        ("[1", "line 1, column 3"),
        ("a: b: c", "mapping values"),
        ("--- 1\n--- 2", "document"),
        ("\x00", "special characters"),
        ("9" * 5000, "integer string conversion"),
    ],
)
def test_what_is_refused_is_refused_at_once(text, why):
    started = time.process_time()
    with pytest.raises(ValueError, match=why) as told:
        parse_yaml(text)
    assert "\n" not in str(told.value)
    assert time.process_time() - started < 2


def test_files():
    assert read_yaml(io.BytesIO(b"\xef\xbb\xbfa: 1")) == {"a": 1}
    with pytest.raises(ValueError, match="decode"):
        read_yaml(io.BytesIO(b"\xff"))
    with pytest.raises(ValueError, match="longer than"):
        read_yaml(io.BytesIO(b"x" * (LONGEST + 1)))


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(ValueError):
        parse_yaml(text)
