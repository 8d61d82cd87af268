"""Files that are mapped: tensors, and vectors that grow."""

import os

import numpy as np
import pytest

from resight.errors import ArrayError, CollectionError
from resight.store.mapped_vectors import MappedVectors, check_vectors
from resight.store.tensor_file import map_tensors, read_tensors, write_tensors

KIND = "test 1"
TENSORS = {
    "a": np.arange(12, dtype=np.float64).reshape(3, 4).T,  # in the order of Fortran
    "b": np.array([1, -1], np.int32),
    "c": np.empty((0, 5), np.float32),
    "d": np.array([True, False, True]),
    "e": np.array(3, np.int64),  # a number alone
}


def both(tensors, metadata):
    return tensors, metadata


@pytest.mark.parametrize("read", [read_tensors, map_tensors])
def test_tensors_are_those_that_were_written(tmp_path, read):
    write_tensors(tmp_path / "t", KIND, TENSORS, {"x": "y"})
    tensors, metadata = read(tmp_path / "t", KIND, both)
    assert metadata["x"] == "y"
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(tensors[name], tensor)
        assert tensors[name].dtype == tensor.dtype
        assert tensors[name].shape == tensor.shape


def test_a_map_is_private_to_its_reader(tmp_path):
    write_tensors(tmp_path / "t", KIND, TENSORS, {})
    map_tensors(tmp_path / "t", KIND, both)[0]["b"][0] = 9
    assert map_tensors(tmp_path / "t", KIND, both)[0]["b"].tolist() == [1, -1]


@pytest.mark.parametrize("size", [-1, 20, 0])
def test_tensors_that_were_cut_off_are_named(tmp_path, size):
    path = tmp_path / "tensors"
    write_tensors(path, KIND, TENSORS, {})
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)
    with pytest.raises(CollectionError, match="tensors is damaged"):
        map_tensors(path, KIND, both)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"[4,3]", b"[4,9]"), (b'"F64"', b'"X64"'), (b"[4,3]", b"[4,-3]"), (KIND.encode(), b"other")],
)
def test_headers_that_cannot_be_are_refused(tmp_path, old, new):
    path = tmp_path / "tensors"
    write_tensors(path, KIND, TENSORS, {})
    content = path.read_bytes()
    assert old in content
    grown = content.replace(old, new)
    length = int.from_bytes(content[:8], "little") + len(new) - len(old)
    path.write_bytes(length.to_bytes(8, "little") + grown[8:])
    with pytest.raises(CollectionError, match="build it again"):
        map_tensors(path, KIND, both)


def test_vectors_are_appended_whole_or_not_at_all(tmp_path):
    vectors = MappedVectors.create(tmp_path / "v", 3)
    vectors.append([np.ones((2, 3)), np.zeros((1, 3))])
    with pytest.raises(ArrayError, match="row 4 of vectors"):
        vectors.append([np.ones((1, 3)), np.full((1, 3), 1e6)])
    again = MappedVectors.open(tmp_path / "v")
    assert again.values.tolist() == vectors.values.tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert again.extent == vectors.extent
    assert again.extent.longest == pytest.approx(3**0.5)
    again.append([np.ones((1, 3))])  # over what the failed call left
    assert len(MappedVectors.open(tmp_path / "v")) == 4
    check_vectors(tmp_path / "v")


def test_damaged_vectors_are_named(tmp_path):
    path = tmp_path / "vectors"
    MappedVectors.create(path, 3).append([np.ones((5, 3))])
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    with pytest.raises(CollectionError, match="vectors is cut off: it holds 3 of 5 vectors"):
        MappedVectors.open(path)
    path.write_bytes(content[:-1] + b"\1")
    with pytest.raises(CollectionError, match=r"vectors is damaged \(its checksum is wrong"):
        check_vectors(path)
    path.write_bytes(content.replace(b'"count": 5', b'"count": 4'))
    with pytest.raises(CollectionError, match="its header is not what was written"):
        MappedVectors.open(path)
    path.write_bytes(b"")
    with pytest.raises(CollectionError, match="vectors is damaged"):
        MappedVectors.open(path)
