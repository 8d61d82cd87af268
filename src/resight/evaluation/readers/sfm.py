"""Validation data of retrieval-SfM (Radenovic et al., TPAMI 2019) and files of the same form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resight import safe_pickle
from resight.errors import UsageError
from resight.evaluation.benchmark import Annotation, BenchmarkQuery
from resight.evaluation.readers.revisited import box_of, judgement
from resight.types import Int64


def tuples_reader(nested: bool) -> Callable[[Path], Annotation]:
    """Reader of the `val` part of `retrieval-SfM-120k.pkl` or, with `nested` false, of `db_gl18.pkl`.

    The part holds `cids` (image names), `cluster` (one per image), `qidxs` and `pidxs` (query rows and a positive row,
    or a list of them, for each), and in `db_gl18.pkl` `bbxs`. A query that is listed several times is one query with
    all its positives. Junk is the query itself and the other images of its cluster, which may or may not show the same
    thing. With `nested`, files lie at `cid[-2:]/cid[-4:-2]/cid[-6:-4]/cid`. Raises `UsageError` for other content.
    """

    def read(path: Path) -> Annotation:
        content = safe_pickle.load(path)
        part = content.get("val") if isinstance(content, Mapping) else None
        keys = ("cids", "cluster", "qidxs", "pidxs")
        if not isinstance(part, Mapping) or any(key not in part for key in keys):
            raise UsageError(f"{path} has no part val with {', '.join(keys)}")
        images = tuple(_file(str(cid)) if nested else str(cid) for cid in part["cids"])
        cluster = np.unique(np.asarray(part["cluster"]), return_inverse=True)[1]
        if len(cluster) != len(images) or len(part["qidxs"]) != len(part["pidxs"]):
            raise UsageError(f"{path}: cids and cluster, or qidxs and pidxs, differ in length")
        positives: dict[int, list[Int64]] = {}
        for q, positive in zip(part["qidxs"], part["pidxs"], strict=True):
            row = int(_rows([q], path, len(images))[0])
            positives.setdefault(row, []).append(_rows(positive, path, len(images)))
        queries = tuple(BenchmarkQuery(f"{row}", images[row], row=row) for row in positives)
        judged = tuple(_judged(row, np.unique(np.concatenate(rows)), cluster) for row, rows in positives.items())
        return Annotation(images, queries, judged)

    return read


def read_sfm_eccv(path: Path) -> Annotation:
    """Read `retrieval-SfM-120k-val-eccv2020.pkl`, the validation set of HOW (Tolias et al., ECCV 2020).

    A dict with `cids`, `qidx` (query rows) and `gnd` (per query `ok`, `junk`, as in the revisited files). The query
    itself becomes junk. Raises `UsageError` for other content.
    """
    content = safe_pickle.load(path)
    if not isinstance(content, Mapping) or any(key not in content for key in ("cids", "qidx", "gnd")):
        raise UsageError(f"{path} does not hold cids, qidx and gnd")
    images = tuple(_file(str(cid)) for cid in content["cids"])
    rows, entries = _rows(content["qidx"], path, len(images)), content["gnd"]
    if len(rows) != len(entries):
        raise UsageError(f"{path} names {len(rows)} queries and judges {len(entries)}")
    judgements = []
    for q, (row, entry) in enumerate(zip(rows, entries, strict=True)):
        judged = judgement(entry, path, q)
        judgements.append({**judged, "junk": np.union1d(judged["junk"], [row])})
    queries = tuple(
        BenchmarkQuery(f"{row}", images[row], box_of(entry.get("bbx"), path, q), int(row))
        for q, (row, entry) in enumerate(zip(rows, entries, strict=True))
    )
    return Annotation(images, queries, tuple(judgements))


def _judged(row: int, positives: Int64, cluster: Int64) -> dict[str, Int64]:
    mates = np.flatnonzero(cluster == cluster[row])
    return {"ok": positives, "junk": np.setdiff1d(mates, positives)}


def _rows(values: Any, path: Path, images: int) -> Int64:
    rows = np.asarray(values).ravel()
    if rows.dtype.kind not in "iu" or ((rows < 0) | (rows >= images)).any():
        raise UsageError(f"{path} names rows {str(values)[:60]}: whole numbers below {images} are needed")
    return rows.astype(np.int64)


def _file(cid: str) -> str:
    return f"{cid[-2:]}/{cid[-4:-2]}/{cid[-6:-4]}/{cid}"
