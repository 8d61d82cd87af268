from __future__ import annotations

import os
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import photo_of

from resight.errors import ArrayError, UsageError
from resight.store.records import IMAGES_SCHEMA, LOCAL_SCHEMA, escape_path, images_batch, local_batch


def test_photo_fills_every_column():
    photo = replace(photo_of(7, "a/ü.jpg"), taken_at="2020-01-02T03:04:05", tags=("sea", "2020"))
    (record,) = images_batch([photo]).to_pylist()
    assert record == {
        "row": 7,
        "id": "a/ü.jpg",
        "uri": "/photos/a/ü.jpg",
        "path_bytes": "/photos/a/ü.jpg".encode(),
        "root": "/photos",
        "sha256": f"{7:064x}",
        "size": 7,
        "mtime_ns": 7,
        "width": 4,
        "height": 3,
        "taken_at": "2020-01-02T03:04:05",
        "error_kind": None,
        "error": None,
        "tags": ["sea", "2020"],
    }
    assert images_batch([]).schema == IMAGES_SCHEMA


def test_names_that_are_not_utf8():
    path = os.fsdecode(b"/p/caf\xe9 100%.jpg")
    assert escape_path(path) == "/p/caf%E9 100%.jpg"
    (record,) = images_batch([replace(photo_of(0, "x"), path=path)]).to_pylist()
    assert record["uri"] == "/p/caf%E9 100%.jpg"
    assert os.fsdecode(record["path_bytes"]) == path


@given(st.binary())
def test_escaped_paths_are_text_and_utf8_stays(path):
    text = escape_path(path)
    text.encode()
    try:
        assert text == path.decode()
    except UnicodeDecodeError:
        assert "%" in text


@pytest.mark.parametrize("changes", [{"id": "a\udcff"}, {"size": 1 << 70}, {"width": 1 << 40}, {"sha256": 3}])
def test_values_that_do_not_fit(changes):
    with pytest.raises(UsageError, match="a photo cannot be stored"):
        images_batch([replace(photo_of(0, "x"), **changes)])


def test_local_batch():
    table = local_batch(np.array([3, 5]), [0, 2], [b"", b"ab"])
    assert table.schema.equals(LOCAL_SCHEMA, check_metadata=True)
    assert table.to_pylist()[1] == {"row": 5, "count": 2, "crc32": zlib.crc32(b"ab"), "packed": b"ab"}
    with pytest.raises(ArrayError, match="1 images, expected 2"):
        local_batch([1, 2], [1, 2], [b""])
    with pytest.raises(ArrayError, match="counts has shape"):
        local_batch([1, 2], [1], [b"", b""])
    with pytest.raises(ArrayError, match="counts hold -1"):
        local_batch([1], [-1], [b""])
