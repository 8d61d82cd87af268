"""The commands `fit ...` and `label`: each keeps what it learns, writes its page, and refuses in one sentence."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from onnx_factory import write_network
from photo_factory import SMALL, make_photos
from resight.cli import app
from resight.collection import create_collection, open_collection
from resight.matching.similarity import load_similarity
from resight.training.similarity import Options

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A hybrid collection of 8 objects, and files of examples for it."""
    base = tmp_path_factory.mktemp("fit")
    photos = make_photos(base / "photos", objects=8)
    network = write_network(base / "net.onnx", channels=24)
    settings = {**SMALL, "backbone": str(network), "scales": [1.0], "whiten": "none"}
    create_collection(base / "c.resight", "hybrid", settings).add([photos.folder])
    groups = [(id_, str(number)) for number, group in enumerate(photos.groups) for id_ in group]
    (base / "groups.csv").write_text("id,group\n" + "".join(f"{id_},{group}\n" for id_, group in groups))
    pairs = [f"{group[0]},{group[1]}\n" for group in photos.groups]
    (base / "pairs.csv").write_text("left,right\n" + "".join(pairs))
    (base / "labels.csv").write_text("photo,label\n" + "".join(f"photos/{id_},{group}\n" for id_, group in groups))
    return base


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "all")
    return tmp_path / "all"


def run(folder, *arguments, code=0):
    words = [str(argument).replace("{}", str(folder)) for argument in arguments]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code, done.output
    return done


def said(folder, *arguments):
    return json.loads(run(folder, *arguments, "--json").stdout)


def test_whitening(folder):
    fit = ("fit", "whitening", "{}/c.resight")
    assert said(folder, *fit)["method"] == "zca"
    assert said(folder, *fit, "--groups", "{}/groups.csv")["method"] == "learned"
    assert said(folder, *fit, "--pairs", "{}/pairs.csv", "--dim", 6)["dim"] == 6
    assert "adapt" in said(folder, *fit, "--pairs", "{}/pairs.csv", "--method", "adapted")["method"]
    assert said(folder, *fit, "--method", "pca", "--dim", 5, "--out", "{}/w.safetensors")["dim"] == 5
    assert "zca" in run(folder, *fit).stdout
    assert said(folder, *fit, "--from", "{}/w.safetensors")["dim"] == 5
    assert said(folder, "info", "{}/c.resight")["dim"] == 5


def test_fusion(folder):
    fit = ("fit", "fusion", "{}/c.resight")
    by_pairs, by_groups = (said(folder, *fit, f"--{kind}", f"{{}}/{kind}.csv") for kind in ("pairs", "groups"))
    assert (by_pairs["matches"], by_pairs["source"]) == (16, "given pairs")
    assert by_groups["matches"] == 48
    assert said(folder, *fit)["source"] == "photos that geometry proves to match"
    assert "counts" in run(folder, *fit).stdout


def test_separation(folder):
    fit = ("fit", "separation", "{}/c.resight")
    first = run(folder, *fit, "--epochs", 3, "--report", "{}/page.html")
    assert "24 photos with separated descriptors" in first.stdout
    assert (folder / "page.html").read_text().count("<figure") == 8
    again = said(folder, *fit)
    assert again["photos"] == 24
    assert again["drift"] == {"new": 0, "gone": 0, "share": 0.0, "shift": 0.0, "retrain": ""}
    proven = said(folder, *fit, "--retrain", "--verified", "--epochs", 1, "--report", "{}/proven.html")
    assert proven["verified"]
    assert "edges that geometry proves are green" in (folder / "proven.html").read_text()
    assert said(folder, "search", "{}/c.resight", "000-0.jpg", "--recipe", "separation")["results"]


