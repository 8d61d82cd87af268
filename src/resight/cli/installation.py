"""What this installation of resight has and can write: what `resight doctor` says."""

from __future__ import annotations

import os
import platform
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from resight.evaluation.feature_cache import cache_folder
from resight.extras import EXTRAS
from resight.features.checkpoints.catalogue import models_folder
from resight.version import __version__

VARIABLES = (
    "RESIGHT_DATA",
    "RESIGHT_CACHE",
    "RESIGHT_MODELS",
    "RESIGHT_DEVICE",
    "NUMBA_CACHE_DIR",
    "OMP_NUM_THREADS",
    "NO_COLOR",
)
GOOD, WANTING, BAD = "ok", "note", "bad"


@dataclass(frozen=True)
class Fact:
    """One line of the report: `state` is ok, note (something optional is missing) or bad (something will fail)."""

    topic: str
    name: str
    value: str
    state: str = GOOD


def examine() -> list[Fact]:
    """Versions, extras, threads, BLAS, devices, writable folders and variables of this installation."""
    return [*_versions(), *_extras(), *_threads(), *_devices(), *_folders(), *_variables()]


def _versions() -> Iterator[Fact]:
    yield Fact("version", "resight", __version__)
    yield Fact("version", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for requirement in metadata.requires("resight") or ():
        if "extra ==" not in requirement:
            yield _package(re.split(r"[^A-Za-z0-9._-]", requirement)[0])


def _package(name: str) -> Fact:
    with suppress(metadata.PackageNotFoundError):
        return Fact("version", name, metadata.version(name))
    return Fact("version", name, "not installed: pip install --force-reinstall resight", BAD)


def _extras() -> Iterator[Fact]:
    from importlib.util import find_spec

    for package, extra in EXTRAS.items():
        there = find_spec(package) is not None
        value = "installed" if there else f"not installed: pip install 'resight[{extra}]'"
        yield Fact("extra", f"{extra}: {package}", value, GOOD if there else WANTING)


def _threads() -> Iterator[Fact]:
    import faiss  # loaded so that its BLAS is seen
    import numba
    from threadpoolctl import threadpool_info

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Fact("threads", "cores for this process", str(cores))
    yield Fact("threads", "numba", str(numba.config.NUMBA_NUM_THREADS))
    yield Fact("threads", "faiss", str(faiss.omp_get_max_threads()))
    for pool in threadpool_info():
        name = f"{pool['user_api']}: {Path(pool['filepath']).name.split('.so')[0]}"
        kind = " ".join(str(pool.get(key) or "") for key in ("version", "architecture")).strip()
        yield Fact("threads", name, f"{pool['num_threads']} threads {kind}".strip())


def _devices() -> Iterator[Fact]:
    from importlib.util import find_spec

    if find_spec("torch") is not None:
        import torch

        found = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        yield Fact("device", "torch", ", ".join(found) or "processor only")
    if find_spec("onnxruntime") is not None:
        import onnxruntime

        yield Fact("device", "onnxruntime", ", ".join(onnxruntime.get_available_providers()))


def _folders() -> Iterator[Fact]:
    kernels = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parents[1])
    compiled = "kernels compiled" if next(kernels.rglob("*.nbi"), None) else "the first search compiles kernels"
    yield Fact("threads", "compiled kernels", f"{kernels}: {compiled}")
    places = {"cache": cache_folder(), "models": models_folder(), "temporary files": Path(tempfile.gettempdir())}
    for name, folder in places.items():
        yield _folder(name, folder)


def _folder(name: str, folder: Path) -> Fact:
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if os.access(there, os.W_OK | os.X_OK):
        return Fact("folder", name, f"{folder} can be written")
    return Fact("folder", name, f"{folder} cannot be written", BAD)


def _variables() -> Iterator[Fact]:
    for name in VARIABLES:
        if name in os.environ:
            yield Fact("variable", name, os.environ[name])
