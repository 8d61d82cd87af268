"""Searching a collection by what was trained on it, through `search --recipe`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from onnx_factory import write_network
from photo_factory import SMALL, make_photos
from resight.cli import app
from resight.collection import create_collection, open_collection
from resight.errors import CollectionError, UsageError
from resight.fitting.separation import refine
from resight.fitting.similarity import train_similarity
from resight.training.similarity import Options

QUICK = {"hidden": (16, 8), "cosine": Options(epochs=1), "options": Options(epochs=2)}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned")
    photos = make_photos(folder / "photos", objects=8)
    network = write_network(folder / "net.onnx", channels=24)
    for recipe, parameters in (("classic", SMALL), ("hybrid", {**SMALL, "backbone": str(network)})):
        create_collection(folder / f"{recipe}.resight", recipe, parameters).add([photos.folder])
    return folder


@pytest.mark.parametrize("kind", ["classic", "hybrid"])
def test_a_learned_similarity_ranks_online(base, kind):
    collection = open_collection(base / f"{kind}.resight")
    first = sorted(collection.ids)[0]
    with pytest.raises(UsageError, match="resight fit similarity"):
        collection.search(first, recipe="deep-similarity")
    train_similarity(collection, **QUICK)
    again = open_collection(collection.path)
    found = again.search(first, recipe="deep-similarity", top=4)
    assert len(found.results) == 4
    assert first not in [result.id for result in found.results]
    assert again.explain(first, found.results[0].id, recipe="deep-similarity").evidence
    path = again.photo(again.snapshot.row_of(first))["path"]
    assert len(again.search(path, recipe="deep-similarity", top=3).results) == 3


def test_a_classic_collection_is_refined_by_its_local_features(base):
    collection = open_collection(base / "classic.resight")
    refine(collection, epochs=2)
    first = sorted(collection.ids)[0]
    answer = open_collection(collection.path).search(first, recipe="separation", top=3)
    assert len(answer.results) == 3
    assert first not in [result.id for result in answer.results]


def test_refined_descriptors_rank_online(base):
    collection = open_collection(base / "hybrid.resight")
    first = sorted(collection.ids)[0]
    with pytest.raises(CollectionError, match="resight fit separation"):
        collection.search(first, recipe="separation")
    refine(collection, epochs=2)
    run = CliRunner()
    found = run.invoke(app, ["search", str(collection.path), first, "--recipe", "separation", "--json"])
    assert json.loads(found.stdout)["results"][0]["id"] != first
    limited = open_collection(collection.path).search(first, recipe="separation", limit=3, where="row > 2")
    assert {result.row for result in limited.results} <= set(range(3, 100))
