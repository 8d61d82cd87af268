"""Separated descriptors of a collection: training, storing, new photos, the command."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from resight.artifacts.files import SEPARATED, SEPARATION, SEPARATION_TRAINING
from resight.artifacts.separation import drift, load_separated
from resight.cli import app
from resight.collection import open_collection
from resight.errors import CollectionError, StampMismatch, UsageError
from resight.features.local.packed import empty_features
from resight.features.whitening import fit_pca
from resight.fitting.separation import extend_separation, fit_separation_to
from resight.fitting.whitening import use_whitening
from resight.graph.knn_graph import build_knn_graph
from resight.graph.listed import listed_pairs, standing_out
from resight.ranking.separation import centred
from resight.training.separation import fit_separation
from resight.types import Queries

torch.set_num_threads(1)


@pytest.fixture
def collection(world, tmp_path):
    return world.copy("hybrid", tmp_path)


def loaded(collection):
    """What the collection has stored, read again."""
    return load_separated(collection.path, open_collection(collection.path).snapshot.descriptors)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_what_is_stored_is_what_was_trained(collection):
    epochs = []
    assert loaded(collection) is None
    made = fit_separation_to(collection, epochs=5, on_epoch=epochs.append)
    rows, vectors = collection.vectors()
    np.testing.assert_array_equal(made.rows, rows)
    assert made.vectors.shape == vectors.shape
    assert len(epochs) == made.facts["epochs"][-1]["number"] == 5
    assert not SEPARATION_TRAINING.exists(collection.path)
    read = loaded(collection)
    np.testing.assert_array_equal(read.vectors, made.vectors)
    assert read.facts == made.facts
    asked = Queries(vectors=vectors[:3], rows=rows[:3])
    np.testing.assert_array_equal(read.stage()(asked).ids, made.stage()(asked).ids)
    np.testing.assert_array_equal(collection.vectors()[1], vectors)  # the originals stay
    scored = collection.pipeline(None, "separation")(asked)
    np.testing.assert_array_equal(scored.ids, read.stage()(asked).ids)
    assert 0.5 < scored.scores[0, 0] - scored.scores[0].mean() < 20  # standard deviations


def test_a_training_that_was_stopped_goes_on(collection):
    def stop(epoch):
        if epoch.number == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_separation_to(collection, k=2, on_epoch=stop)
    assert SEPARATION_TRAINING.exists(collection.path)
    seen = []
    fit_separation_to(collection, k=2, epochs=14, on_epoch=seen.append)
    assert [epoch.number for epoch in seen] == [11, 12, 13, 14]
    with pytest.raises(KeyboardInterrupt):
        fit_separation_to(collection, k=2, on_epoch=stop)
    seen.clear()
    fit_separation_to(collection, k=1, epochs=2, on_epoch=seen.append)  # of another graph: anew
    assert [epoch.number for epoch in seen] == [1, 2]


def test_new_photos_are_embedded_without_training(world, collection):
    rows, _ = collection.vectors()
    collection.remove(sorted(collection.ids)[:3])
    small = open_collection(collection.path)
    assert extend_separation(small) is None  # nothing was trained
    stored = fit_separation_to(small, epochs=3)
    assert drift(stored, small.snapshot.descriptors).retrain == ""
    small.add([world.photos.folder])
    grown = open_collection(collection.path)
    assert len(loaded(grown).rows) == len(rows) - 3
    extended = extend_separation(grown)
    assert len(extended.rows) == len(rows)
    old = np.isin(extended.rows, stored.rows)
    np.testing.assert_array_equal(extended.vectors[old], stored.vectors)
    np.testing.assert_allclose(np.linalg.norm(extended.vectors, axis=1), 1, atol=1e-5)
    moved = drift(extended, grown.snapshot.descriptors)
    assert (moved.new, moved.gone) == (3, 0)
    again = loaded(grown)
    np.testing.assert_array_equal(again.rows, extended.rows)
    before = SEPARATED.path(grown.path).stat().st_mtime_ns
    assert len(extend_separation(grown).rows) == len(rows)
    assert SEPARATED.path(grown.path).stat().st_mtime_ns == before  # nothing new: nothing written
    asked = Queries(vectors=grown.vectors()[1][~old])
    assert (again.stage()(asked).scores[:, 0] > 0.9).all()  # they find themselves


def test_removed_photos_are_not_found(collection):
    fit_separation_to(collection, epochs=1)
    id_ = sorted(collection.ids)[4]
    row = collection.snapshot.row_of(id_)
    vectors = collection.vectors()[1]
    collection.remove([id_])
    stored = loaded(collection)
    assert row not in stored.rows
    assert row not in stored.stage()(Queries(vectors=vectors[:2])).ids
    assert drift(stored, collection.snapshot.descriptors).gone == 1


def test_drift_names_its_reason(collection):
    stored = fit_separation_to(collection, epochs=0)

    @dataclass
    class Grown:
        rows: np.ndarray
        matrix: np.ndarray

    rows, vectors = collection.vectors()
    more = np.concatenate([rows, rows.max() + 1 + np.arange(len(rows))])
    moved = drift(stored, Grown(more, np.concatenate([vectors, vectors])))
    assert moved.share == pytest.approx(0.5)
    assert "50% of the photos" in moved.retrain
    rng = np.random.default_rng(0)
    strange = rng.normal(size=(40, vectors.shape[1])).astype(np.float32)
    strange /= np.linalg.norm(strange, axis=1, keepdims=True)
    many = np.repeat(vectors, 5, axis=0)
    known = type(stored)(stored.rows, stored.vectors, np.arange(len(many)), stored.mean, stored.model, stored.facts)
    known.model.embed(centred(many, stored.mean), build_knn_graph(centred(many, stored.mean), 6))
    both = Grown(np.arange(len(many) + 40), np.concatenate([many, strange]))
    assert "distributed differently from the old ones (distance 1.00)" in drift(known, both).retrain


def test_descriptors_of_another_whitening(collection):
    fit_separation_to(collection, epochs=1)
    use_whitening(collection, fit_pca(collection.vectors()[1], 8))
    for ask in (loaded, extend_separation):
        with pytest.raises(StampMismatch, match="run resight fit separation on it again"):
            ask(collection)
    fit_separation_to(collection, epochs=1)
    assert loaded(collection).vectors.shape[1] == 8


@pytest.mark.parametrize("artifact", [SEPARATION, SEPARATED])
def test_damaged_files(collection, artifact):
    fit_separation_to(collection, epochs=1)
    path = artifact.path(collection.path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CollectionError, match=r"damaged.*run resight fit separation"):
        loaded(collection)


def test_too_few_photos(collection):
    collection.remove(sorted(collection.ids)[5:])
    with pytest.raises(UsageError, match="at least 10"):
        fit_separation_to(open_collection(collection.path))


def test_a_verified_graph_joins_photos_of_one_object(collection):
    stored = fit_separation_to(collection, verified=True, epochs=3)
    assert stored.facts["verified"]
    graph = collection.snapshot.verified_graph  # it was stored
    rows, _ = collection.vectors()
    by_row = {row: id_ for id_, row in collection.ids.items()}
    objects = [by_row[row].split("-")[0] for row in rows.tolist()]
    pairs = listed_pairs(graph)
    assert len(pairs) > 3
    assert np.mean([objects[a] == objects[b] for a, b in pairs]) > 0.9


def test_the_published_form_trains_all_epochs_on_the_descriptors_as_they_are(collection):
    stored = fit_separation_to(collection, published=True, epochs=12)
    vectors = collection.vectors()[1]
    assert stored.facts["published"]
    assert (stored.facts["query_neighbours"], len(stored.facts["epochs"]), stored.facts["best"]) == (5, 12, 12)
    assert not stored.mean.any()
    model = fit_separation(vectors, build_knn_graph(vectors, 4), epochs=12)
    np.testing.assert_array_equal(stored.vectors, model.embed(vectors, build_knn_graph(vectors, 4)))
    done = run("fit", "separation", collection.path, "--retrain", "--published", "--k", 3, "--epochs", 2, "--json")
    assert json.loads(done.stdout)["neighbours"] == 3
    assert loaded(collection).facts["query_neighbours"] == 4


def test_a_query_takes_up_what_geometry_proves(world, collection):
    stored = fit_separation_to(collection, verified=True, epochs=3)
    snapshot = open_collection(collection.path).snapshot
    name = world.photos.groups[2][0]
    asked = collection.query(world.photos.folder / name).queries()
    verifier = snapshot.verifier
    stage = stored.stage(k=3, verifier=verifier, verify=10)
    proofs = verifier(asked.local[0], stored.rows)
    first = stored.network.database.nearest(replace(asked, vectors=centred(asked.vectors, stored.mean)), 10)
    near = [
        (stored.trained[node], proofs[int(np.searchsorted(stored.rows, stored.trained[node]))]) for node in first.ids[0]
    ]
    proven = sorted((row for row in near if row[1].verified), key=lambda row: -row[1].inliers)[:3]
    assert proven
    evidence = stage.explain(asked, 0, int(stored.rows[0]))[0]
    assert evidence.data["neighbours"] == [int(row) for row, _ in proven]
    blind = replace(asked, local=(empty_features(128),))
    silent = stored.stage(k=3, verifier=verifier, verify=10).explain(blind, 0, int(stored.rows[0]))[0]
    assert len(silent.data["neighbours"]) == 3, "where geometry proves nothing, the nearest"
    found = open_collection(collection.path).search(world.photos.folder / name, recipe="separation", verify=10, k=3)
    assert {r.id for r in found.results[:3]} == set(world.photos.groups[2])
    with pytest.raises(UsageError, match="verify=0"):
        collection.search(name, recipe="separation", verify=0)


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
    assert text.count("<figure") == 8
    assert "http:" not in text
    before = SEPARATED.path(collection.path).stat().st_mtime_ns
    again = run("fit", "separation", collection.path, "--json")
    facts = json.loads(again.stdout)
    assert facts["photos"] == len(collection.vectors()[0])
    assert facts["drift"] == {"new": 0, "gone": 0, "share": 0.0, "shift": 0.0, "retrain": ""}
    assert SEPARATED.path(collection.path).stat().st_mtime_ns == before
    proven = run("fit", "separation", collection.path, "--retrain", "--verified", "--epochs", 1, "--json")
    assert json.loads(proven.stdout)["verified"]


def test_a_classic_collection_is_separated_by_its_local_features(copied):
    for more in ((), ("--retrain", "--verified")):
        told = run("fit", "separation", copied.path, "--epochs", 1, "--json", *more)
        assert told.exit_code == 0, told.output
        assert json.loads(told.stdout)["verified"] == bool(more)


def test_a_verified_graph_needs_local_features(world, tmp_path):
    refused = run("fit", "separation", world.copy("gem", tmp_path).path, "--verified")
    assert refused.exit_code == 2
    assert "keeps no local features to verify" in refused.output
