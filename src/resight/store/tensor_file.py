"""Arrays on disk as safetensors: no code in the file, sizes checked by the reader, written whole or not at all."""

from __future__ import annotations

import json
import mmap
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
DTYPES = {  # types of tensors that are mapped
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


def write_tensors(path: str | Path, kind: str, tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    """Write `tensors` beside `path`, then move the file there. Raises `CollectionError` when that cannot be done."""
    target = Path(path)
    tensors = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}  # else in disorder
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


def read_tensors(
    path: str | Path, kind: str | tuple[str, ...], build: Callable[[dict[str, Any], dict[str, str]], T]
) -> T:
    """Give `build` the tensors and metadata of a file of format `kind`, or one of them, and return what it makes.

    Raises `CollectionError` when the file is missing, is damaged, is of another format, or when `build` refuses it with
    an `ArrayError`, `KeyError`, `TypeError` or `ValueError`.
    """
    try:
        check_regular(path)
        with safe_open(Path(path), "numpy") as file:
            metadata = _metadata(path, file, kind)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except OSError as error:
        raise CollectionError(f"{path} cannot be read: {error}") from error
    except SafetensorError as error:
        raise CollectionError(f"{path} is damaged ({error}): build it again") from error
    return _built(path, build, tensors, metadata)


def map_tensors(path: str | Path, kind: str, build: Callable[[dict[str, Any], dict[str, str]], T]) -> T:
    """As `read_tensors`, but the tensors are parts of the file, mapped into memory: nothing is read yet, and every
    process that maps the file shares its pages, until it writes to one, which changes its own copy alone. They live as
    long as an array of them does, also when the file is deleted.
    """
    try:
        size = check_regular(path)
        with safe_open(Path(path), "numpy") as file:  # it checks that the header describes the file to its last byte
            metadata = _metadata(path, file, kind)
        with open(path, "rb") as opened:
            mapped = mmap.mmap(opened.fileno(), size, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise CollectionError(f"{path} cannot be read: {error}") from error
    except SafetensorError as error:
        raise CollectionError(f"{path} is damaged ({error}): build it again") from error
    return _built(path, lambda *parts: build(_views(mapped), parts[1]), {}, metadata)


def _views(mapped: mmap.mmap) -> dict[str, Any]:
    """The tensors in a mapped file. Raises `ValueError` on types that are not mapped, and odd places."""
    first = 8 + int.from_bytes(mapped[:8], "little")
    described = json.loads(mapped[8:first])
    views = {}
    for name, one in described.items():
        if name == "__metadata__":
            continue
        if one["dtype"] not in DTYPES:
            raise ValueError(f"tensor {name} has type {one['dtype']}, which is not mapped")
        kind, (start, end) = np.dtype(DTYPES[one["dtype"]]), one["data_offsets"]
        if (first + start) % kind.itemsize:
            raise ValueError(f"tensor {name} does not start at a multiple of its numbers")
        flat = np.frombuffer(mapped, kind, (end - start) // kind.itemsize, first + start)
        views[name] = flat.reshape(one["shape"])
    return views


def _metadata(path: str | Path, file: Any, kind: str | tuple[str, ...]) -> dict[str, str]:
    metadata: dict[str, str] = file.metadata() or {}
    kinds = (kind,) if isinstance(kind, str) else kind
    if metadata.get("format") not in kinds:
        raise CollectionError(f"{path} holds {metadata.get('format')!r}, expected {kinds[0]!r}: build it again")
    return metadata


def _built(
    path: str | Path,
    build: Callable[[dict[str, Any], dict[str, str]], T],
    tensors: dict[str, Any],
    metadata: dict[str, str],
) -> T:
    try:
        return build(tensors, metadata)
    except (ArrayError, KeyError, TypeError, ValueError) as error:
        raise CollectionError(f"{path} is damaged ({error}): build it again") from error


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
