"""Separation models on disk, as safetensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resight.errors import ArrayError
from resight.graph.separation import SimilaritySeparation
from resight.store.tensor_file import read_tensors, write_tensors
from resight.training.checkpoint import Checkpoint
from resight.training.separation.settings import SeparationSettings
from resight.types import Float32, KnnGraph

MODEL = "resight-separation-1"
CHECKPOINT_EVERY = 10


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


def checkpoint_of(path: str | Path, X: Float32, graph: KnnGraph, settings: SeparationSettings) -> Checkpoint:
    """The file `path` for a training of these data and settings, whatever the number of epochs and the patience, which
    may be raised to train on."""
    plain = {name: value for name, value in asdict(settings).items() if name not in ("epochs", "patience")}
    digest = hashlib.sha256(json.dumps([plain, *X.shape, *graph.ids.shape]).encode())
    digest.update(np.ascontiguousarray(X).data)
    digest.update(np.ascontiguousarray(graph.ids).data)
    return Checkpoint(Path(path), digest.hexdigest(), CHECKPOINT_EVERY)


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
