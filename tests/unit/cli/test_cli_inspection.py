"""The command `inspect`: recipes, kinds and collections in, pages and folders out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from onnx_factory import write_network
from resight.cli import app
from resight.collection import create_collection
from resight.features.local.context import Context, ContextSettings

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("net") / "net.onnx", channels=12)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(4):
        pixels = np.random.default_rng(seed).integers(0, 256, (96, 128, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def test_a_recipe_over_a_network(photos, network, tmp_path):
    done = run(photos / "0.png", "--recipe", "how", "--backbone", network, "--set", "count=50", "--out", tmp_path / "o")
    assert done.exit_code == 0, done.stderr
    assert "how: 50 features" in done.stdout
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["attention.png", "edges.png", "features.png"]


def test_context_from_a_file(photos, network, tmp_path):
    Context(ContextSettings(12)).save(tmp_path / "context.safetensors")
    context = ("--set", f"context={tmp_path / 'context.safetensors'}", "--at", "10,20")
    asked = ("--recipe", "how", "--backbone", network, *context)
    done = run(photos / "0.png", *asked, "--out", tmp_path / "o.html", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["written"] == [str(tmp_path / "o.html")]
    assert 'id="smoothing"' in (tmp_path / "o.html").read_text()


def test_a_kind_of_features_and_plain_how_beside_it(photos, network, tmp_path):
    done = run(photos / "0.png", "--recipe", "rootsift", "--beside", network, "--out", tmp_path / "o.html")
    assert done.exit_code == 0, done.stderr
    page = (tmp_path / "o.html").read_text()
    assert all(f'id="{name}"' in page for name in ("keypoints", "attention", "features"))


def test_a_collection_brings_its_settings(photos, network, tmp_path):
    parameters = {"backbone": str(network), "features": "rootsift,how", "how.dim": 4, "count": 40, "words": 16}
    create_collection(tmp_path / "c.resight", "classic", parameters).add([photos])
    for photo in ("1.png", photos / "1.png"):
        done = run(photo, "--from", tmp_path / "c.resight", "--out", tmp_path / "o.html", "--json")
        assert done.exit_code == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["photo"] == "1.png"
        assert found["features"]["how"] == 40
        assert 'id="how-attention"' in (tmp_path / "o.html").read_text()


def test_a_report_shows_the_query_from_inside(built, tmp_path):
    asked = ("search", str(built.path), "001-0.jpg", "--report", str(tmp_path / "r.html"))
    sizes = []
    for more in ((), ("--inspect",), ("--inspect", "--box", "10,10,80,80")):
        done = CliRunner().invoke(app, [*asked, *more])
        assert done.exit_code == 0, done.stderr
        page = (tmp_path / "r.html").read_text()
        assert ("Key points: a circle as wide" in page) == bool(more)
        sizes.append(len(page))
    assert sizes[0] < sizes[1]
    done = CliRunner().invoke(app, [*asked[:3], "--inspect"])
    assert done.exit_code == 2
    assert "--report FILE.html" in done.stderr


def test_what_cannot_be(photos, built, tmp_path):
    photo, out = photos / "0.png", ("--out", tmp_path / "o")
    for why, *arguments in (
        ("keeps no local features to look at: choose one of classic", photo, "--recipe", "gem", *out),
        ("recipe 'gemm' keeps no local features", photo, "--recipe", "gemm", *out),
        ("--recipe is empty", photo, "--recipe", "", *out),
        ("local features need one network", photo, "--recipe", "how", *out),
        ("leave out --recipe", photo, "--recipe", "how", "--from", built.path, *out),
        ("neither a file nor the id", "none.png", "--from", built.path, *out),
        ("is not of the form X,Y", photo, "--at", "3", *out),
        ("lies outside", photo, "--at", "300,2", *out),
        ("there is no folder", photo, "--out", tmp_path / "a" / "b"),
        ("is a file: name a folder", photo, "--out", photo),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, done.stdout
        assert why in " ".join(done.stderr.split()), done.stderr
    assert run(tmp_path / "none.png", *out).exit_code == 1
    assert not (tmp_path / "o").exists()
