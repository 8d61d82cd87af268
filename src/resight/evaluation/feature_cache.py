"""Collections that evaluations keep between runs: one per benchmark and settings, made again when anything changes.

What photos show is extracted once for every version of their bytes, of the extracting program and of its parameters; a
collection that differs only in how it indexes starts from a copy of those features, and of the codebook where that is
the same too. The folder may be deleted any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resight.artifacts.files import LOCAL
from resight.collection.collection import Collection
from resight.collection.open import create_collection, open_collection
from resight.evaluation.benchmark import Benchmark
from resight.evaluation.sources import program_hash
from resight.index.codebook import Codebook
from resight.progress import Progress, silent
from resight.recipes.catalogue import Settings, settings_of, with_absolute_paths
from resight.store.folder import DERIVED, LOCK, faults
from resight.store.lock import write_lock
from resight.store.stamp import new_stamp, read_stamp, write_stamp

ENVIRONMENT = "RESIGHT_CACHE"
EXTRACTING = ("resight.collection.ingest", "resight.features.local.encoders")  # entry points: what they import counts
DESCRIBING = (
    "resight.features.networks.open",
    "resight.features.checkpoints.descriptor",
    "resight.features.global_descriptor",
)
INDEXING = ("resight.collection.update",)


def cache_folder() -> Path:
    """Where evaluations keep features: $RESIGHT_CACHE, else ~/.cache/resight."""
    return Path(os.environ.get(ENVIRONMENT) or Path.home() / ".cache" / "resight")


def cached_collection(
    folder: Path,
    benchmark: Benchmark,
    photos: Sequence[Path],
    recipe: str,
    parameters: Mapping[str, Any],
    progress: Progress = silent,
    *,
    codebooks: Mapping[str, Codebook] | None = None,
) -> Collection:
    """The collection of `photos` under `folder`, complete: made, continued or as it is. `codebooks`: as for
    `Collection.add`.

    Raises as `Collection.add` does, and `KeyboardInterrupt` when stopped; what was read until then is kept.
    """
    parameters = with_absolute_paths(parameters)
    settings = settings_of(recipe, parameters)
    path = _place(folder, benchmark, photos, settings, parameters, codebooks or {})
    if not path.exists():
        with faults("make", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        _make(path, settings, parameters)
    collection = open_collection(path)
    if collection.add(photos, codebooks=codebooks, progress=progress).interrupted:
        raise KeyboardInterrupt
    return collection


def _place(
    folder: Path,
    benchmark: Benchmark,
    photos: Sequence[Path],
    settings: Settings,
    parameters: Mapping[str, Any],
    codebooks: Mapping[str, Codebook],
) -> Path:
    names = [os.fspath(photo.absolute()) for photo in photos]
    modules = [f"resight.features.local.{kind.kind.module}" for kind in settings.kinds]  # imported by name alone
    extracted: list[Any] = [program_hash((*EXTRACTING, *modules))]
    extracted += [kind.encoder.fingerprint for kind in settings.kinds]
    if settings.descriptor is not None:
        extracted += [settings.descriptor.fingerprint, program_hash(DESCRIBING)]
    features = _key(benchmark.checksum, names, settings.recipe, extracted)
    given = {kind: codebook.fingerprint for kind, codebook in codebooks.items()}
    codebook = _key(
        [(kind.indexing.words, kind.indexing.bits) for kind in settings.kinds], program_hash(INDEXING), given
    )
    return folder / f"{benchmark.name}-{features}-{codebook}-{_key(dict(parameters))}.resight"


def _make(path: Path, settings: Settings, parameters: Mapping[str, Any]) -> None:
    """An empty collection, or one with the features, and where possible the codebook, of one that shares them."""
    same_codebook = path.name.rpartition("-")[0]
    same_features = same_codebook.rpartition("-")[0]
    known = _newest(path.parent, same_codebook) or _newest(path.parent, same_features)
    if known is None:
        create_collection(path, settings.recipe, parameters)
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    kept = [one.reduction for one in LOCAL.values()]
    if known.name.startswith(same_codebook):
        kept += [one.codebook for one in LOCAL.values()]
    try:
        with write_lock(known, "copy features"), faults("copy", known):
            shutil.copytree(known, partial, ignore=shutil.ignore_patterns(DERIVED, LOCK))
            (partial / DERIVED).mkdir()
            for artifact in kept:
                if artifact.exists(known):
                    shutil.copy(artifact.path(known), artifact.path(partial))
        models = read_stamp(known).models  # the same, since the features are
        write_stamp(partial, new_stamp(settings.recipe, parameters, models))
        with faults("make", path):
            partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _newest(folder: Path, start: str) -> Path | None:
    """The collection that was changed last of those whose name begins like that."""
    found = [path for path in folder.iterdir() if path.name.startswith(f"{start}-")]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:12]
