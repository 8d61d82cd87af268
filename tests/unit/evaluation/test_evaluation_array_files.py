"""Files of descriptors that lie about what they hold, or point to other files."""

import io
import os
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import scipy.io

from resight.errors import UsageError
from resight.evaluation import array_files
from resight.evaluation.feature_files import read_features
from resight.evaluation.list_files import read_lists
from resight.evaluation.streaming import stream_vectors

X = np.eye(4, 8, dtype=np.float32)


def lying_npy(shape: str = "(1000000000000, 8)") -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + X.tobytes()


def refused(path: Path, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_features(path)
    if path.suffix in (".npy", ".h5", ".parquet"):
        with pytest.raises(UsageError):
            list(stream_vectors(path, 8))


@pytest.mark.parametrize("shape", ["(1000000000000, 8)", "(-1, 8)", "(0, 100000000000)", "(4294967296, 4294967296)"])
def test_npy_header_that_announces_more_than_the_file_holds(tmp_path: Path, shape: str) -> None:
    (tmp_path / "x.npy").write_bytes(lying_npy(shape))
    refused(tmp_path / "x.npy", "claim to hold")
    with pytest.raises(UsageError, match="claim to hold"):
        read_lists(str(tmp_path / "x.npy"), 5, 5)


def test_npy_of_objects(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], object))
    refused(tmp_path / "x.npy", "Python objects")


def test_npz_that_is_no_zip(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    refused(tmp_path / "x.npz", "no zip archive")
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 nothing else")
    refused(tmp_path / "x.npz", "no zip archive")


def test_npz_member_that_announces_more_than_it_holds(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", lying_npy())
    refused(tmp_path / "x.npz", "claim to hold")


def test_npz_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_files, "LARGEST_UNPACKED", 1 << 16)
    np.savez_compressed(tmp_path / "x.npz", X=np.zeros((1 << 14, 8)))
    refused(tmp_path / "x.npz", "claim to hold")
    with zipfile.ZipFile(tmp_path / "y.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("X.npy", lying_npy("(4, 8)"))
    refused(tmp_path / "y.npz", "packed in a way")


def test_h5_links_to_other_files(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["X"] = X
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["X"] = h5py.ExternalLink("secret.h5", "X")
    refused(tmp_path / "x.h5", "is a link")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["inner"] = h5py.ExternalLink("secret.h5", "/")
        file["X"] = h5py.SoftLink("/inner/X")
    refused(tmp_path / "y.h5", "is a link")


def test_h5_arrays_in_other_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(X.tobytes())
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("X", X.shape, "f4", external=[(str(tmp_path / "secret"), 0, X.nbytes)])
    refused(tmp_path / "x.h5", "other files")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["X"] = X
    layout = h5py.VirtualLayout(X.shape, "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "X", X.shape)
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file.create_virtual_dataset("X", layout)
    refused(tmp_path / "y.h5", "other files")


def test_h5_shape_that_the_file_cannot_hold(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("X", (10**12, 8), "f4", chunks=(1024, 8))  # nothing of it is ever written
    refused(tmp_path / "x.h5", "claim to hold")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file.create_group("X")
    refused(tmp_path / "y.h5", "no array")
    (tmp_path / "z.h5").write_bytes((tmp_path / "x.h5").read_bytes()[:700])
    refused(tmp_path / "z.h5", "cannot read")


def test_mat_of_other_things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"X": {"a": 1}})
    refused(tmp_path / "x.mat", "of class struct")
    monkeypatch.setattr(array_files, "LARGEST_UNPACKED", 1 << 16)
    scipy.io.savemat(tmp_path / "y.mat", {"X": np.zeros((1 << 14, 8))}, do_compression=True)
    refused(tmp_path / "y.mat", "claim to hold")


def test_parquet_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_files, "LARGEST_UNPACKED", 1 << 16)
    vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.zeros(1 << 17, np.float32)), 8)
    pyarrow.parquet.write_table(pyarrow.table({"vector": vectors}), tmp_path / "x.parquet")
    with pytest.raises(UsageError, match="claim to hold"):
        read_features(tmp_path / "x.parquet")


@pytest.mark.parametrize("suffix", ["npy", "npz", "mat", "h5", "pkl", "parquet"])
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    refused(tmp_path / f"pipe.{suffix}", "pipe, socket or device")
    (tmp_path / f"folder.{suffix}").mkdir()
    refused(tmp_path / f"folder.{suffix}", "folder")


@pytest.mark.parametrize("suffix", ["npy", "npz", "mat", "h5", "pkl", "parquet"])
def test_empty_files(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"x.{suffix}").write_bytes(b"")
    refused(tmp_path / f"x.{suffix}", "cannot read|no zip")


def test_a_cut_or_changed_npz_never_ends_in_a_traceback(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, X=X, Q=X)
    whole = stream.getvalue()
    rng = np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(whole)
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        (tmp_path / "x.npz").write_bytes(bytes(data))
        try:
            read_features(tmp_path / "x.npz", rows=4)
        except UsageError:
            continue
