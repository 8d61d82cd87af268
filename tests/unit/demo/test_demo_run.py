"""What the demo says of its results."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from resight.demo.run import DemoQuery


def query(matches: str, right: str) -> DemoQuery:
    results = tuple(SimpleNamespace(match=letter == "m") for letter in matches)
    return DemoQuery(SimpleNamespace(results=results), tuple(letter == "r" for letter in right), right.count("r"), 1.0)


@pytest.mark.parametrize(
    ("matches", "right", "verdicts", "wrong"),
    [
        ("mm..", "rr..", [True, True, None, None], 0),  # what follows costs nothing
        ("m...", "r.r.", [True, False, True, None], 0),  # a photo before a right one does
        ("mm.", "r..", [True, False, None], 1),
        ("m..", "...", [False, None, None], 1),  # a photo without partner
    ],
)
def test_only_what_costs_something_is_called_wrong(matches, right, verdicts, wrong) -> None:
    asked = query(matches, right)
    assert asked.verdicts() == verdicts
    assert asked.wrong_matches == wrong
