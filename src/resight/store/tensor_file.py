"""Arrays on disk as safetensors: no code in the file, sizes checked by the reader, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from resight.errors import ArrayError, CollectionError
from resight.regular_files import check_regular
from resight.store.folder import faults

T = TypeVar("T")
CRC = "crc32"
MOST_HEADER = 1 << 26  # bytes
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


def write_tensors(path: str | Path, kind: str, tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    """Write `tensors` beside `path`, then move the file there. Raises `CollectionError` when that cannot be done."""
    target = Path(path)
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}  # others are written in disorder
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    with faults("write", target):
        target.parent.mkdir(exist_ok=True)  # what can be built again may be deleted at any time
        try:
            partial.touch()
            mode = partial.stat().st_mode
            written = {"format": kind, **metadata}
            save_file(tensors, partial, {**written, CRC: str(_checksum(tensors, written))})
            partial.chmod(mode)  # safetensors closes its files to other users
            os.replace(partial, target)
        except SafetensorError as error:
            raise OSError(str(error)) from error  # it names the system's error in its text
        finally:
            partial.unlink(missing_ok=True)


def read_tensors(path: str | Path, kind: str, build: Callable[[dict[str, Any], dict[str, str]], T]) -> T:
    """Give `build` the tensors and metadata of a file of format `kind`, and return what it makes of them.

    Raises `CollectionError` when the file is missing, is damaged, is of another format, or when `build` refuses it with
    an `ArrayError`, `KeyError`, `TypeError` or `ValueError`.
    """
    try:
        check_regular(path)
        with safe_open(Path(path), "numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != kind:
                raise CollectionError(f"{path} holds {metadata.get('format')!r}, expected {kind!r}: build it again")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except OSError as error:
        raise CollectionError(f"{path} cannot be read: {error}") from error
    except SafetensorError as error:
        raise CollectionError(f"{path} is damaged ({error}): build it again") from error
    try:
        return build(tensors, metadata)
    except (ArrayError, KeyError, TypeError, ValueError) as error:
        raise CollectionError(f"{path} is damaged ({error}): build it again") from error


def map_tensors(path: str | Path, kind: str, build: Callable[[dict[str, Any], dict[str, str]], T]) -> T:
    """As `read_tensors`, but the arrays are maps of the file: what is looked at is read, and shared by processes.

    They may be written to, which changes the caller's copy alone. Raises as `read_tensors` does.
    """
    try:
        check_regular(path)
        tensors, metadata = _mapped(Path(path))
        if metadata.get("format") != kind:
            raise CollectionError(f"{path} holds {metadata.get('format')!r}, expected {kind!r}: build it again")
        return build(tensors, metadata)
    except OSError as error:
        raise CollectionError(f"{path} cannot be read: {error}") from error
    except (ArrayError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise CollectionError(f"{path} is damaged ({error}): build it again") from error


def _mapped(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Maps of all tensors of a safetensors file, and its metadata; every number in its header is checked."""
    with open(path, "rb") as file:
        held = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > min(held, MOST_HEADER):
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(length))
    metadata, tensors = header.pop("__metadata__", {}), {}
    for name, facts in header.items():
        dtype, shape, (first, last) = np.dtype(DTYPES[facts["dtype"]]), tuple(facts["shape"]), facts["data_offsets"]
        if not all(isinstance(n, int) and n >= 0 for n in (*shape, first)):
            raise ValueError(f"the shape of {name} cannot be")
        if last - first != dtype.itemsize * math.prod(shape):
            raise ValueError(f"the size of {name} is not that of its shape")
        if 8 + length + last > held:
            raise ValueError(f"it is cut off: it has {held} of {8 + length + last} bytes")
        tensors[name] = np.empty(shape, dtype)
        if last > first:  # "c": a private copy of each page that is written, since kernels are compiled for such arrays
            tensors[name] = np.asarray(np.memmap(path, dtype, "c", 8 + length + first, shape))
    return tensors, metadata


def check_tensors(path: str | Path) -> None:
    """Read a safetensors file whole. Raises `CollectionError` when it is damaged, or not what `write_tensors` wrote."""
    try:
        check_regular(path)
        with safe_open(Path(path), "numpy") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except OSError as error:
        raise CollectionError(f"{path} cannot be read: {error}") from error
    except (SafetensorError, TypeError, ValueError) as error:  # of a kind of number that numpy does not have
        raise CollectionError(f"{path} is damaged ({error})") from error
    if metadata.pop(CRC, None) != str(_checksum(tensors, metadata)):
        raise CollectionError(f"{path} is damaged (its checksum is wrong)")


def _checksum(tensors: dict[str, Any], metadata: dict[str, str]) -> int:
    """CRC-32 of everything in a file: what the tensors are called and are like, their bytes, and the metadata."""
    total = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        total = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), total)
        total = zlib.crc32(array.reshape(-1).view(np.uint8).data, total)
    return total
