import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from resight import safe_pickle
from resight.errors import UsageError

PLAIN = {
    "numbers": [1, 2.5, True, None, 3 + 4j, 10**30],
    "text": ("name", b"bytes", b""),
    "sets": [{1, 2}, frozenset("ab")],
    "ordered": OrderedDict(a=1),
    "scalar": np.float32(3.5),
}
ARRAYS = {
    "rows": np.arange(6).reshape(2, 3),
    "columns": np.asfortranarray(np.ones((2, 3), np.float32)),
    "permuted": np.arange(12).reshape(2, 3, 2).transpose(2, 0, 1),
    "empty": np.zeros((0, 4)),
    "names": np.array(["a", "bc"]),
    "objects": np.array([[1, 2], None], dtype=object),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps({**PLAIN, **ARRAYS}, protocol=protocol))
    content = safe_pickle.load(path)
    assert {key: content[key] for key in PLAIN} == PLAIN
    for key, array in ARRAYS.items():
        assert np.array_equal(content[key], array), key
        assert content[key].dtype == array.dtype


def test_arrays_written_by_python_2(tmp_path: Path) -> None:
    # protocol 2 as Python 2 wrote it: the bytes of the array are a str
    stream = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
        b"(K\x01K\x02\x85cnumpy\ndtype\nq\x04U\x02u1K\x00K\x01\x87Rq\x05(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff"
        b"\xffK\x00tb\x89U\x02\x07\xfetb."
    )
    (tmp_path / "old.pkl").write_bytes(stream)
    assert safe_pickle.load(tmp_path / "old.pkl").tolist() == [7, 254]


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_is_refused_unrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.pkl").write_bytes(pickle.dumps([1, Evil()], protocol=protocol))
    with pytest.raises(UsageError, match=r"evil\.pkl as a pickle of plain data: it names \w+\.mkdir"):
        safe_pickle.load("evil.pkl")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "stream",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR.",
        b"cnumpy\nndarray.tofile\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(L100000000000L\nlS'd'\ntR.",
        b"cbuiltins\nbytes\n(L100000000000L\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O'\nI0\nI1\ntRS'abcdefgh'\ntR.",
    ],
)
def test_hostile_streams_are_refused(tmp_path: Path, stream: bytes) -> None:
    (tmp_path / "bad.pkl").write_bytes(stream)
    with pytest.raises(UsageError, match=r"cannot read .*bad\.pkl as a pickle of plain data"):
        safe_pickle.load(tmp_path / "bad.pkl")


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    whole = pickle.dumps({"a": np.arange(3), "b": ["x", 1]}, protocol=4)
    for end in range(len(whole)):
        (tmp_path / "cut.pkl").write_bytes(whole[:end])
        with pytest.raises(UsageError, match="cannot read"):
            safe_pickle.load(tmp_path / "cut.pkl")


def test_further_names_are_opt_in(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(io.StringIO, protocol=4))
    with pytest.raises(UsageError, match=r"names _?io\.StringIO"):
        safe_pickle.load(tmp_path / "a.pkl")
    extra = {("_io", "StringIO"): dict, ("io", "StringIO"): dict}
    assert safe_pickle.load(tmp_path / "a.pkl", extra) is dict


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot open .*none\.pkl: No such file"):
        safe_pickle.load(tmp_path / "none.pkl")
