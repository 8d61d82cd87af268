"""Separation models and unfinished trainings on disk, as safetensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from resight.errors import ArrayError, CollectionError, UsageError
from resight.graph.separation import SimilaritySeparation
from resight.store.tensor_file import read_tensors, write_tensors
from resight.types import Float32, KnnGraph

if TYPE_CHECKING:
    from resight.training.separation.fit import SeparationSettings

MODEL = "resight-separation-1"
CHECKPOINT = "resight-separation-training-1"
EpochFields = tuple[int, float, float, float | None, float]


@dataclass(eq=False)
class Progressed:
    """How far a training has come: fields of its epochs, beta and its error, the weights to return if it ended now, the
    epoch they are from, and how well that found hidden neighbours."""

    epochs: list[EpochFields]
    beta: tuple[float, float]
    kept: list[Tensor]
    best: int
    best_found: float


def save_separation(path: str | Path, model: SimilaritySeparation, facts: Mapping[str, Any]) -> None:
    """Write `model` without the collection it has embedded, and `facts`, which must be JSON.

    Raises `CollectionError` when the disk refuses.
    """
    tensors = {name: _array(parameter) for name, parameter in model.named_parameters()}
    shape = {"residual": model.residual, "precision": model.precision, "facts": dict(facts)}
    write_tensors(path, MODEL, tensors, {"model": json.dumps(shape, allow_nan=False)})


def load_separation(path: str | Path) -> tuple[SimilaritySeparation, dict[str, Any]]:
    """Read what `save_separation` wrote. Raises `CollectionError` when it is missing, damaged or something else."""
    return read_tensors(path, MODEL, _model)


def fingerprint(X: Float32, graph: KnnGraph, settings: SeparationSettings) -> str:
    """Hash of data and settings, but for the number of epochs, which may be raised to train on."""
    plain = {name: value for name, value in asdict(settings).items() if name not in ("epochs", "patience")}
    digest = hashlib.sha256(json.dumps([plain, *X.shape, *graph.ids.shape]).encode())
    digest.update(np.ascontiguousarray(X).data)
    digest.update(np.ascontiguousarray(graph.ids).data)
    return digest.hexdigest()


def write_checkpoint(
    path: Path, data: str, model: SimilaritySeparation, optimizer: torch.optim.Adam, state: Progressed
) -> None:
    """Write all that `read_checkpoint` needs to go on as if nothing had happened."""
    tensors: dict[str, Any] = {}
    for i, (parameter, kept) in enumerate(zip(model.parameters(), state.kept, strict=True)):
        held = optimizer.state[parameter]
        parts = {
            "now": parameter,
            "kept": kept,
            "step": held["step"],
            "mean": held["exp_avg"],
            "sq": held["exp_avg_sq"],
        }
        tensors |= {f"{name}.{i}": _array(part) for name, part in parts.items()}
    facts = {"data": data, "epochs": state.epochs, "beta": state.beta, "best": state.best, "found": state.best_found}
    # JSON has no infinity: without a watch nothing was ever looked for
    facts["found"] = None if np.isinf(state.best_found) else state.best_found
    write_tensors(path, CHECKPOINT, tensors, {"training": json.dumps(facts, allow_nan=False)})


def checkpoint_fits(path: Path, data: str) -> bool:
    """Whether `path` holds a training of this `data` that can go on; a damaged file does not."""
    try:
        return read_tensors(
            path, CHECKPOINT, lambda _, metadata: bool(json.loads(metadata["training"])["data"] == data)
        )
    except CollectionError:
        return False


def read_checkpoint(path: Path, data: str, model: SimilaritySeparation, optimizer: torch.optim.Adam) -> Progressed:
    """Put a training back where it was. Raises `UsageError` when it is of other data, `CollectionError` if damaged."""
    tensors, facts = read_tensors(
        path, CHECKPOINT, lambda tensors, metadata: (tensors, json.loads(metadata["training"]))
    )
    if facts["data"] != data:
        raise UsageError(
            f"{path} is of a training with other vectors, graph or settings: name another file, or delete it"
        )
    kept = []
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parts = {name: torch.from_numpy(tensors[f"{name}.{i}"]) for name in ("now", "kept", "step", "mean", "sq")}
            parameter.copy_(parts["now"])
            mean, square = parts["mean"].to(parameter.device), parts["sq"].to(parameter.device)
            optimizer.state[parameter] = {"step": parts["step"], "exp_avg": mean, "exp_avg_sq": square}
            kept.append(parts["kept"].to(parameter.device))
    found = -np.inf if facts["found"] is None else facts["found"]
    return Progressed([tuple(e) for e in facts["epochs"]], tuple(facts["beta"]), kept, facts["best"], found)


def _model(tensors: dict[str, Any], metadata: dict[str, str]) -> tuple[SimilaritySeparation, dict[str, Any]]:
    shape = json.loads(metadata["model"])
    layers, first = len(tensors) // 2, tensors["weights.0"]
    if first.ndim != 2 or first.shape[0] != first.shape[1]:
        raise ArrayError(f"its first weights have shape {first.shape}")
    model = SimilaritySeparation(len(first), layers, shape["residual"], precision=shape["precision"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if tensors[name].shape != tuple(parameter.shape):
                raise ArrayError(f"{name} has shape {tensors[name].shape}, expected {tuple(parameter.shape)}")
            if not np.isfinite(tensors[name]).all():
                raise ArrayError(f"{name} holds NaN or infinity")
            parameter.copy_(torch.from_numpy(tensors[name]))
    return model, dict(shape["facts"])


def _array(tensor: Tensor) -> Any:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
