"""Ranked lists and descriptors that other tools wrote by name."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from resight.cli import app
from resight.errors import ArrayError, UsageError
from resight.evaluation.evaluate import evaluate
from resight.evaluation.experiment import Run
from resight.evaluation.named import find_names

NAMES = [f"1{group:03d}0{photo}.jpg" for group in range(4) for photo in range(2)]


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """Eight images, four queries with one right answer each."""
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    return tmp_path / "names.txt"


def test_lists_are_scored_as_they_are(names: Path, tmp_path: Path) -> None:
    lines = ["100000.jpg 100001.jpg", "db/100100 100300.jpg", "100100.jpg x/100101.png", "100200.jpg 100000.jpg"]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    run = Run("holidays", str(names), "lists", lists=str(tmp_path / "pairs.txt"))
    found = evaluate(run)
    assert found.final.scores["plain"].ap.tolist() == [1, 0.5, 0, 0]
    assert found.notes == (f"1 queries have no list in {tmp_path}/pairs.txt: they find nothing",)
    arguments = ["evaluate", f"holidays:{names}", "--lists", str(tmp_path / "pairs.txt"), "--json"]
    content = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert content["systems"][-1]["scores"]["plain"]["mean"] == 0.375
    assert content["command"].endswith(f"--lists {tmp_path}/pairs.txt")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("100000.jpg", "1 lines do not hold two names, the first is line 1"),
        ("100000.jpg nobody.jpg", "1 names are not in the benchmark: nobody.jpg"),
        ("100001.jpg 100000.jpg", "1 names are not in the benchmark: 100001.jpg"),  # no query
        ("100000.jpg 100001.jpg\n100000.jpg 100001.jpg", "the same row twice"),
    ],
)
def test_lists_that_do_not_fit(text: str, says: str, names: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises((UsageError, ArrayError), match=says):
        evaluate(Run("holidays", str(names), "lists", lists=str(tmp_path / "pairs.txt")))


def test_options_that_exclude_each_other(names: Path) -> None:
    for run in (Run("holidays", str(names), "lists"), Run("holidays", str(names), lists="x")):
        with pytest.raises(UsageError, match="stand together"):
            evaluate(run)
    with pytest.raises(UsageError, match="ranked already"):
        evaluate(Run("holidays", str(names), "lists", lists="x", features="y"))


def write(path: Path, vectors: Any, names: list[str]) -> Path:
    with h5py.File(path, "w") as file:
        for name, vector in zip(names, vectors, strict=True):
            file.create_group(name)["global_descriptor"] = vector
    return path


def test_descriptors_of_hloc_are_found_by_name(names: Path, tmp_path: Path) -> None:
    vectors = np.repeat(np.eye(4, 6, dtype=np.float32), 2, axis=0)
    shuffled = [3, 0, 7, 1, 2, 5, 4, 6]
    path = write(tmp_path / "x.h5", vectors[shuffled].astype(np.float16), [f"db/{NAMES[k]}" for k in shuffled])
    assert evaluate(Run("holidays", str(names), "search", features=str(path))).final.scores["plain"].map == 1
    write(tmp_path / "few.h5", vectors[:3], NAMES[:3])
    with pytest.raises(UsageError, match="5 names are not in the file: 100101"):
        evaluate(Run("holidays", str(names), "search", features=str(tmp_path / "few.h5")))
    write(tmp_path / "odd.h5", [v[: 3 + k] for k, v in enumerate(vectors[:2])], NAMES[:2])
    with pytest.raises(UsageError, match="of one length"):
        evaluate(Run("holidays", str(names), "search", features=str(tmp_path / "odd.h5")))


def test_names_that_fit_several() -> None:
    known = ["a/1.jpg", "b/1.jpg", "c/2.jpg"]
    assert find_names(Path("x"), ["b/1.jpg", "a/1", "z/2.png"], known) == [1, 0, 2]
    with pytest.raises(UsageError, match=r"1 names fit several images of the benchmark: 1.jpg"):
        find_names(Path("x"), ["1.jpg"], known)
