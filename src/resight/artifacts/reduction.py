"""The reduction of local descriptors that a collection learnt from its first photos: fixed from then on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resight.artifacts import files
from resight.errors import CollectionError
from resight.features.local.reduction import FORMAT, Reduction
from resight.store.tensor_file import read_tensors, write_tensors
from resight.store.writer import Writer


def save_reduction(writer: Writer, key: str, reduction: Reduction) -> None:
    """Keep it, in a file that the setting `reduction` of another collection can name."""
    tensors = {"weight": reduction.weight, "bias": reduction.bias}
    path = files.place(writer, files.LOCAL[key].reduction)
    write_tensors(path, FORMAT, tensors, {"sha256": reduction.fingerprint})


def load_reduction(folder: Path, key: str, fingerprint: str) -> Reduction:
    """The reduction with that fingerprint. Raises `CollectionError` when it is gone, damaged, or another one."""
    artifact = files.LOCAL[key].reduction
    found = files.read(artifact, folder, lambda path: read_tensors(path, FORMAT, _build))
    if found is None or found.fingerprint != fingerprint:
        what = "is gone" if found is None else "is not the one that its photos were described with"
        raise CollectionError(
            f"{artifact.path(folder)} {what}: put it back from a copy, or index the photos into a new collection"
        )
    return found


def _build(tensors: dict[str, Any], metadata: dict[str, str]) -> Reduction:
    found = Reduction(tensors["weight"], tensors["bias"])
    if metadata["sha256"] != found.fingerprint:
        raise ValueError("its checksum is wrong")
    return found
