from pathlib import Path

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.evaluation.feature_files import Features, write_features
from resight.evaluation.streaming import rank_blocks, stream_vectors

RNG = np.random.default_rng(0)
X = RNG.integers(-3, 4, (60, 4)).astype(np.float32)  # whole numbers: exact products, many ties
Q = RNG.integers(-3, 4, (7, 4)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 7, 60])
@pytest.mark.parametrize("k", [None, 1, 13, 100])
def test_blocks_rank_as_one_sort(size: int, k: int | None) -> None:
    similarity = Q @ X.T
    want = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    ranking = rank_blocks(Q, (X[start : start + size] for start in range(0, 60, size)), k)
    assert np.array_equal(ranking.ids, want)
    assert np.array_equal(ranking.scores, np.take_along_axis(similarity, want, axis=1))


def test_zero_and_minus_zero_tie_by_row() -> None:
    ranking = rank_blocks([[1.0]], [[[-0.0], [0.0], [-1.0], [1.0]]])
    assert ranking.ids.tolist() == [[3, 0, 1, 2]]


def test_bad_numbers_are_refused() -> None:
    bad = X.copy()
    bad[5] = np.nan
    with pytest.raises(ArrayError, match="row 25 of the database descriptors holds NaN or infinity"):
        rank_blocks(Q, [X[:20], bad])
    with pytest.raises(ArrayError, match="row 5 of the query descriptors holds NaN"):
        rank_blocks(bad, [X])
    with pytest.raises(ArrayError, match="no database rows"):
        rank_blocks(Q, [])
    with pytest.raises(ArrayError, match=r"the database descriptors has shape \(60, 3\), expected \(any, 4\)"):
        rank_blocks(Q, [X[:, :3]])
    with pytest.raises(UsageError, match="0 results"):
        rank_blocks(Q, [X], 0)


@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".h5"])
def test_streams_give_all_rows_in_order(tmp_path: Path, suffix: str) -> None:
    if suffix == ".h5":
        pytest.importorskip("h5py")
    path = tmp_path / f"x{suffix}"
    write_features(path, Features(X))
    blocks = list(stream_vectors(path, 4, block=16))
    assert [len(block) for block in blocks] == [16, 16, 16, 12]
    assert np.array_equal(np.concatenate(blocks), X)
    with pytest.raises(UsageError, match=r"must be 5 long|expected"):
        list(stream_vectors(path, 5))


def test_columns_are_streamed_as_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X.T.astype(np.float64))
    assert np.array_equal(np.concatenate(list(stream_vectors(tmp_path / "x.npy", 4, block=16))), X)


def test_files_that_cannot_be_streamed(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"no array")
    (tmp_path / "x.parquet").write_bytes(b"no table")
    for name in ("x.npy", "x.parquet", "none.npy"):
        with pytest.raises(UsageError, match="cannot read descriptors"):
            list(stream_vectors(tmp_path / name, 4))
    with pytest.raises(UsageError, match="not of a format for this"):
        stream_vectors(tmp_path / "x.npz", 4)
