"""The commands `train ...`: what they write is indexed and evaluated, and bad input gets one sentence."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from onnx_factory import write_network
from photo_factory import make_photos
from resight.cli import app

torch.set_num_threads(1)
FEW = [word for value in ("side=96", "batch=2", "queries=4", "negatives=2", "rate=0.001", "share=0.4", "every=1")
       for word in ("--set", value)]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    base = tmp_path_factory.mktemp("train")
    photos = make_photos(base / "photos", objects=6)
    write_network(base / "net.onnx", channels=24)
    lines = [f"photos/{name},{number}\n" for number, group in enumerate(photos.groups) for name in group]
    (base / "labels.csv").write_text("photo,label\n" + "".join(lines))
    return base


def run(*arguments, code=0):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def test_a_descriptor_is_trained_indexed_and_searched(made, tmp_path):
    out, page, history = tmp_path / "out.safetensors", tmp_path / "page.html", tmp_path / "epochs.jsonl"
    picture = tmp_path / "picture.jpg"
    told = run("train", "descriptor", made / "labels.csv", "--backbone", made / "net.onnx", "--out", out, "--epochs", 2,
               "--report", page, "--picture", picture, "--history", history, *FEW, "--json")  # fmt: skip
    answer = json.loads(told.stdout)
    assert (answer["recipe"], answer["epochs"], answer["files"]) == ("gem", 2, [str(out)])
    assert 0 < answer["before"] <= 1 >= answer["after"] >= answer["before"]
    assert [json.loads(line)["number"] for line in history.read_text().splitlines()] == [1, 2]
    gain = answer["gain"]
    assert gain["difference"] == pytest.approx(answer["after"] - answer["before"])
    assert gain["low"] <= gain["difference"] <= gain["high"]
    assert picture.exists() == (gain["difference"] != 0)
    text = page.read_text()
    assert "gain, 95 % interval" in text
    assert "mAP before and after" in text
    assert text.count("<img") >= 13  # curves, and three photos of each of four tuples
    run("index", made / "photos", "--to", tmp_path / "c.resight", "--recipe", "gem", "--weights", out,
        "--set", "max_side=96")  # fmt: skip
    found = json.loads(run("search", tmp_path / "c.resight", "000-0.jpg", "--json").stdout)
    assert found["results"][0]["id"].startswith("000-")


def test_local_descriptors_are_trained_and_indexed(made, tmp_path):
    out = tmp_path / "out.safetensors"
    told = run("train", "local", made / "labels.csv", "--recipe", "context", "--backbone", made / "net.onnx", "--out",
               out, "--epochs", 1, *FEW, "--set", "dim=8", "--set", "count=50")  # fmt: skip
    beside = tmp_path / "out-context.safetensors"
    words = " ".join(told.stdout.split())
    assert "was kept: mAP of the photos held back" in words
    assert beside.is_file()
    run("index", made / "photos", "--to", tmp_path / "c.resight", "--recipe", "how", "--weights", out, "--set",
        f"context={beside}", "--set", "max_side=96", "--set", "enlarge_below=0")  # fmt: skip
    found = json.loads(run("search", tmp_path / "c.resight", "000-0.jpg", "--json").stdout)
    assert found["results"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--recipe", "how"], "cannot be trained as descriptor: choose one of gem"),
        (["--set", "colour=1"], "no setting 'colour'"),
        (["--set", "pool=1"], "fewer negatives"),
        (["--device", "abacus"], "cannot be used"),
        (["--precision", "float8"], "give auto, float32 or bfloat16"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(made, tmp_path, arguments, said):
    done = run("train", "descriptor", made / "labels.csv", "--backbone", made / "net.onnx", "--out", tmp_path / "x",
               *FEW, *arguments, code=2)  # fmt: skip
    assert said in " ".join(done.output.split())
    assert list(tmp_path.iterdir()) == []


def test_networks_and_data_are_needed(made, tmp_path):
    out = tmp_path / "x"
    done = run("train", "descriptor", "--backbone", made / "net.onnx", "--out", out, code=2)
    assert "give DATA, or --from NAME.resight" in " ".join(done.output.split())
    done = run("train", "descriptor", made / "labels.csv", "--out", out, code=2)
    assert "give --backbone FILE.onnx, or --weights" in " ".join(done.output.split())
    done = run("train", "local", made / "none.csv", "--backbone", made / "net.onnx", "--out", out, code=2)
    assert "there is no" in " ".join(done.output.split())
    done = run("train", "local", made, "--backbone", made / "net.onnx", "--out", tmp_path / "a" / "b", code=2)
    assert "no folder" in " ".join(done.output.split())
