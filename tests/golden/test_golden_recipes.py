"""Recipes on the golden world: pinned scores, found again after any change."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from resight.collection import create_collection, open_collection
from resight.collection.check import repair_collection
from resight.evaluation.metrics import rectangle_ap
from resight.store.stamp import read_stamp, write_stamp

PINNED = {"binary": 1.0, "full": 1.0}


@pytest.fixture(scope="module")
def made(golden_world, tmp_path_factory):
    """Both variants of the recipe over the same extracted features, and the report of indexing."""
    base = tmp_path_factory.mktemp("golden")
    binary = create_collection(base / "binary.resight", "classic", {"binary": True})
    report = binary.add([golden_world.world.photos_folder])
    shutil.copytree(binary.path, base / "full.resight")
    stamp = read_stamp(base / "full.resight")
    write_stamp(base / "full.resight", replace(stamp, parameters={**stamp.parameters, "binary": False}))
    repair_collection(base / "full.resight")
    return {"binary": binary, "full": open_collection(base / "full.resight")}, report


@pytest.fixture(params=["binary", "full"])
def indexed(request, made):
    """Name of the variant, the collection, and the report of indexing."""
    collections, report = made
    assert collections[request.param].snapshot.index.kernel.binary == (request.param == "binary")
    return request.param, collections[request.param], report


def test_mean_average_precision(indexed, golden_world):
    name, collection, _ = indexed
    ap = []
    for query, positives in zip(golden_world.world.queries, golden_world.world.positives, strict=True):
        answer = collection.search(query, top=len(collection.snapshot.tables))
        rows = np.array([[result.row for result in answer.results]])
        ap.append(rectangle_ap(rows, [np.array([collection.snapshot.row_of(p) for p in positives])]).ap[0])
    print(f"{name}: mAP {np.mean(ap):.4f}, {np.round(ap, 3).tolist()}")
    assert np.mean(ap) == pytest.approx(PINNED[name], abs=0.02)


def test_matches_are_right(indexed, golden_world):
    _, collection, _ = indexed
    for query, positives in zip(golden_world.world.queries, golden_world.world.positives, strict=True):
        found = {result.id for result in collection.search(query).results if result.match}
        assert found <= set(positives)
        assert found


def test_the_rotated_photo_is_found(indexed, golden_world):
    _, collection, _ = indexed
    result = next(r for r in collection.search(golden_world.world.queries[0]).results if r.id == golden_world.rotated)
    assert result.match
    assert result.rank <= len(golden_world.world.positives[0])
    upright = collection.explain(golden_world.world.positives[0][0], golden_world.rotated).result
    assert upright.verification.transform == pytest.approx(np.eye(3), abs=2)


def test_bad_files_are_reported(indexed, golden_world):
    _, collection, report = indexed
    kinds = {os.path.basename(problem.path): problem.kind for problem in report.problems}
    assert kinds == {golden_world.truncated: "truncated", golden_world.corrupt: "not-an-image"}
    assert report.added == len(golden_world.world.photos)
    assert collection.info().broken == 2
