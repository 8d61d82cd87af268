"""Refined descriptors of a collection: training, storing, new photos, the command."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from resight.fitting.improve import use_whitening
from resight.fitting.separation_graph import listed_pairs, standing_out, verified_graph
from typer.testing import CliRunner

from onnx_factory import write_network
from photo_factory import SMALL, make_photos
from resight.cli import app
from resight.collection import create_collection, open_collection
from resight.errors import CollectionError, StampMismatch, UsageError
from resight.features.whitening import fit_pca
from resight.fitting.separation import (
    CHECKPOINT,
    MODEL,
    REFINED,
    drift,
    extend_refinement,
    load_refinement,
    refine,
    refined_pipeline,
)
from resight.graph.knn_graph import build_knn_graph
from resight.ranking.separation import centred
from resight.store.folder import derived_path
from resight.types import KnnGraph, Queries

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    base = tmp_path_factory.mktemp("refine")
    photos = make_photos(base / "photos", objects=8)
    network = write_network(base / "net.onnx", channels=24)
    settings = {**SMALL, "backbone": str(network), "scales": [1.0], "whiten": "none"}
    collection = create_collection(base / "c.resight", "hybrid", settings)
    collection.add([photos.folder])
    return base, photos


@pytest.fixture
def collection(made, tmp_path):
    shutil.copytree(made[0] / "c.resight", tmp_path / "c.resight")
    return open_collection(tmp_path / "c.resight")


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_what_is_stored_is_what_was_trained(collection):
    epochs = []
    made = refine(collection, epochs=5, on_epoch=epochs.append)
    rows, vectors = collection.vectors()
    np.testing.assert_array_equal(made.rows, rows)
    assert made.vectors.shape == vectors.shape
    assert len(epochs) == made.facts["epochs"][-1]["number"] == 5
    assert not derived_path(collection.path, CHECKPOINT).exists()
    read = load_refinement(open_collection(collection.path))
    np.testing.assert_array_equal(read.vectors, made.vectors)
    assert read.facts == made.facts
    asked = Queries(vectors=vectors[:3], rows=rows[:3])
    np.testing.assert_array_equal(read.stage()(asked).ids, made.stage()(asked).ids)
    np.testing.assert_array_equal(collection.vectors()[1], vectors)  # the originals stay
    scored = refined_pipeline(read)(asked)
    np.testing.assert_array_equal(scored.ids, read.stage()(asked).ids)
    assert 0.5 < scored.scores[0, 0] - scored.scores[0].mean() < 20  # standard deviations


def test_a_training_that_was_stopped_goes_on(collection):
    def stop(epoch):
        if epoch.number == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refine(collection, k=2, on_epoch=stop)
    assert derived_path(collection.path, CHECKPOINT).exists()
    seen = []
    refine(collection, k=2, epochs=14, on_epoch=seen.append)
    assert [epoch.number for epoch in seen] == [11, 12, 13, 14]
    with pytest.raises(KeyboardInterrupt):
        refine(collection, k=2, on_epoch=stop)
    seen.clear()
    refine(collection, k=1, epochs=2, on_epoch=seen.append)  # of another graph: anew
    assert [epoch.number for epoch in seen] == [1, 2]


def test_new_photos_are_embedded_without_training(made, collection):
    rows, _ = collection.vectors()
    gone = sorted(collection.ids)[:3]
    collection.remove(gone)
    small = open_collection(collection.path)
    stored = refine(small, epochs=3)
    assert drift(small, stored).retrain == ""
    small.add([made[1].folder])
    grown = open_collection(collection.path)
    extended = extend_refinement(grown, load_refinement(grown))
    assert len(extended.rows) == len(rows)
    old = np.isin(extended.rows, stored.rows)
    np.testing.assert_array_equal(extended.vectors[old], stored.vectors)
    np.testing.assert_allclose(np.linalg.norm(extended.vectors, axis=1), 1, atol=1e-5)
    moved = drift(grown, extended)
    assert (moved.new, moved.gone) == (3, 0)
    again = load_refinement(grown)
    np.testing.assert_array_equal(again.rows, extended.rows)
    assert extend_refinement(grown, again) is again
    asked = Queries(vectors=grown.vectors()[1][~old])
    assert (again.stage()(asked).scores[:, 0] > 0.9).all()  # they find themselves


def test_removed_photos_are_not_found(collection):
    refine(collection, epochs=1)
    id_ = sorted(collection.ids)[4]
    row = collection.row_of(id_)
    vectors = collection.vectors()[1]
    collection.remove([id_])
    left = open_collection(collection.path)
    stored = load_refinement(left)
    assert row not in stored.rows
    assert row not in stored.stage()(Queries(vectors=vectors[:2])).ids
    assert drift(left, stored).gone == 1


def test_drift_names_its_reason(collection, monkeypatch):
    stored = refine(collection, epochs=0)

    @dataclass
    class Grown:
        rows: np.ndarray
        vectors: np.ndarray

    monkeypatch.setattr("resight.fitting.separation.describe_collection", lambda grown: grown)
    rows, vectors = collection.vectors()
    more = np.concatenate([rows, rows.max() + 1 + np.arange(len(rows))])
    moved = drift(Grown(more, np.concatenate([vectors, vectors])), stored)
    assert moved.share == pytest.approx(0.5)
    assert "50% of the photos" in moved.retrain
    rng = np.random.default_rng(0)
    strange = rng.normal(size=(40, vectors.shape[1])).astype(np.float32)
    strange /= np.linalg.norm(strange, axis=1, keepdims=True)
    many = np.repeat(vectors, 5, axis=0)
    known = type(stored)(stored.rows, stored.vectors, np.arange(len(many)), stored.mean, stored.model, stored.facts)
    known.model.embed(centred(many, stored.mean), build_knn_graph(centred(many, stored.mean), 6))
    both = Grown(np.arange(len(many) + 40), np.concatenate([many, strange]))
    assert "less like the old ones" in drift(both, known).retrain


def test_descriptors_of_another_whitening(collection):
    refine(collection, epochs=1)
    use_whitening(collection, fit_pca(collection.vectors()[1], 8))
    changed = open_collection(collection.path)
    with pytest.raises(StampMismatch, match="--retrain"):
        load_refinement(changed)
    refine(changed, epochs=1)
    assert load_refinement(changed).vectors.shape[1] == 8


@pytest.mark.parametrize("name", [MODEL, REFINED])
def test_damaged_and_missing_files(collection, name):
    with pytest.raises(CollectionError, match="resight fit separation"):
        load_refinement(collection)
    refine(collection, epochs=1)
    path = derived_path(collection.path, name)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CollectionError, match="damaged"):
        load_refinement(collection)


def test_too_few_photos(collection):
    collection.remove(sorted(collection.ids)[5:])
    with pytest.raises(UsageError, match="at least 10"):
        refine(open_collection(collection.path))


def test_a_verified_graph_joins_photos_of_one_object(collection):
    graph = verified_graph(collection)
    rows, _ = collection.vectors()
    by_row = {row: id_ for id_, row in collection.ids.items()}
    objects = [by_row[row].split("/")[-1].split("-")[0] for row in rows.tolist()]
    np.testing.assert_array_equal(verified_graph(open_collection(collection.path)).ids, graph.ids)  # it was stored
    pairs = listed_pairs(graph)
    assert len(pairs) > 3
    assert np.mean([objects[a] == objects[b] for a, b in pairs]) > 0.9
    stored = refine(collection, verified=graph, epochs=3)
    assert stored.facts["verified"]
    with pytest.raises(UsageError, match="nodes for"):
        refine(collection, verified=KnnGraph(graph.ids[:5, :2] * 0, np.ones((5, 2))))


def test_how_many_photos_stand_out():
    rng = np.random.default_rng(0)
    for each in (2, 4, 9):
        x = np.repeat(rng.normal(size=(60, 64)), each, axis=0)
        x += 0.4 * rng.normal(size=x.shape)
        x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        assert standing_out(x) == each - 1
    alone = rng.normal(size=(200, 64)).astype(np.float32)
    assert standing_out(alone / np.linalg.norm(alone, axis=1, keepdims=True)) == 1


def test_the_command(collection, tmp_path):
    page = tmp_path / "page.html"
    first = run("fit", "separation", collection.path, "--epochs", 3, "--report", page)
    assert first.exit_code == 0, first.output
    assert "photos with separated descriptors" in first.output
    text = page.read_text()
    assert text.count("<figure>") == 6
    assert "http:" not in text
    before = derived_path(collection.path, REFINED).stat().st_mtime_ns
    again = run("fit", "separation", collection.path, "--json")
    facts = json.loads(again.stdout)
    assert facts["photos"] == len(collection.vectors()[0])
    assert facts["drift"] == {"new": 0, "gone": 0, "share": 0.0, "shift": 0.0, "retrain": ""}
    assert derived_path(collection.path, REFINED).stat().st_mtime_ns == before
    proven = run("fit", "separation", collection.path, "--retrain", "--verified", "--epochs", 1, "--json")
    assert json.loads(proven.stdout)["verified"]


def test_a_classic_collection_is_refined_by_its_local_features(copied):
    asked = run("fit", "separation", copied.path, "--epochs", "1")
    assert asked.exit_code == 0, asked.output
    asked = run("fit", "separation", copied.path, "--retrain", "--verified")
    assert asked.exit_code == 2
