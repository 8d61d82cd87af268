"""A learned similarity on a small collection of generated photos: its pairs, its training, searching with it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from resight.artifacts.files import SIMILARITY, VLAD
from resight.artifacts.similarity import load_learned_similarity
from resight.cli import app
from resight.collection import open_collection
from resight.errors import StampMismatch, UsageError
from resight.fitting.graphs import descriptors_of
from resight.fitting.similarity import fit_similarity, right_order, verified_groups
from resight.matching.oasis import Oasis
from resight.store.writer import writing
from resight.training.similarity import Options, Pairs

QUICK = {"hidden": (16, 8), "cosine": Options(epochs=1), "options": Options(epochs=2)}


@pytest.fixture
def collection(world, tmp_path):
    return world.copy("classic", tmp_path)


@pytest.fixture
def groups(world):
    """Names of the photos of each object."""
    return world.photos.groups


def described(collection):
    """The descriptors of the collection, made where it has none yet."""
    with writing(collection.path, "test") as writer:
        return descriptors_of(collection, writer)


def search(collection, name, top):
    """Ids and scores of the first `top` results of recipe deep-similarity, read from the disk."""
    answer = open_collection(collection.path).search(name, top=top, recipe="deep-similarity")
    return [(result.id, result.score) for result in answer.results]


def group_file(path, groups):
    lines = [f"{name},{number}" for number, group in enumerate(groups) for name in group]
    path.write_text("\n".join(["id,group", *lines]) + "\n")
    return path


def test_pairs_that_geometry_proves_need_no_labels(collection, groups):
    rows = collection.snapshot.tables.feature_rows
    proven = verified_groups(collection, rows)
    names = {row: id_ for id_, row in collection.ids.items()}
    found = {}
    for row, group in zip(rows.tolist(), proven.tolist(), strict=True):
        found.setdefault(group, set()).add(names[row])
    assert {frozenset(names) for group, names in found.items() if group >= 0} == set(map(frozenset, groups))
    few = verified_groups(collection, rows, photos=2)
    assert 2 <= (few >= 0).sum() < (proven >= 0).sum()


def test_train_and_search(world, collection, groups):
    told = []
    training = fit_similarity(collection, **QUICK, progress=lambda *step: told.append(step[0]))
    assert list(dict.fromkeys(told)) == ["describing photos", "proving pairs", "DeepCosine", "DeepSim", "DeepSimH"]
    assert list(training.order) == ["cosine", "DeepCosine", "DeepSim", "DeepSimH"]
    assert training.order[training.kept] == max(training.order["DeepSim"], training.order["DeepSimH"])
    descriptors = open_collection(collection.path).snapshot.descriptors
    stored = load_learned_similarity(collection.path, descriptors)
    assert stored.fingerprint == training.similarity.fingerprint
    assert training.similarity.model == descriptors.fingerprint
    name = groups[0][0]
    row = collection.snapshot.row_of(name)
    found = search(collection, name, top=5)
    assert len(found) == 5
    assert name not in dict(found)
    scores = training.similarity.score(descriptors.matrix[[row]], descriptors.matrix)[0]
    assert found[0][1] == pytest.approx(np.delete(scores, row).max(), abs=1e-5)
    assert search(collection, str(world.photos.folder / name), top=1)[0][0] == name  # the very photo


def test_searching_answers_as_its_own_scores_say(collection, groups):
    descriptors = described(collection)
    oasis = Oasis.identity(descriptors.matrix.shape[1], descriptors.fingerprint)
    oasis.save(SIMILARITY.path(collection.path))
    for group in groups[:3]:
        assert {id_ for id_, _ in search(collection, group[0], top=2)} & set(group)
    with pytest.raises(UsageError, match="0 results"):
        search(collection, groups[0][0], top=0)


def test_groups_from_a_file(collection, groups, tmp_path):
    file = group_file(tmp_path / "groups.csv", groups)
    training = fit_similarity(collection, groups=file, **QUICK)
    assert training.pairs.matching.sum() == sum(len(group) * (len(group) - 1) for group in groups)
    file.write_text("id,group\nnobody.jpg,1\n")
    with pytest.raises(UsageError, match=r"nobody\.jpg"):
        fit_similarity(collection, groups=file, **QUICK)
    file.write_text("id,kind\n")
    with pytest.raises(UsageError, match="must name the columns, id,group"):
        fit_similarity(collection, groups=file, **QUICK)
    with pytest.raises(UsageError, match="cannot be read"):
        fit_similarity(collection, groups=tmp_path / "none.csv", **QUICK)


def test_pairs_from_a_file(collection, groups, tmp_path):
    file = tmp_path / "pairs.csv"
    lines = [f"{group[0]},{group[1]},1" for group in groups]
    lines += [f"{a[0]},{b[1]},0" for a in groups for b in groups if a is not b]
    file.write_text("\n".join(["left,right,matching", *lines]) + "\n")
    assert len(fit_similarity(collection, pairs=file, **QUICK).pairs) == len(lines)
    with pytest.raises(UsageError, match="not both"):
        fit_similarity(collection, pairs=file, groups=file, **QUICK)
    file.write_text("\n".join(["left,right,matching", *lines[:3]]) + "\n")
    with pytest.raises(UsageError, match="3 matching and 0 non-matching pairs cannot train"):
        fit_similarity(collection, pairs=file, **QUICK)


def test_descriptors_of_another_model_are_refused(collection, groups, tmp_path):
    fit_similarity(collection, groups=group_file(tmp_path / "groups.csv", groups), **QUICK)
    VLAD.path(collection.path).unlink()
    described(collection)  # learnt again from the same photos: the same model
    assert search(collection, groups[1][0], top=1)
    collection.remove([groups[0][0]])
    VLAD.path(collection.path).unlink()
    described(collection)
    with pytest.raises(StampMismatch, match="train a similarity on these"):
        search(collection, groups[1][0], top=1)


def test_searching_untrained_says_what_to_do(collection, groups):
    described(collection)
    with pytest.raises(UsageError, match="resight fit similarity makes it"):
        search(collection, groups[0][0], top=1)


def test_right_order():
    pairs = Pairs([0, 0, 0, 0], [1, 2, 3, 4], [True, True, False, False])
    assert right_order(np.array([4, 3, 2, 1]), pairs) == 1
    assert right_order(np.array([4, 1, 2, 3]), pairs) == 0.5
    assert right_order(np.array([1, 1, 1, 1]), pairs) == 0.5


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, ["fit", "similarity", *map(str, arguments)])


def test_the_command(run, collection, tmp_path, monkeypatch):
    monkeypatch.setattr("resight.fitting.similarity.COSINE", Options(epochs=1, batch=1000))
    out, page = tmp_path / "s.safetensors", tmp_path / "page.html"
    result = run(collection.path, "--epochs", 1, "--out", out, "--report", page, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["matching"] > 0
    assert answer["other"] > 0
    assert set(answer["right_order"]) == {"cosine", "DeepCosine", "DeepSim", "DeepSimH"}
    assert out.exists()
    assert page.read_text().count("<figure") == 2


def test_the_command_refuses_in_one_sentence(run, collection, tmp_path):
    result = run(tmp_path / "none.resight")
    assert result.exit_code == 2
    result = run(collection.path, "--pairs", tmp_path / "a.csv", "--groups", tmp_path / "a.csv")
    assert result.exit_code == 2


def test_searching_does_not_import_torch():
    code = "import resight.artifacts.similarity, sys; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
