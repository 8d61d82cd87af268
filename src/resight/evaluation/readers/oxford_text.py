"""Classic ground truth of Oxford 5k and Paris 6k: text files beside the images."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from resight.errors import UsageError
from resight.evaluation.benchmark import Annotation, BenchmarkQuery, names_found
from resight.evaluation.image_files import database_names, read_names
from resight.evaluation.readers.revisited import box_of
from resight.types import Int64


def read_oxford(folder: Path) -> Annotation:
    """Read `<name>_query.txt`, `_good.txt`, `_ok.txt`, `_junk.txt` anywhere below `folder` (Philbin et al., CVPR 2007).

    A query file holds one line: image name (Oxford puts `oxc1_` before it) and box x0 y0 x1 y1; the others one image
    name a line, without suffix. Positives are good and ok together. Images: `images.txt` or the image files below
    `folder`. The query photo is itself listed as good. Raises `UsageError` for missing files or unknown names.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder with *_query.txt files")
    images = database_names(folder)
    rows = {PurePosixPath(name).stem: row for row, name in enumerate(images)}
    files = sorted(folder.rglob("*_query.txt"))
    if not files:
        raise UsageError(f"{folder} holds no *_query.txt files")
    queries = tuple(_query(file, images, rows) for file in files)
    judgements = []
    for file in files:
        base = file.name.removesuffix("_query.txt")
        listed = {label: _listed(file.with_name(f"{base}_{label}.txt"), rows) for label in ("good", "ok", "junk")}
        judgements.append({"ok": np.concatenate([listed["good"], listed["ok"]]), "junk": listed["junk"]})
    return Annotation(images, queries, tuple(judgements))


def _query(file: Path, images: tuple[str, ...], rows: dict[str, int]) -> BenchmarkQuery:
    words = " ".join(read_names(file)).split()
    if len(words) != 5:
        raise UsageError(f"{file} does not hold an image name and a box x0 y0 x1 y1: {' '.join(words)[:80]}")
    row = int(names_found(str(file), [words[0].removeprefix("oxc1_")], rows)[0])
    return BenchmarkQuery(file.name.removesuffix("_query.txt"), images[row], box_of(words[1:], file, 0), row)


def _listed(file: Path, rows: dict[str, int]) -> Int64:
    return names_found(str(file), read_names(file), rows)
