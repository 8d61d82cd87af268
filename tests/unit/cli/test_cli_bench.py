from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

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
    return RUN.invoke(app, ["bench", "compare", str(work.file), "--cache", str(work.folder / "cache"), *arguments])


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
        ("benchmarks: &a ['a:b']\nsystems: *a", "uses an alias"),
        ("benchmarks: ['a:b']\nsystems: {a: {recipe: 3}}", "recipe: 3, which must be text"),
        ("benchmarks: ['a:b']\nsystems: {a: {recipe: search, stages: true}}", "must be a whole number"),
        ("benchmarks: ['a:b']\nsystems: {a: {recipe: search, settings: [1]}}", "must be a mapping"),
        ("benchmarks: ['a:b']\nsystems: {a: {recipe: search, features: '{benchmark:>999999999999}'}}", "a:b"),
    ],
)
def test_files_that_are_no_experiment(work, text, message):
    work.file.write_text(text)
    refused = invoke(work)
    assert refused.exit_code == 2
    assert message in refused.output


def test_unknown_formats_and_files(work):
    assert "--format xls" in invoke(work, "--format", "xls").output
    missing = RUN.invoke(app, ["bench", "compare", str(work.folder / "none.yaml")])
    assert missing.exit_code == 2
    assert "none.yaml" in missing.output


def resight(*arguments: object, code: int = 0) -> Result:
    result = RUN.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def words(result: Result) -> str:
    """The output with its line breaks gone: tables and messages wrap at the width of the terminal."""
    return " ".join(result.output.split())


def test_benchmarks_are_listed(tmp_path: Path) -> None:
    (tmp_path / "holidays").mkdir()
    (tmp_path / "holidays" / "100000.jpg").touch()
    printed = words(resight("bench", "list", "--data", tmp_path))
    assert "roxford5k" in printed
    assert "your photos" in printed
    rows = {row["name"]: row for row in json.loads(resight("bench", "list", "--data", tmp_path, "--json").stdout)}
    assert rows["holidays"]["photos"] == rows["holidays"]["images"] == 1
    assert rows["instre"]["path"] is None
    assert rows["instre"]["place"] == f"{tmp_path}/ground_truth/gnd_instre.mat"


def test_reproduce_prints_verdicts_and_writes_the_matrix(tmp_path: Path) -> None:
    names = [f"1{group:03d}0{photo}.jpg" for group in range(4) for photo in range(2)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    x = np.repeat(np.eye(4, 6, dtype=np.float32), 2, axis=0)
    x[5], x[7] = -x[4], -x[6]
    np.save(tmp_path / "x.npy", x)
    rows = [
        {"name": name, "recipe": "search", "features": file, "published": {"mAP": 57.1}}
        for name, file in (("good", "x.npy"), ("absent", "y.npy"))
    ]
    columns = {"mAP": {"benchmark": "holidays", "path": "names.txt"}}
    table = {"table": "T", "title": "t", "source": "s", "tolerance": 0.1, "columns": columns, "rows": rows}
    (tmp_path / "T.yaml").write_text(yaml.safe_dump(table))
    fixed = ("--tables", tmp_path, "--data", tmp_path, "--report", tmp_path / "m.html", "--cache", tmp_path / "c")
    printed = words(resight("bench", "reproduce", "t", *fixed))
    assert f"missing for 1 score: {tmp_path}/y.npy" in printed
    assert "1 OK, 0 CLOSE, 0 FAIL, 1 MISSING" in printed
    assert "57.14" in (tmp_path / "m.html").read_text()
    content = json.loads(resight("bench", "reproduce", "T", "good", *fixed, "--json").stdout)
    assert [(cell["status"], cell["row"]) for cell in content] == [("OK", "good")]
    table["rows"] = [{**rows[0], "published": {"mAP": 90}}]
    (tmp_path / "T.yaml").write_text(yaml.safe_dump(table))
    assert "1 FAIL" in words(resight("bench", "reproduce", *fixed, code=1))
    assert "choose among" in words(resight("bench", "reproduce", "Q", *fixed, code=2))
