"""Ground truth of revisited and classic Oxford and Paris and of INSTRE: `gnd_*.pkl`, `gnd_*.mat`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from resight import safe_pickle
from resight.errors import UsageError
from resight.evaluation.benchmark import Annotation, BenchmarkQuery
from resight.regular_files import check_regular
from resight.types import Box, Int64

LABELS = ("easy", "hard", "ok", "junk")


def read_gnd(path: Path) -> Annotation:
    """Read a ground-truth file of the revisited toolkits (Radenovic et al., CVPR 2018).

    `.pkl`: a dict with `imlist`, `qimlist` (image names) and `gnd`, one dict per query with 0-based lists `easy`,
    `hard`, `junk` or `ok`, `junk`, and `bbx`, the corners x0, y0, x1, y1 of the query box. `.mat`: the same as cell
    and struct arrays with 1-based indices; INSTRE's has `ok` and `bbx` only; older files of Oxford and Paris name their
    queries by `qidx`, 1-based rows of `imlist` (recalled, not checked against a copy). Raises `UsageError` when the
    file does not hold this.
    """
    content = _read_mat(path) if path.suffix == ".mat" else safe_pickle.load(path)
    if not isinstance(content, Mapping) or not {"imlist", "qimlist", "gnd"} <= set(content):
        raise UsageError(f"{path} is not a ground-truth file: imlist, qimlist and gnd are needed")
    images = tuple(str(name) for name in content["imlist"])
    names = [str(name) for name in content["qimlist"]]
    entries = list(content["gnd"])
    if len(names) != len(entries) or not all(isinstance(entry, Mapping) for entry in entries):
        raise UsageError(f"{path} names {len(names)} queries and judges {len(entries)}")
    row = {name: index for index, name in enumerate(images)}
    queries = tuple(
        BenchmarkQuery(name, name, box_of(entry.get("bbx"), path, q), row.get(name))
        for q, (name, entry) in enumerate(zip(names, entries, strict=True))
    )
    return Annotation(images, queries, tuple(judgement(entry, path, q) for q, entry in enumerate(entries)))


def judgement(entry: Mapping[str, Any], path: Path, q: int) -> dict[str, Int64]:
    """The row arrays of one `gnd` entry; missing junk is an empty array. Raises `UsageError` for anything but rows."""
    judged = {label: _rows(entry[label], label, path, q) for label in LABELS if label in entry}
    judged.setdefault("junk", np.empty(0, np.int64))
    return judged


def box_of(corners: Any, path: Path, q: int) -> Box | None:
    """The box between two corners x0, y0, x1, y1, or None. Raises `UsageError` when they are no such thing."""
    if corners is None or np.size(corners) == 0:
        return None
    try:
        x0, y0, x1, y1 = (float(value) for value in np.ravel(corners))
        return Box(x0, y0, x1 - x0, y1 - y0)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: the box of query {q} is not four numbers x0, y0, x1, y1: {corners}") from error


def _rows(values: Any, label: str, path: Path, q: int) -> Int64:
    try:
        rows = np.asarray(values).ravel()
        exact = rows.astype(np.int64)
        if rows.size and (rows.dtype.kind not in "iuf" or (exact != rows).any()):
            raise ValueError("they are not whole numbers")
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: the {label} rows of query {q} cannot be read: {error}") from error
    return exact


def _read_mat(path: Path) -> dict[str, Any]:
    """The content of a .mat file in the form of the .pkl: names as strings, indices from 0."""
    try:
        check_regular(path)
        content = scipy.io.loadmat(path)
    except (OSError, ValueError, TypeError, NotImplementedError, scipy.io.matlab.MatReadError) as error:
        raise UsageError(f"cannot read {path} as a MATLAB file: {error}") from error
    if "imlist" not in content or "gnd" not in content or content["gnd"].dtype.names is None:
        raise UsageError(f"{path} is not a ground-truth file: imlist, qimlist and gnd are needed")
    images = _strings(content["imlist"])
    if "qimlist" in content:
        queries: Sequence[str] = _strings(content["qimlist"])
    else:
        rows = _rows(content.get("qidx", ()), "qidx", path, 0) - 1
        if ((rows < 0) | (rows >= len(images))).any():
            raise UsageError(f"{path}: qidx names rows outside its {len(images)} images")
        queries = [images[row] for row in rows]
    fields = content["gnd"].dtype.names
    gnd = [{name: entry[name] for name in fields} for entry in content["gnd"].ravel()]
    for q, entry in enumerate(gnd):
        for label in set(LABELS) & set(fields):
            entry[label] = _rows(entry[label], label, path, q) - 1
    return {"imlist": images, "qimlist": queries, "gnd": gnd}


def _strings(cells: Any) -> list[str]:
    return [str(np.ravel(cell)[0]) if np.size(cell) else "" for cell in np.ravel(cells)]
