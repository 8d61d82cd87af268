"""Arrays on disk as safetensors: no code in the file, sizes checked by the reader, written whole or not at all."""

from __future__ import annotations

import json
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


def write_tensors(path: str | Path, kind: str, tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    """Write `tensors` beside `path`, then move the file there. Raises `CollectionError` when that cannot be done."""
    target = Path(path)
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
