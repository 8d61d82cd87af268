import pickle
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import scipy.io

from resight.errors import ArrayError, UsageError
from resight.evaluation.feature_files import Features, read_features, write_features

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 8)).astype(np.float32)
X /= np.linalg.norm(X, axis=1, keepdims=True)
Q = X[:5].copy()
LOCAL = Features(X, Q, np.arange(50) // 2, np.arange(5))


def need_h5py(suffix: str) -> None:
    if suffix in (".h5", ".hdf5"):
        pytest.importorskip("h5py")


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".h5", ".hdf5", ".pkl"])
def test_database_queries_and_images_survive(tmp_path: Path, suffix: str) -> None:
    need_h5py(suffix)
    write_features(tmp_path / f"a{suffix}", LOCAL)
    read = read_features(tmp_path / f"a{suffix}")
    for name in ("vectors", "queries", "images", "query_images"):
        assert np.array_equal(getattr(read, name), getattr(LOCAL, name)), name
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_queries_in_a_second_file(tmp_path: Path, suffix: str) -> None:
    write_features(tmp_path / f"x{suffix}", Features(X))
    write_features(tmp_path / f"q{suffix}", Features(Q))
    read = read_features(tmp_path / f"x{suffix}", tmp_path / f"q{suffix}")
    assert np.array_equal(read.vectors, X)
    assert np.array_equal(read.queries, Q)
    with pytest.raises(UsageError, match="have no place for"):
        write_features(tmp_path / f"a{suffix}", LOCAL)


def test_parquet_keeps_image_numbers(tmp_path: Path) -> None:
    write_features(tmp_path / "x.parquet", Features(X, images=np.arange(50)))
    assert np.array_equal(read_features(tmp_path / "x.parquet").images, np.arange(50))


def test_columns_are_told_from_rows_by_the_shared_side(tmp_path: Path) -> None:
    x, q = RNG.random((8, 50)), RNG.random((8, 5))  # not of unit length
    scipy.io.savemat(tmp_path / "a.mat", {"X": x, "Q": q})
    assert np.array_equal(read_features(tmp_path / "a.mat").vectors, x.T.astype(np.float32))
    np.savez(tmp_path / "a.npz", vecs=x.T, qvecs=q.T)
    assert np.array_equal(read_features(tmp_path / "a.npz").queries, q.T.astype(np.float32))


def test_columns_are_told_from_rows_by_length_count_and_ids(tmp_path: Path) -> None:
    np.save(tmp_path / "unit.npy", X.T)
    assert np.array_equal(read_features(tmp_path / "unit.npy").vectors, X)
    np.save(tmp_path / "plain.npy", X.T * 3)
    with pytest.raises(UsageError, match="whether the 8 rows or the 50 columns are the descriptors: give the number"):
        read_features(tmp_path / "plain.npy")
    assert read_features(tmp_path / "plain.npy", rows=50).vectors.shape == (50, 8)
    assert read_features(tmp_path / "plain.npy", rows=8).vectors.shape == (8, 50)
    with pytest.raises(UsageError, match=r"shape \(8, 50\) does not hold 9 descriptors"):
        read_features(tmp_path / "plain.npy", rows=9)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"vecs": X * 3, "imids": np.arange(50)}))
    assert read_features(tmp_path / "a.pkl").vectors.shape == (50, 8)


def test_a_square_of_unit_rows(tmp_path: Path) -> None:
    square = X[:8] * np.float32(1)
    scipy.io.savemat(tmp_path / "a.mat", {"X": square.T, "Q": square.T})
    assert np.array_equal(read_features(tmp_path / "a.mat").vectors, square)
    np.save(tmp_path / "eye.npy", np.eye(4))
    with pytest.raises(UsageError, match="cannot be told"):
        read_features(tmp_path / "eye.npy")


def test_doubles_and_halves_become_float32(tmp_path: Path) -> None:
    for dtype in (np.float64, np.float16):
        np.save(tmp_path / "a.npy", X.astype(dtype))
        assert read_features(tmp_path / "a.npy", rows=50).vectors.dtype == np.float32


def test_bad_descriptors_are_counted(tmp_path: Path) -> None:
    bad = X.copy()
    bad[[3, 7], 0] = np.nan, np.inf
    np.save(tmp_path / "a.npy", bad)
    with pytest.raises(ArrayError, match="row 3 of the database descriptors holds NaN or infinity"):
        read_features(tmp_path / "a.npy", rows=50)
    with pytest.raises(ArrayError, match=r"query descriptors has shape \(5, 7\), expected \(any, 8\)"):
        Features(X, Q[:, :7])
    with pytest.raises(ArrayError, match=r"Features\.images has shape \(49\,\), expected \(50\)"):
        Features(X, images=np.arange(49))
    with pytest.raises(ArrayError, match="hold no queries"):
        Features(X, query_images=np.arange(5))


def test_bad_files(tmp_path: Path) -> None:
    for name, said in (
        ("none.npy", "cannot read descriptors"),
        ("a.txt", r"not of a format for this: \.h5, \.hdf5, \.mat, \.npy"),
        ("junk.npy", "cannot read descriptors"),
        ("junk.npz", "cannot read descriptors"),
        ("junk.mat", "cannot read descriptors"),
        ("junk.parquet", "cannot read descriptors"),
        ("junk.pkl", "cannot read .* as a pickle"),
    ):
        if name.startswith("junk"):
            (tmp_path / name).write_bytes(b"\x93NUMPY junk that is long enough to be looked at by anyone" * 4)
        with pytest.raises(UsageError, match=said):
            read_features(tmp_path / name)


def test_wrong_content(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", features=X)
    with pytest.raises(UsageError, match="holds features, but no X or vecs"):
        read_features(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", np.arange(6).reshape(2, 3))
    with pytest.raises(UsageError, match="a 2-d array of floats is needed"):
        read_features(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(UsageError, match="cannot read descriptors"):
        read_features(tmp_path / "a.npy")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(UsageError, match="holds a list, not a dict"):
        read_features(tmp_path / "a.pkl")
    pyarrow.parquet.write_table(pyarrow.table({"id": [1]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="columns id, but no vector"):
        read_features(tmp_path / "a.parquet")
    for vectors in ([[1.0, 2.0], [1.0]], [[1.0], None]):
        pyarrow.parquet.write_table(pyarrow.table({"vector": vectors}), tmp_path / "a.parquet")
        with pytest.raises(UsageError, match="2 vectors are missing or of unequal length"):
            read_features(tmp_path / "a.parquet")


def test_hdf5_without_h5py_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match=r"pip install 'resight\[hdf5\]'"):
        write_features(tmp_path / "a.h5", Features(X))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_features(tmp_path / "a.npy", Features(X))
    with pytest.raises(UsageError, match="no place for Q"):
        write_features(tmp_path / "a.npy", Features(Q, Q))
    assert np.array_equal(read_features(tmp_path / "a.npy").vectors, X)
