"""resight.images.files: text for every name."""

from __future__ import annotations

import os

import pytest

from resight.errors import UnreadableFile
from resight.images.files import as_unicode, open_regular, shown


def test_valid_names_stay_as_they_are() -> None:
    assert as_unicode("50% é 🏛\n.jpg") == "50% é 🏛\n.jpg"


def test_undecodable_bytes_are_escaped_and_the_escape_with_them() -> None:
    assert as_unicode(os.fsdecode(b"a%\xff\xc3\xa9.jpg")) == "a%25%FFé.jpg"
    assert as_unicode("\ud800") == "%ED%A0%80"


def test_messages_hold_no_control_characters() -> None:
    assert shown("a\nb\x1b[31m\u2028.jpg") == "a%0Ab%1B[31m%E2%80%A8.jpg"


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "x" * 5000])
def test_impossible_paths_are_typed_errors(path: str) -> None:
    with pytest.raises(UnreadableFile):
        open_regular(path)
