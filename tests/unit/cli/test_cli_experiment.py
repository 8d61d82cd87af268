from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from resight.cli import app

RUN = CliRunner()


@dataclass(frozen=True)
class Work:
    folder: Path
    file: Path


@pytest.fixture
def work(tmp_path):
    """Two groups of two photos, their descriptors, and an experiment on them."""
    rng = np.random.default_rng(0)
    for group in ("a", "b"):
        (tmp_path / "photos" / group).mkdir(parents=True)
        for number in range(2):
            pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / group / f"{number}.png")
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32)
    np.save(tmp_path / "folders.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    file = tmp_path / "systems.yaml"
    file.write_text(
        f"benchmarks: ['folders:{tmp_path / 'photos'}']\n"
        "baseline: plain\n"
        "systems:\n"
        f"  plain: {{recipe: search, features: '{tmp_path}/{{benchmark}}.npy'}}\n"
        f"  expanded: {{recipe: average-expansion, settings: {{n: 1}}, features: '{tmp_path}/{{benchmark}}.npy'}}\n"
    )
    return Work(tmp_path, file)


def invoke(work: Work, *arguments: str):
    return RUN.invoke(app, ["experiment", str(work.file), "--cache", str(work.folder / "cache"), *arguments])


def test_every_format_says_the_same(work):
    found = json.loads(invoke(work, "--json").stdout)
    assert "plain" in json.dumps(found)
    assert "| plain | 100.0 |" in invoke(work, "--format", "markdown").stdout
    assert "| expanded | 100.0 |" in invoke(work).stdout
    assert "plain" in invoke(work, "--format", "csv").stdout.splitlines()[1]
    assert "tabular" in invoke(work, "--format", "latex").stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "must be a mapping"),
        ("systems: {a: {recipe: search}}", "lacks 'benchmarks'"),
        ("benchmarks: [x]\nsystems: {a: {recipe: search}}", "list of NAME:PATH"),
        ("benchmarks: ['a:b']\nsystems: {a: {}}", "must be a mapping that holds something"),
        ("benchmarks: ['a:b']\nsystems: {a: {settings: {}}}", "lacks 'recipe'"),
        ("benchmarks: ['a:b']\nsystems: {a: {recipe: search, settnigs: {}}}", "unknown key 'settnigs'"),
        ("benchmarks: [", "cannot be read as an experiment"),
    ],
)
def test_files_that_are_no_experiment(work, text, message):
    work.file.write_text(text)
    refused = invoke(work)
    assert refused.exit_code == 2
    assert message in refused.output


def test_unknown_formats_and_files(work):
    assert "--format xls" in invoke(work, "--format", "xls").output
    missing = RUN.invoke(app, ["experiment", str(work.folder / "none.yaml")])
    assert missing.exit_code == 2
    assert "none.yaml" in missing.output
