"""Searching a collection by what was trained on it, through `search --recipe`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from resight.cli import app
from resight.collection import open_collection
from resight.errors import UsageError
from resight.fitting.separation import fit_separation_to
from resight.fitting.similarity import fit_similarity
from resight.training.similarity import Options

QUICK = {"hidden": (16, 8), "cosine": Options(epochs=1), "options": Options(epochs=2)}


@pytest.mark.parametrize("kind", ["classic", "hybrid"])
def test_a_learned_similarity_ranks_online(world, tmp_path, kind):
    collection = world.copy(kind, tmp_path)
    first = sorted(collection.ids)[0]
    missing = "resight fit similarity" if kind == "hybrid" else "global descriptors"
    with pytest.raises(UsageError, match=missing):
        collection.search(first, recipe="deep-similarity")
    fit_similarity(collection, **QUICK)
    again = open_collection(collection.path)
    found = again.search(first, recipe="deep-similarity", top=4)
    assert len(found.results) == 4
    assert first not in [result.id for result in found.results]
    assert again.explain(first, found.results[0].id, recipe="deep-similarity").evidence
    path = again.snapshot.photo(again.snapshot.row_of(first))["path"]
    assert len(again.search(path, recipe="deep-similarity", top=3).results) == 3


def test_a_classic_collection_is_separated_by_its_local_features(world, tmp_path):
    collection = world.copy("classic", tmp_path)
    fit_separation_to(collection, epochs=2)
    first = sorted(collection.ids)[0]
    answer = open_collection(collection.path).search(first, recipe="separation", top=3)
    assert len(answer.results) == 3
    assert first not in [result.id for result in answer.results]


def test_separated_descriptors_rank_online(world, tmp_path):
    collection = world.copy("hybrid", tmp_path)
    first = sorted(collection.ids)[0]
    with pytest.raises(UsageError, match="resight fit separation"):
        collection.search(first, recipe="separation")
    fit_separation_to(collection, epochs=2)
    run = CliRunner()
    found = run.invoke(app, ["search", str(collection.path), first, "--recipe", "separation", "--json"])
    assert json.loads(found.stdout)["results"][0]["id"] != first
    limited = open_collection(collection.path).search(first, recipe="separation", limit=3, where="row > 2")
    assert {result.row for result in limited.results} <= set(range(3, 100))
