"""Pickles that hold only plain data: numbers, text, containers and NumPy arrays. Anything else is refused unread.

A pickle is a program; `pickle.load` runs whatever it names. This reader resolves only the few names that plain data
needs, so files of other programs can be opened without trusting them.
"""

from __future__ import annotations

import collections
import mmap
import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from resight.errors import UsageError
from resight.regular_files import open_regular


def _reconstruct(kind: Any, shape: Any, code: Any) -> Any:
    # NumPy always writes an empty array here and fills it later: any other shape would be a request for memory
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise pickle.UnpicklingError(f"an array of shape {shape} was to be made from nothing")
    return np.empty(0, np.dtype(code))


def _frombuffer(buffer: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None) -> Any:
    array = np.frombuffer(buffer, dtype=dtype)
    if order == "K" and axis_order is not None:
        return array.reshape(shape, order="C").transpose(axis_order)
    return array.reshape(shape, order=order)


def _scalar(dtype: Any, data: Any = None) -> Any:
    if not isinstance(data, bytes | str) or np.dtype(dtype).hasobject:
        raise pickle.UnpicklingError("a NumPy number without its bytes")
    raw = data.encode("latin-1") if isinstance(data, str) else data
    return np.frombuffer(raw, np.dtype(dtype), count=1)[0]


def _encode(text: Any, encoding: Any = "latin-1") -> bytes:
    # how protocol 2 of Python 3 writes bytes
    return str(text).encode(str(encoding))


def _no_bytes() -> bytes:
    # protocols 0 to 2 write b"" as a call of bytes; with arguments that call could ask for any amount of memory
    return b""


_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC_MODULES = ("numpy.core.numeric", "numpy._core.numeric")
_BUILTIN_MODULES = ("builtins", "__builtin__")
_BUILTINS = {"set": set, "frozenset": frozenset, "list": list, "dict": dict, "complex": complex, "bytes": _no_bytes}
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(module, "_reconstruct"): _reconstruct for module in _ARRAY_MODULES},
    **{(module, "scalar"): _scalar for module in _ARRAY_MODULES},
    **{(module, "_frombuffer"): _frombuffer for module in _NUMERIC_MODULES},
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{(module, name): kind for module in _BUILTIN_MODULES for name, kind in _BUILTINS.items()},
}


# what the unpickler and NumPy raise on damaged input
_DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    MemoryError,
)


class _Unpickler(pickle.Unpickler):
    def __init__(self, source: Any, extra: Mapping[tuple[str, str], Callable[..., Any]]) -> None:
        super().__init__(source, encoding="latin-1")  # latin-1: arrays written by Python 2
        self._names = {**_ALLOWED, **extra}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which plain data does not need") from None


def load(path: str | os.PathLike[str], extra: Mapping[tuple[str, str], Callable[..., Any]] | None = None) -> Any:
    """The object in the pickle file `path`, read without running anything it names.

    `extra` maps further (module, name) pairs to callables that may be built. Raises `UsageError` when the file cannot
    be opened, is no pickle, is damaged, or holds anything but plain data.
    """
    try:
        with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as source:
            return _Unpickler(source, extra or {}).load()
    except OSError as error:
        raise UsageError(f"cannot open {os.fspath(path)}: {error.strerror}") from error
    except _DAMAGED as error:
        raise UsageError(f"cannot read {os.fspath(path)} as a pickle of plain data: {error}") from error
