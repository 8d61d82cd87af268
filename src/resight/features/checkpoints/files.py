"""Weight files to plain Python: safetensors, and both formats of `torch.save`, without running what they name.

torch's weights-only reader resolves a closed list of names. It is extended here, while a file is read, by the few that
published retrieval checkpoints need: numpy arrays, `defaultdict`, and scikit-learn's PCA, also under the name of a
module that scikit-learn has removed. A PCA becomes a plain record; scikit-learn is never imported.
"""

from __future__ import annotations

import collections
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from resight.errors import UsageError
from resight.features.checkpoints.trained import DESCRIPTION, FORMAT, described
from resight.regular_files import open_regular

TORCH_STARTS = (b"PK", b"\x80\x02")  # a zip archive; a pickle, before torch 1.6


class PcaRecord:
    """The attributes of a pickled scikit-learn PCA, and nothing that could run."""

    mean_: Any
    components_: Any
    explained_variance_: Any
    whiten: Any


def _reconstruct(kind: Any, shape: Any, _code: Any) -> Any:
    # numpy always writes an empty array here and fills it later: any other shape would be a request for memory
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise pickle.UnpicklingError(f"an array of shape {shape} was to be made from nothing")
    return np.empty(0, np.uint8)


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(data, bytes) or np.dtype(dtype).hasobject:
        raise pickle.UnpicklingError("a numpy number without its bytes")
    return np.frombuffer(data, np.dtype(dtype), count=1)[0]


def _mapping(*_factory: Any) -> collections.OrderedDict[Any, Any]:
    return collections.OrderedDict()  # torch's reader fills no other mapping


_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_ALLOWED: list[Any] = [
    (np.ndarray, "numpy.ndarray"),
    (np.dtype, "numpy.dtype"),
    *(type(np.dtype(code)) for code in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")),
    *((_reconstruct, f"{module}._reconstruct") for module in _MULTIARRAY),
    *((_scalar, f"{module}.scalar") for module in _MULTIARRAY),
    (_mapping, "collections.defaultdict"),
    (list, "builtins.list"),  # what published `defaultdict`s make
    *((PcaRecord, f"sklearn.decomposition.{module}.PCA") for module in ("pca", "_pca")),
]


def read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a weights file holds, on the CPU: a state dict, or a dict with one inside.

    Raises `UsageError` when it cannot be opened, is of another format, is damaged, or names anything but plain data.
    """
    place = Path(path).expanduser()
    try:
        with open_regular(place) as file:
            start = file.read(9)
        content = _read_torch(place) if start.startswith(TORCH_STARTS) else _read_safetensors(place, start)
    except OSError as error:
        raise UsageError(f"cannot open {place}: {error.strerror}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(f"{place} holds {type(content).__name__}, not a dict of weights by name")
    return content


def state_of(path: Path, content: dict[str, Any]) -> dict[str, Tensor]:
    """The weights in `content` by name, without the prefix `module.` that training on several GPUs leaves.

    Raises `UsageError` when there are none, and for the first that holds NaN or infinity, or claims more numbers than
    the file stores.
    """
    inner: Any = content
    for name in ("state_dict", "model_state", "model", "state_dict_ema"):
        if isinstance(content.get(name), dict):
            inner = content[name]
            break
    tensors = {str(key): value.detach() for key, value in inner.items() if isinstance(value, Tensor)}
    state = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    if not state:
        raise UsageError(f"{path} holds no weights: its entries are {', '.join(sorted(content)[:5]) or 'none'}")
    for name, tensor in state.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise UsageError(f"{path} is damaged: {name} has shape {tuple(tensor.shape)} and fewer numbers than that")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UsageError(f"{path} is damaged: {name} of shape {tuple(tensor.shape)} holds NaN or infinity")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def _read_torch(path: Path) -> Any:
    if tarfile.is_tarfile(path):
        raise UsageError(f"{path} is in the tar format of torch 0.1: load it there and save it again")
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(f"{path} is no checkpoint of plain data: {_reason(error)}") from error
    except (RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise UsageError(f"{path} is damaged: {_reason(error)}") from error


def _read_safetensors(path: Path, start: bytes) -> dict[str, Any]:
    if len(start) < 9 or start[8:9] != b"{":
        raise UsageError(f"{path} is no weights file: give one of torch (.pth, .pt, .pyth) or safetensors")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        weights: dict[str, Any] = safetensors.torch.load_file(path)
        if metadata.get("format") != FORMAT:
            return weights
        return {"state_dict": weights, DESCRIPTION: described(metadata.get(DESCRIPTION, ""), path)}
    except SafetensorError as error:
        raise UsageError(f"{path} is damaged: {error}") from error


def _reason(error: Exception) -> str:
    """The part of torch's message that speaks of the file, not of how to turn its guard off."""
    text = str(error)
    _, found, named = text.partition("GLOBAL ")
    if found:
        return f"it names {named.split()[0]}, which weights do not need"
    lines = [line for line in text.splitlines() if line and not line.startswith(("Weights only", "Please file"))]
    return lines[0].partition(". ")[0].strip() if lines else type(error).__name__
