"""A learned similarity on a small collection of generated photos: its pairs, its training, searching with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from photo_factory import SMALL, make_photos
from resight.artifacts.similarity import VLAD, describe_collection, search_by_similarity, trained_similarity
from resight.cli import app
from resight.collection import create_collection, open_collection
from resight.errors import StampMismatch, UsageError
from resight.fitting.similarity import right_order, train_similarity, verified_groups
from resight.matching.oasis import Oasis
from resight.store.folder import derived_path
from resight.training.similarity import Options, Pairs

QUICK = {"hidden": (16, 8), "cosine": Options(epochs=1), "options": Options(epochs=2)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    base = tmp_path_factory.mktemp("similarity")
    photos = make_photos(base / "photos", objects=9)
    create_collection(base / "c.resight", "classic", SMALL).add([photos.folder])
    return base / "c.resight", photos


@pytest.fixture
def collection(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "c.resight")
    return open_collection(tmp_path / "c.resight")


def group_file(path, photos):
    lines = [f"{name},{number}" for number, group in enumerate(photos.groups) for name in group]
    path.write_text("\n".join(["id,group", *lines]) + "\n")
    return path


def test_pairs_that_geometry_proves_need_no_labels(collection, made):
    described = describe_collection(collection)
    groups = verified_groups(collection, described.rows)
    names = {row: id_ for id_, row in collection.ids.items()}
    found = {}
    for row, group in zip(described.rows.tolist(), groups.tolist(), strict=True):
        found.setdefault(group, set()).add(names[row])
    assert {frozenset(names) for group, names in found.items() if group >= 0} == set(map(frozenset, made[1].groups))
    few = verified_groups(collection, described.rows, photos=2)
    assert 2 <= (few >= 0).sum() < (groups >= 0).sum()


def test_train_and_search(collection, made):
    told = []
    training = train_similarity(collection, **QUICK, progress=lambda *step: told.append(step[0]))
    assert list(dict.fromkeys(told)) == ["describing", "proving pairs", "DeepCosine", "DeepSim", "DeepSimH"]
    assert list(training.order) == ["cosine", "DeepCosine", "DeepSim", "DeepSimH"]
    assert training.order[training.kept] == max(training.order["DeepSim"], training.order["DeepSimH"])
    described = describe_collection(collection)
    assert trained_similarity(collection, described).fingerprint == training.similarity.fingerprint
    assert training.similarity.model == described.fingerprint
    name = made[1].groups[0][0]
    found = search_by_similarity(collection, name, top=5)
    assert len(found) == 5
    assert name not in dict(found)
    scores = training.similarity.score(described.vectors[[collection.snapshot.row_of(name)]], described.vectors)[0]
    assert found[0][1] == pytest.approx(np.delete(scores, collection.snapshot.row_of(name)).max(), abs=1e-5)
    path = str(made[1].folder / name)
    assert search_by_similarity(collection, path, top=1)[0][0] == name or scores.argmax() != collection.snapshot.row_of(
        name
    )


def test_searching_answers_as_its_own_scores_say(collection, made):
    described = describe_collection(collection)
    Oasis.identity(described.vectors.shape[1], described.fingerprint).save(
        derived_path(collection.path, "similarity.safetensors")
    )
    for group in made[1].groups[:3]:
        found = [id_ for id_, _ in search_by_similarity(collection, group[0], top=2)]
        assert set(found) & set(group)
    with pytest.raises(UsageError, match="0 results"):
        search_by_similarity(collection, made[1].groups[0][0], top=0)


def test_groups_from_a_file(collection, made, tmp_path):
    file = group_file(tmp_path / "groups.csv", made[1])
    training = train_similarity(collection, groups=file, **QUICK)
    sizes = [len(group) for group in made[1].groups]
    assert training.pairs.matching.sum() == sum(size * (size - 1) for size in sizes)
    file.write_text("id,group\nnobody.jpg,1\n")
    with pytest.raises(UsageError, match=r"nobody\.jpg"):
        train_similarity(collection, groups=file, **QUICK)
    file.write_text("id,kind\n")
    with pytest.raises(UsageError, match="must name the columns, id,group"):
        train_similarity(collection, groups=file, **QUICK)
    with pytest.raises(UsageError, match="cannot be read"):
        train_similarity(collection, groups=tmp_path / "none.csv", **QUICK)


def test_pairs_from_a_file(collection, made, tmp_path):
    file, groups = tmp_path / "pairs.csv", made[1].groups
    lines = [f"{group[0]},{group[1]},1" for group in groups]
    lines += [f"{a[0]},{b[1]},0" for a in groups for b in groups if a is not b]
    file.write_text("\n".join(["left,right,matching", *lines]) + "\n")
    assert len(train_similarity(collection, pairs=file, **QUICK).pairs) == len(lines)
    with pytest.raises(UsageError, match="not both"):
        train_similarity(collection, pairs=file, groups=file, **QUICK)
    file.write_text("\n".join(["left,right,matching", *lines[:3]]) + "\n")
    with pytest.raises(UsageError, match="3 matching and 0 non-matching pairs cannot train"):
        train_similarity(collection, pairs=file, **QUICK)


def test_descriptors_of_another_model_are_refused(collection, made, tmp_path):
    train_similarity(collection, groups=group_file(tmp_path / "groups.csv", made[1]), **QUICK)
    derived_path(collection.path, VLAD).unlink()
    again = open_collection(collection.path)
    described = describe_collection(again)  # learnt again from the same photos: the same model
    trained_similarity(again, described)
    again.remove([made[1].groups[0][0]])
    derived_path(collection.path, VLAD).unlink()
    with pytest.raises(StampMismatch, match="train a similarity on these"):
        search_by_similarity(again, made[1].groups[1][0])


def test_searching_untrained_says_what_to_do(collection, made):
    with pytest.raises(UsageError, match="run resight fit similarity"):
        search_by_similarity(collection, made[1].groups[0][0])


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
    assert page.read_text().count("<figure>") == 2


def test_the_command_refuses_in_one_sentence(run, collection, tmp_path):
    result = run(tmp_path / "none.resight")
    assert result.exit_code == 2
    result = run(collection.path, "--pairs", tmp_path / "a.csv", "--groups", tmp_path / "a.csv")
    assert result.exit_code == 2


def test_searching_does_not_import_torch():
    code = "import resight.artifacts.similarity, sys; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
