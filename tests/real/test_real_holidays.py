"""Recipe classic on the Holidays subset, as a collection."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from resight.collection import create_collection
from resight.evaluation.metrics import rectangle_ap
from resight.types import Queries

IMAGES = Path(__file__).parents[2] / "../shared/data/holidays/images"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not IMAGES.is_dir(), reason=f"no photographs at {IMAGES}"),
]


# About a point below what docs/classic.md gives: decoders and BLAS of other machines move a few photos.
@pytest.mark.parametrize(("binary", "least"), [(True, 0.92), (False, 0.925)], ids=["binary", "full"])
def test_mean_average_precision(tmp_path, binary, least):
    collection = create_collection(tmp_path / "holidays.resight", "classic", {"binary": binary})
    report = collection.add([IMAGES])
    assert (report.added, report.problems) == (520, [])
    rows = {int(Path(id_).stem): row for id_, row in collection.ids.items()}
    asked = [number for number in sorted(rows) if number % 100 == 0]
    positives = [np.array([rows[n] for n in rows if n // 100 == q // 100 and n != q], np.int64) for q in asked]
    pipeline, started, ids = collection.pipeline(), time.perf_counter(), []
    for row in (rows[number] for number in asked):  # one by one, as verifications are remembered for few queries only
        ranking = pipeline(Queries(local=(collection.snapshot.features(row),), rows=[row]))
        ids.append(ranking.ids[0][ranking.ids[0] != row])
    seconds = (time.perf_counter() - started) / len(asked)
    judged = [q for q in range(len(asked)) if len(positives[q])]
    scores = rectangle_ap(np.array([ids[q] for q in judged]), [positives[q] for q in judged])
    assert len(judged) == 194
    print(f"binary {binary}: mAP {scores.map:.4f}, {1000 * seconds:.0f} ms a query")
    assert scores.map >= least
