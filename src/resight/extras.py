"""Packages that only some users need, and the extra of resight that installs each.

`import resight` and everything on key points works without them; what needs one says so in a sentence.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from resight.errors import MissingExtra

EXTRAS: Mapping[str, str] = {
    "torch": "learned",
    "onnxruntime": "onnx",
    "transformers": "transformers",
    "tensorboard": "tensorboard",
    "h5py": "hdf5",
    "pillow_heif": "heif",
    "skimage": "demo",
    "fastapi": "serve",
    "uvicorn": "serve",
    "kornia": "kornia",
    "onnx": "train",
    "pycolmap": "exchange",
    "datasets": "exchange",
    "ray": "cluster",
    "pymilvus": "milvus",
    "boto3": "s3",
    "botocore": "s3",
}


@contextmanager
def needed(what: str) -> Iterator[None]:
    """Around imports of packages of an extra: `what` asks for them ("recipe ap-gem").

    Raises `MissingExtra`, with the command that installs it, in place of the `ModuleNotFoundError` of such a package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        sentence = remedy(what, error)
        if sentence is None:
            raise
        raise MissingExtra(sentence) from error


def remedy(what: str, error: ModuleNotFoundError) -> str | None:
    """The sentence for a package of an extra that `what` needs and that is not installed; None for other modules."""
    package = (error.name or "").split(".")[0]
    if package not in EXTRAS:
        return None
    return f"{what} needs {package}, which is not installed: pip install 'resight[{EXTRAS[package]}]'"


def load_when_asked(package: str, names: Sequence[str], *homes: str) -> Callable[[str], Any]:
    """A `__getattr__` for `package` that finds `names` in its modules `homes`, importing them at the first use alone:
    what else lies in the package can be used where their own imports, torch say, are not installed.
    """

    def find(name: str) -> Any:
        if name in names:
            for home in homes:
                module = importlib.import_module(f"{package}.{home}")
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
