"""ILIAS: 1000 objects, to be found among up to 100 million photos."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from resight.evaluation.benchmark import Annotation, BenchmarkQuery, refuse_names
from resight.evaluation.image_files import read_names


def read_ilias(folder: Path) -> Annotation:
    """Read the image queries of ILIAS (Kordopatis-Zilos et al., CVPR 2025).

    `folder/image_ids` holds `image_query_ids.txt` and `positive_ids.txt`: lines `object/query/Q000_00.jpg,...` and
    `object/pos/P000_00.jpg,scale,clutter`, of which the first field counts. Positives are the images of the query's
    object. Distractors (`distractor_ids.txt.gz`) are not read here: add them with `with_distractors`. Raises
    `UsageError` when the files are missing, or an object has queries and no positives.
    """
    lists = folder / "image_ids"
    images = _first_fields(lists / "positive_ids.txt")
    names = _first_fields(lists / "image_query_ids.txt")
    members: defaultdict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(images):
        members[name.split("/")[0]].append(row)
    refuse_names(str(lists), "queries have no positives", [n for n in names if n.split("/")[0] not in members])
    nothing = np.empty(0, np.int64)
    judgements = tuple({"ok": np.array(members[n.split("/")[0]], np.int64), "junk": nothing} for n in names)
    return Annotation(images, tuple(BenchmarkQuery(name, name) for name in names), judgements)


def _first_fields(path: Path) -> tuple[str, ...]:
    return tuple(sorted(line.split(",")[0].strip() for line in read_names(path)))
