import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from resight.cli import app
from resight.errors import UsageError
from resight.evaluation.evaluate import evaluate
from resight.evaluation.experiment import Run
from resight.evaluation.study import run_study


@pytest.fixture
def run(tmp_path: Path) -> Run:
    rng = np.random.default_rng(0)
    x = (np.repeat(rng.normal(size=(8, 16)), 4, axis=0) + 2.0 * rng.normal(size=(32, 16))).astype(np.float32)
    np.save(tmp_path / "x.npy", x / np.linalg.norm(x, axis=1, keepdims=True))
    (tmp_path / "labels.txt").write_text("".join(f"{row}.jpg {row // 4}\n" for row in range(32)))
    features = str(tmp_path / "x.npy")
    return Run("landmarks", str(tmp_path / "labels.txt"), "separation", {"epochs": 2, "k": 3}, features=features)


def test_every_value_is_a_run_of_its_own(run: Run, tmp_path: Path) -> None:
    found = run_study(run, "layers", [1, 2, 3], cache=tmp_path / "cache")
    assert found.values == (1.0, 2.0, 3.0)
    alone = evaluate(Run(**{**run.__dict__, "settings": {**run.settings, "layers": 2}}))
    assert found.scores["plain"][1] == (2.0, pytest.approx(100 * alone.final.scores["plain"].map))
    assert len({score for _, score in found.scores["plain"]}) > 1
    assert all(seconds > 0 for _, seconds in found.seconds)


def test_the_command_prints_and_draws(run: Run, tmp_path: Path) -> None:
    words = ["bench", "study", f"landmarks:{run.path}", "--recipe", "separation", "--features", str(run.features)]
    words += [
        "--vary",
        "layers=[1,2]",
        "--set",
        "epochs=2",
        "--out",
        f"{tmp_path}/s.png",
        "--time",
        f"{tmp_path}/t.png",
    ]
    done = CliRunner().invoke(app, [*words, "--cache", str(tmp_path / "cache")])
    assert done.exit_code == 0, done.output
    assert "seconds" in done.stdout
    for name in ("s.png", "t.png"):
        with Image.open(tmp_path / name) as picture:
            assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 20
    said = json.loads(CliRunner().invoke(app, [*words, "--cache", str(tmp_path / "cache"), "--json"]).stdout)
    assert [value for value, _ in said["scores"]["plain"]] == [1, 2]


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("layers", [1], "at least two"),
        ("layers", 3, "at least two"),
        ("layers", [1, True], "not all numbers"),
        ("k", [1, 2], "given and varied"),
        ("leyers", [1, 2], "no option 'leyers'"),
        ("layers", [1, 0.5], "layers=0.5 is not a whole number"),
    ],
)
def test_what_cannot_be_studied(run: Run, name: str, values: object, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        run_study(run, name, values)  # type: ignore[arg-type]
