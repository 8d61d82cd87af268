"""Arrays out of npy, npz, HDF5 and MATLAB files of others: nothing is allocated that the file cannot hold, and no other
file is read in its name. What is wrong is a `ValueError` or `OSError`; callers add which file it was.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import scipy.io
from numpy.typing import NDArray

from resight.extras import needed
from resight.regular_files import check_regular, open_regular

LARGEST_UNPACKED = 1 << 30  # bytes that any small file may unpack to
PACKED = 20  # times its own size that a larger one may: descriptors hardly shrink, numbers of images do
_ITEM_SIZES = {"single": 4, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4}
_ITEM_SIZES |= {"double": 8, "int64": 8, "uint64": 8}
DAMAGED: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    RuntimeError,
    MemoryError,
)
DAMAGED += (MemoryError, OverflowError, zipfile.BadZipFile, zlib.error)
"""What the readers of these formats raise on damaged files."""


def load_npy(path: Path, mapped: bool = False) -> NDArray[Any]:
    """The array of an npy file, `mapped`: left on disk. Its header must fit the size of the file."""
    with open_regular(path) as file:
        _check_npy(file, check_regular(path))
    found: NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    return found


def load_npz(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Those of the arrays `names` that an npz file holds."""
    arrays = {}
    with open_regular(path) as file:
        try:
            archive = zipfile.ZipFile(file)
        except zipfile.BadZipFile as error:
            raise ValueError("it is no zip archive of arrays") from error
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        wanted = {name: members[name] for name in names if name in members}
        _need_some(wanted, members)
        check_unpacked(sum(member.file_size for member in wanted.values()), check_regular(path))
        for name, member in wanted.items():
            with _unpacked(archive, member) as content:
                _check_npy(content, member.file_size)
            with _unpacked(archive, member) as content:
                arrays[name] = np.lib.format.read_array(content, allow_pickle=False)
    return arrays


def load_mat(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Those of the arrays `names` that a MATLAB file holds; one of version 7.3 is HDF5."""
    size = check_regular(path)
    try:
        held = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(path)}
    except NotImplementedError:
        return load_h5(path, names)
    found = {name: held[name] for name in names if name in held}
    _need_some(found, held)
    for name, (shape, kind) in found.items():
        if kind not in _ITEM_SIZES:
            raise ValueError(f"{name} is of class {kind}, not an array of numbers")
        check_unpacked(math.prod(shape) * _ITEM_SIZES[kind], size)
    return {name: array for name, array in scipy.io.loadmat(path, variable_names=list(found)).items() if name in found}


def load_h5(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Those of the arrays `names` that an HDF5 file holds itself."""
    with open_h5(path) as file:
        found = [name for name in names if name in file]
        _need_some(found, file)
        return {name: h5_array(file, name)[()] for name in found}


@contextmanager
def open_h5(path: Path, mode: Literal["r", "w"] = "r") -> Iterator[Any]:
    """An HDF5 file, opened. Raises `UsageError` when h5py is not installed."""
    with needed(f"{path} is HDF5 and"):
        import h5py
    if mode == "r":
        check_regular(path)
    with h5py.File(path, mode) as file:
        yield file


def h5_array(file: Any, name: str) -> Any:
    """An array of an open HDF5 file, not read yet; one that lies elsewhere, or cannot fit into the file, is refused."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link, through which other files could be read: store the array itself")
    array = file[name]
    if not isinstance(array, h5py.Dataset):
        raise ValueError(f"{name} is no array")
    if array.external or array.is_virtual:
        raise ValueError(f"{name} lies in other files: store the array itself")
    if array.dtype.hasobject:
        raise ValueError(f"{name} holds {array.dtype}, not numbers")
    check_unpacked(math.prod(array.shape or (0,)) * array.dtype.itemsize, check_regular(file.filename))
    return array


def check_unpacked(needed: int, size: int) -> None:
    """Raises `ValueError` when a file of `size` bytes asks for an amount of memory that no honest one does."""
    if needed > max(LARGEST_UNPACKED, PACKED * size):
        raise ValueError(f"its {size} bytes claim to hold arrays of {needed} bytes")


def _need_some(found: Iterable[str], held: Iterable[str]) -> None:
    if not list(found):
        raise ValueError(f"it holds {', '.join(held)[:200] or 'nothing'}, but no X or vecs")


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is packed in a way that NumPy does not write")
    return archive.open(member)


def _check_npy(file: IO[bytes], size: int) -> None:
    """Raises `ValueError` unless the array that a header announces fits into `size` bytes."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read: store numbers")
    if max(shape, default=0) > size or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"its {size} bytes claim to hold an array of shape {shape}")
