import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from resight.cli import app
from resight.errors import UsageError
from resight.evaluation.evaluate import evaluate
from resight.evaluation.experiment import Run
from resight.evaluation.submission import write_submission


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """130 index photos and 4 test photos of the challenge, as feature files, without answers."""
    rng = np.random.default_rng(0)
    (tmp_path / "index.csv").write_text("id\n" + "".join(f"{row:016x}\n" for row in range(130)))
    (tmp_path / "test.csv").write_text("id,url\n" + "".join(f"q{row:015x},http\n" for row in range(4)))
    x, q = (rng.normal(size=(n, 8)).astype(np.float32) for n in (130, 4))
    np.savez(tmp_path / "f.npz", X=x, Q=q)
    return Run("gldv2-test", str(tmp_path), "search", features=str(tmp_path / "f.npz"))


def test_the_command_writes_the_first_hundred(run: Run, tmp_path: Path) -> None:
    words = ["evaluate", f"gldv2-test:{tmp_path}", "--features", str(run.features), "--submission", f"{tmp_path}/s.csv"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "4 queries without positives" in done.stdout
    with open(tmp_path / "s.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with np.load(str(run.features)) as arrays:
        order = np.argsort(-(arrays["Q"] @ arrays["X"].T), axis=1)[:, :100]
    assert list(rows[0]) == ["id", "images"]
    assert [row["id"] for row in rows] == [f"q{row:015x}" for row in range(4)]
    assert [row["images"].split() for row in rows] == [[f"{one:016x}" for one in line] for line in order.tolist()]


def test_short_lists_and_ids_that_are_not_unique(run: Run, tmp_path: Path) -> None:
    found = evaluate(replace(run, settings={"k": 3}))
    write_submission(tmp_path / "s.csv", found)
    assert all(len(line.split(",")[1].split()) == 3 for line in (tmp_path / "s.csv").read_text().splitlines()[1:])
    assert found.benchmark is not None
    twice = replace(found, queries=("a/x.jpg", "b/x.jpg", "c.jpg", "d.jpg"))
    with pytest.raises(UsageError, match="1 queries share an id"):
        write_submission(tmp_path / "t.csv", twice)
    with pytest.raises(UsageError, match="no ranking"):
        write_submission(tmp_path / "t.csv", replace(found, benchmark=None))
    assert not (tmp_path / "t.csv").exists()
