"""Examples of what matches: one dialect of CSV, and errors that say where it was left."""

from __future__ import annotations

import numpy as np
import pytest

from resight.errors import UsageError
from resight.fitting.examples import matching_pairs, read_groups, read_labels, read_pairs

IDS = {"a.jpg": 3, "b, c.jpg": 5, "d.jpg": 0, " e.jpg": 7}
ROWS = np.array([0, 3, 5, 7])


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "examples.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def told(pairs):
    return list(zip(pairs.left.tolist(), pairs.right.tolist(), pairs.matching.tolist(), strict=True))


def test_pairs(file):
    path = file('\ufeffnote,left,right,matching\nx,a.jpg,"b, c.jpg",1\n\ny,a.jpg , d.jpg,0\nz, e.jpg,d.jpg,1\n')
    assert told(read_pairs(path, IDS)) == [(3, 5, True), (3, 0, False), (7, 0, True)]
    assert told(read_pairs(file("right,left\na.jpg,d.jpg\r\n"), IDS)) == [(0, 3, True)]


def test_groups(file):
    path = file("id,group\na.jpg,church\nd.jpg, church\n e.jpg,boat\n")
    assert read_groups(path, IDS, ROWS).tolist() == [0, 0, -1, 1]
    assert read_groups(path, IDS, np.array([3, 5])).tolist() == [0, -1]


def test_labels(file, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.jpg").touch()
    path = file("photo,label\nsub/x.jpg,tower\n")
    assert read_labels(path) == ([str(tmp_path / "sub" / "x.jpg")], ["tower"])


HEADER = "first line must name the columns, "


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a.jpg,d.jpg\n", rf"examples\.csv starts with 'a\.jpg,d\.jpg': its {HEADER}left,right"),
        ("left\na.jpg\n", HEADER),
        ("left,right,right\na.jpg,d.jpg,d.jpg\n", HEADER),
        ("", rf"is empty: its {HEADER}left,right or left,right,matching"),
        ("left,right\n", "holds no line behind its header"),
        (
            "left,right\na.jpg,z.jpg\n",
            r"line 2 of .*examples\.csv names photo 'z\.jpg', which is not in",
        ),
        ("left,right,matching\na.jpg,d.jpg,yes\n", "line 2 of .* matching = 'yes': write 1 or 0"),
        ("left,right\na.jpg,d.jpg\nd.jpg\n", "line 3 of .* holds 1 values for the columns left,right"),
        ("left,right\na.jpg,d.jpg,x\n", "line 2 of .* holds 3 values"),
        ("left,right\na.jpg,a.jpg\n", r"line 2 of .* pairs 'a\.jpg' with itself"),
        (b"left,right\n\xff\xfe,a\n", "not a CSV file in UTF-8"),
        ("left,right\n" + "x" * 200_000 + ",a\n", "not a CSV file in UTF-8: field larger"),
    ],
)
def test_files_that_hold_no_pairs(file, content, why):
    with pytest.raises(UsageError, match=why):
        read_pairs(file(content), IDS)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("id,kind\na.jpg,1\n", rf"starts with 'id,kind': its {HEADER}id,group"),
        ("id,group\nz.jpg,1\n", "line 2 of .* names photo 'z.jpg'"),
        ("id,group\na.jpg,\n", "gives 'a.jpg' no group"),
        ("id,group\na.jpg,1\na.jpg,2\n", "line 3 of .* puts 'a.jpg' into group '2', an earlier line into '1'"),
    ],
)
def test_files_that_hold_no_groups(file, content, why):
    with pytest.raises(UsageError, match=why):
        read_groups(file(content), IDS, ROWS)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("x.jpg,3\n", rf"{HEADER}photo,label"),
        ("photo,label\nnowhere.jpg,3\n", "line 2 of .*: there is no photo .*nowhere.jpg"),
        ("photo,label\nexamples.csv,\n", "gives 'examples.csv' no label"),
    ],
)
def test_files_that_hold_no_labels(file, content, why):
    with pytest.raises(UsageError, match=why):
        read_labels(file(content))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match=r"none\.csv cannot be read: No such file"):
        read_pairs(tmp_path / "none.csv", IDS)
    with pytest.raises(UsageError, match="cannot be read: it is a folder"):
        read_groups(tmp_path, IDS, ROWS)


def test_matching_pairs_of_pairs_and_of_groups(file):
    path = file("left,right,matching\na.jpg,d.jpg,1\na.jpg, e.jpg,0\nd.jpg, e.jpg,1\n")
    left, right = matching_pairs(IDS, ROWS[:3], pairs=path)
    assert (left.tolist(), right.tolist()) == ([3], [0])
    path = file("id,group\na.jpg,x\nd.jpg,x\n e.jpg,y\n")
    left, right = matching_pairs(IDS, ROWS, groups=path)
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == {(0, 3), (3, 0)}
    path = file("id,group\na.jpg,x\n e.jpg,y\n")
    with pytest.raises(UsageError, match="names no two photos that match"):
        matching_pairs(IDS, ROWS, groups=path)
    for both in ({}, {"pairs": path, "groups": path}):
        with pytest.raises(UsageError, match="one file of examples"):
            matching_pairs(IDS, ROWS, **both)