def test_similarity(folder, monkeypatch):
    monkeypatch.setattr("resight.fitting.similarity.COSINE", Options(epochs=1, batch=1000))
    fit = ("fit", "similarity", "{}/c.resight", "--groups", "{}/groups.csv", "--epochs", 1)
    answer = said(folder, *fit, "--out", "{}/s.safetensors", "--report", "{}/page.html")
    assert answer["matching"] == 48
    assert set(answer["right_order"]) == {"cosine", "DeepCosine", "DeepSim", "DeepSimH"}
    assert (folder / "s.safetensors").exists()
    assert (folder / "page.html").read_text().count("<figure") == 2
    assert "a quarter of the groups was held back" in run(folder, *fit).stdout
    answer = said(folder, *fit, "--keep", "DeepCosine", "--out", "{}/cosine.safetensors")
    assert answer["kept"] == "DeepCosine"
    stored = open_collection(folder / "c.resight").snapshot.similarity
    kept, vectors = load_similarity(folder / "cosine.safetensors"), np.eye(2, 24, dtype=np.float32)
    np.testing.assert_array_equal(stored.score(vectors, vectors), kept.score(vectors, vectors))
    assert said(folder, "search", "{}/c.resight", "000-0.jpg", "--recipe", "deep-similarity")["results"]
    assert "no stage 'DeepSin' to keep" in run(folder, *fit, "--keep", "DeepSin", code=2).output


def test_labels(folder):
    assert said(folder, "label", "{}/c.resight", "{}/labels.csv") == {"labelled": 24, "problems": []}
    assert "24 photos with labels beside it" in run(folder, "label", "{}/c.resight", "{}/labels.csv").stdout


def test_labels_that_geometry_names_stand_beside_those_of_the_vote(folder):
    run(folder, "label", "{}/c.resight", "{}/labels.csv")
    assert open_collection(folder / "c.resight").snapshot.training.index_labels.shape == (24, 1)
    run(folder, "label", "{}/c.resight", "{}/labels.csv", "--verified")
    snapshot = open_collection(folder / "c.resight").snapshot
    assert snapshot.training.index_labels.shape == (24, 2)
    true = dict(line.split(",") for line in (folder / "groups.csv").read_text().splitlines()[1:])
    own = [{int(true[snapshot.photo(row)["id"]])} for row in snapshot.descriptors.rows.tolist()]
    assert all(mine <= set(both.tolist()) for mine, both in zip(own, snapshot.training.index_labels, strict=True))
    run(folder, "graph", "build", "{}/c.resight", "--k", "5")
    search = ("search", "{}/c.resight", "000-0.jpg", "--recipe", "semi-supervised", "--set", "k=5")
    for bridges in ("true", "false"):
        found = said(folder, *search, "--set", f"bridges={bridges}")["results"]
        assert {result["id"] for result in found} <= set(true)
        assert len(found) > 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("fit", "whitening", "{}/c.resight", "--method", "best"), "method 'best' is unknown"),
        (("fit", "whitening", "{}/c.resight", "--method", "learned"), "--pairs FILE or --groups FILE"),
        (("fit", "whitening", "{}/c.resight", "--from", "w", "--dim", "3"), "leave out the options of the fit"),
        (("fit", "fusion", "{}/c.resight", "--pairs", "a", "--groups", "b"), "give --pairs or --groups, not both"),
        (("fit", "similarity", "{}/c.resight", "--pairs", "a", "--groups", "b"), "not both"),
        (("fit", "similarity", "{}/c.resight", "--pairs", "{}/none.csv"), "none.csv cannot be read"),
        (("fit", "fusion", "{}/c.resight", "--pairs", "{}/groups.csv"), "must name the columns, left,right"),
        (("fit", "separation", "{}/c.resight", "--report", "{}/no/page.html"), "there is no folder"),
        (("fit", "similarity", "{}/none.resight"), "does not exist"),
        (("label", "{}/c.resight", "{}/groups.csv"), "must name the columns, photo,label"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_fitted(made, arguments, sentence):
    assert sentence in run(made, *arguments, code=2).stderr
