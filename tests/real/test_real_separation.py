"""Guided similarity separation on the Holidays subset, with settings chosen without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from resight.evaluation.metrics import rectangle_ap
from resight.graph.knn_graph import build_knn_graph
from resight.graph.listed import standing_out
from resight.ranking.separation import Separation, centred
from resight.ranking.vector_database import VectorDatabase
from resight.training.separation import SeparationSettings, train_separation
from resight.types import Queries

DATA = Path(__file__).parents[2] / "../shared/data/descriptors"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no descriptors at {DATA}")


def test_not_below_nearest_neighbours():
    torch.set_num_threads(1)
    vectors = np.load(DATA / "holidays_resnet101v2_c4_gem.npy")
    names = (DATA / "holidays_ids.txt").read_text().split()
    numbers = np.array([int(Path(name).stem) for name in names])
    positives = [np.flatnonzero((numbers // 100 == n // 100) & (numbers != n)) for n in numbers]
    asked = np.array([i for i in np.flatnonzero(numbers % 100 == 0) if len(positives[i])])
    assert len(asked) == 194

    def score(ids):
        ids = np.stack([row[row != query] for row, query in zip(ids, asked, strict=True)])
        return rectangle_ap(ids, [positives[query] for query in asked]).map

    mean = vectors.mean(axis=0)
    moved = centred(vectors, mean)
    graph = build_knn_graph(moved, standing_out(moved))
    trained = train_separation(moved, graph, SeparationSettings(patience=20))
    embedded = trained.model.embed(moved, graph)
    stage = Separation(trained.model, VectorDatabase.over(moved), VectorDatabase.over(embedded), mean, graph.k + 1)
    queries = Queries(vectors=vectors[asked], rows=asked)
    plain = score(np.argsort(-(vectors[asked] @ vectors.T), axis=1, kind="stable"))
    online = score(stage(queries).ids)
    print(f"plain {plain:.4f}, k {graph.k}, epoch {trained.best}: online {online:.4f}")
    assert plain == pytest.approx(0.844, abs=0.002)
    assert online >= plain
    assert score(np.argsort(-(embedded[asked] @ embedded.T), axis=1, kind="stable")) >= plain
