"""Training data of Radenovic et al. (TPAMI 2019): retrieval-SfM-120k.pkl, retrieval-SfM-30k.pkl, and GL18."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resight import safe_pickle
from resight.errors import UsageError
from resight.training.data import Examples
from resight.types import Int64

NEEDED = ("cids", "cluster", "qidxs", "pidxs")


def read_sfm(path: Path, photos: Path | None = None, part: str = "train") -> Examples:
    """The `part` "train" or "val" of the file, whose photos lie in `photos`, by default beside it in `ims`.

    SfM: a photo "abc123456" lies at 56/34/12/abc123456 of that folder; GL18: at its own path, with or without .jpg.
    A query listed with several positives gives a pair with each. Raises `UsageError` for other content, rows that do
    not exist, and a pair of two clusters.
    """
    content = safe_pickle.load(path)
    held = content.get(part) if isinstance(content, Mapping) else None
    if not isinstance(held, Mapping) or any(key not in held for key in NEEDED):
        raise UsageError(f"{path} has no part {part} with {', '.join(NEEDED)}: give a file of retrieval-SfM or GL18")
    names = tuple(str(name) for name in held["cids"])
    if not names or len(held["qidxs"]) != len(held["pidxs"]):
        raise UsageError(f"{path}: part {part} has no photos, or qidxs and pidxs differ in length")
    clusters = np.unique(np.asarray(held["cluster"]), return_inverse=True)[1].astype(np.int64)
    if clusters.shape != (len(names),):
        raise UsageError(f"{path}: part {part} names {len(names)} photos and {clusters.size} clusters")
    pairs = np.concatenate(
        [_pairs(q, p, len(names), path) for q, p in zip(held["qidxs"], held["pidxs"], strict=True)]
        or [np.empty((0, 2), np.int64)]
    )
    strange = np.flatnonzero(clusters[pairs[:, 0]] != clusters[pairs[:, 1]])
    if len(strange):
        query, positive = (names[row] for row in pairs[strange[0]])
        raise UsageError(f"{path} pairs {query} with {positive}, which is of another cluster: it is damaged")
    folder = path.parent / "ims" if photos is None else photos
    return Examples(names, tuple(_file(folder, name) for name in names), clusters, pairs)


def _pairs(query: Any, positives: Any, count: int, path: Path) -> Int64:
    rows = np.asarray(positives).ravel()
    both = np.stack((np.full(len(rows), query), rows), axis=1)
    if both.dtype.kind not in "iu" or (both < 0).any() or (both >= count).any() or (both[:, 0] == both[:, 1]).any():
        shown = f"{query} and {str(positives)[:40]}"
        raise UsageError(f"{path} pairs the rows {shown}: two whole numbers below {count} are needed")
    return both.astype(np.int64)


def _file(folder: Path, name: str) -> str:
    if "/" in name or "\\" in name:
        place = Path(name)
        if place.is_absolute() or ".." in place.parts:
            raise UsageError(f"photo {name!r} lies outside the folder of photos: the file is not to be trusted")
        plain = folder / place
        return str(plain if plain.suffix else plain.with_name(f"{plain.name}.jpg"))
    return str(folder / name[-2:] / name[-4:-2] / name[-6:-4] / name)
