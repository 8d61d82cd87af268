from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from resight.errors import UsageError
from resight.evaluation.evaluate import RECIPES, evaluate
from resight.evaluation.experiment import Run
from resight.evaluation.feature_recipes import FEATURE_RECIPES


def test_separation_trains_on_the_database_and_ranks_unseen_queries(tmp_path):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, 16))
    labels = np.repeat(np.arange(12), 5)
    vectors = (centres[labels] + 0.2 * rng.normal(size=(60, 16))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for label in range(12):
        (tmp_path / "photos" / f"{label:02}").mkdir(parents=True)
        for number in range(5):
            (tmp_path / "photos" / f"{label:02}" / f"{number}.jpg").touch()
    np.save(tmp_path / "x.npy", vectors)
    settings = {"k": 3, "query_k": 3, "epochs": 5}
    run = Run("folders", str(tmp_path / "photos"), "separation", settings, features=str(tmp_path / "x.npy"))
    found = evaluate(run)
    assert found.final.scores["plain"].map > 0.95
    assert set(FEATURE_RECIPES) <= set(RECIPES)
    order = np.argsort(-vectors @ vectors.T, axis=1, kind="stable")
    np.save(tmp_path / "lists.npy", order)
    lists = str(tmp_path / "lists.npy")
    listed = {**settings, "k": 4, "index_lists": lists, "query_lists": lists}
    again = evaluate(replace(run, settings=listed))
    np.testing.assert_array_equal(again.final.ranking.ids, found.final.ranking.ids)
    (tmp_path / "lists.npy").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match=r"lists\.npy cannot be read"):
        evaluate(replace(run, settings=listed))
