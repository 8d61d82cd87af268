"""Filters, orders and counts against plain loops."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.errors import UsageError
from resight.serving.photo_list import Filter, PhotoList, cursor_of, read_cursor

FOLDERS = ("", "rome", "rome/old", "romeo")
TIMES = ("", "2019-05-31T18:03:59", "2020-01-01T00:00:00", "2021-12-31T23:59:59")


def listed(count, seed=0):
    rng = np.random.default_rng(seed)
    folders = [FOLDERS[k] for k in rng.integers(0, len(FOLDERS), count)]
    return PhotoList(
        [f"{folder}/{n:06d}.jpg".lstrip("/") for n, folder in enumerate(folders)],
        np.arange(count),
        rng.integers(100, 6000, count).astype(np.int32),
        rng.integers(100, 6000, count).astype(np.int32),
        [TIMES[k] for k in rng.integers(0, len(TIMES), count)],
        [f"{k:064x}" for k in rng.integers(0, max(count - 2, 1), count)],
        [["x"] if k else [] for k in rng.integers(0, 2, count)],
    )


def fits(photos, place, wanted):
    folder, taken = photos.folders[place], photos.taken[place]
    side = max(photos.widths[place], photos.heights[place])
    return (
        (
            wanted.folder is None
            or wanted.folder == ""
            or folder == wanted.folder
            or folder.startswith(f"{wanted.folder}/")
        )
        and (wanted.from_ is None or (taken != "" and taken >= wanted.from_))
        and (wanted.to is None or (taken != "" and taken < wanted.to))
        and (wanted.tag is None or wanted.tag in photos.tags[place])
        and (wanted.min_side is None or side >= wanted.min_side)
        and (wanted.max_side is None or side <= wanted.max_side)
    )


filters = st.builds(
    Filter,
    st.sampled_from([None, *FOLDERS, "none"]),
    st.sampled_from([None, "2020", "2019-05-31T18:03:59"]),
    st.sampled_from([None, "2020", "2021-12-31T23:59:59"]),
    st.sampled_from([None, "x", "y"]),
    st.sampled_from([None, 3000]),
    st.sampled_from([None, 5000]),
)


@given(filters, st.integers(0, 40))
def test_filters_are_those_of_a_plain_loop(wanted, count):
    photos = listed(count)
    expected = [place for place in range(count) if fits(photos, place, wanted)]
    assert np.flatnonzero(photos.fitting(wanted)).tolist() == expected
    places, total = photos.page(wanted, "name", 0, 1000)
    assert (total, [photos.ids[p] for p in places]) == (len(expected), sorted(photos.ids[p] for p in expected))
    facets = photos.facets(wanted)
    for what in ("folders", "months", "sizes"):
        assert sum(n for _, n in facets[what]) == len(expected)


def test_time_comes_newest_first_and_undated_last():
    photos = listed(60)
    taken = [photos.taken[place] for place in photos.page(Filter(), "time", 0, 60)[0]]
    dated = [one for one in taken if one]
    assert dated == sorted(dated, reverse=True)
    assert taken == dated + [""] * (60 - len(dated))


def test_a_hundred_thousand_photos_are_paged_and_counted_in_no_time():
    photos = listed(100_000)
    _ = photos.orders, photos.fitting(Filter(folder="rome"))
    started = time.process_time()
    places, total = photos.page(Filter(folder="rome", from_="2020"), "time", 20_000, 100)
    photos.facets(Filter(tag="x"))
    assert len(places) == 100
    assert total > 20_100
    assert time.process_time() - started < 3  # some 0.15 s; a loop over table rows takes far longer


def test_cursors_are_those_that_were_given():
    assert read_cursor(cursor_of(250)) == 250
    assert read_cursor(None) == 0
    for cursor in ("", "x", "eyJhZnRlciI6IC0xfQ", cursor_of(3) + "=", "ÿ", cursor_of(10**50)):
        with pytest.raises(UsageError, match="cursor"):
            read_cursor(cursor)
