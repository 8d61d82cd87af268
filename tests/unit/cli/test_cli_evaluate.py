import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from photo_factory import SMALL, picture, save, view
from resight.cli import app
from resight.cli.evaluate import settings
from resight.errors import UsageError


def resight(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def words(result: Result) -> str:
    """The output with its line breaks gone: tables and messages wrap at the width of the terminal."""
    return " ".join(result.output.split())


@pytest.fixture
def holidays(tmp_path: Path) -> tuple[Path, Path]:
    """A list of eight names and their descriptors: two of four queries find their other photo first."""
    names = [f"1{group:03d}0{photo}.jpg" for group in range(4) for photo in range(2)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    x = np.repeat(np.eye(4, 6, dtype=np.float32), 2, axis=0)
    x[5], x[7] = -x[4], -x[6]
    np.save(tmp_path / "x.npy", x)
    return tmp_path / "names.txt", tmp_path / "x.npy"


def test_a_feature_file_is_scored(holidays: tuple[Path, Path], tmp_path: Path) -> None:
    names, x = holidays
    printed = words(resight("evaluate", f"holidays:{names}", "--features", x, "--html", tmp_path / "p.html"))
    assert f"{(2 + 2 / 7) / 4:.3f}" in printed
    assert "protocol: rectangle AP; whole queries" in printed
    assert "8 images, 4 queries" in printed
    assert "Worst queries" in (tmp_path / "p.html").read_text()


def test_json_and_comparison(holidays: tuple[Path, Path], tmp_path: Path) -> None:
    names, x = holidays
    first = resight("evaluate", f"holidays:{names}", "--features", x, "--json").stdout
    (tmp_path / "first.json").write_text(first)
    content = json.loads(first)
    assert content["systems"][0]["scores"]["plain"]["per_query"] == pytest.approx([1, 1, 1 / 7, 1 / 7])
    better = np.repeat(np.eye(4, 6, dtype=np.float32), 2, axis=0)
    np.save(x, better)
    arguments = ("evaluate", f"holidays:{names}", "--features", x, "--against", tmp_path / "first.json")
    assert "plain: +0.4286 against the earlier result" in words(resight(*arguments))
    comparison = json.loads(resight(*arguments, "--json").stdout)["comparison"]["plain"]
    assert comparison["difference"] == pytest.approx(3 / 7)
    (tmp_path / "other.txt").write_text("100000.jpg\n100001.jpg\n")
    np.save(x, better[:2])
    arguments = ("evaluate", f"holidays:{tmp_path}/other.txt", "--features", x, "--against", tmp_path / "first.json")
    assert "cannot be compared" in words(resight(*arguments, code=2))


def test_photos_are_scored_stage_by_stage(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / "p" / str(number)).mkdir(parents=True)
        for k in range(2):
            save(tmp_path / "p" / str(number) / f"{k}.jpg", view(picture(number), k))
    pairs = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    printed = words(resight("evaluate", f"folders:{tmp_path}/p", *pairs, "--cache", tmp_path / "c"))
    for expected in ("AsmkSearch", "+ SpatialRerank", "1.000", "4 images, 4 queries"):
        assert expected in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mars:x",), "is not NAME:PATH with a known name"),
        (("holidays",), "is not NAME:PATH"),
        (("holidays:absent",), "absent does not exist"),
        (("folders:.", "--recipe", "magic"), "recipe 'magic' is unknown"),
        (("folders:.", "--set", "binary"), "not of the form KEY=VALUE"),
        (("folders:.", "--html", "absent/page.html"), "there is no folder"),
        (("folders:.", "--against", "absent.json"), "is not a result of resight evaluate"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments: tuple[str, ...], message: str) -> None:
    result = resight("evaluate", *arguments, code=2)
    assert message in words(result)
    assert "Traceback" not in result.output


def test_settings_are_yaml() -> None:
    assert settings(["a=false", "b = 0.5", "c=8192"]) == {"a": False, "b": 0.5, "c": 8192}
    with pytest.raises(UsageError, match="no value"):
        settings(["a=["])


def test_benchmarks_are_listed(tmp_path: Path) -> None:
    (tmp_path / "holidays").mkdir()
    (tmp_path / "holidays" / "100000.jpg").touch()
    printed = words(resight("benchmarks", "--data", tmp_path))
    assert "roxford5k" in printed
    assert "your photos" in printed
    rows = {row["name"]: row for row in json.loads(resight("benchmarks", "--data", tmp_path, "--json").stdout)}
    assert rows["holidays"]["photos"] == rows["holidays"]["images"] == 1
    assert rows["instre"]["path"] is None
    assert rows["instre"]["place"] == f"{tmp_path}/ground_truth/gnd_instre.mat"


@pytest.mark.usefixtures("holidays")
def test_reproduce_prints_verdicts_and_writes_the_matrix(tmp_path: Path) -> None:
    rows = [
        {"name": name, "recipe": "search", "features": file, "published": {"mAP": 57.1}}
        for name, file in (("good", "x.npy"), ("absent", "y.npy"))
    ]
    columns = {"mAP": {"benchmark": "holidays", "path": "names.txt"}}
    table = {"table": "T", "title": "t", "source": "s", "tolerance": 0.1, "columns": columns, "rows": rows}
    (tmp_path / "T.yaml").write_text(yaml.safe_dump(table))
    fixed = ("--tables", tmp_path, "--data", tmp_path, "--html", tmp_path / "m.html", "--cache", tmp_path / "c")
    printed = words(resight("reproduce", "t", *fixed))
    assert f"missing for 1 score: {tmp_path}/y.npy" in printed
    assert "1 OK, 0 CLOSE, 0 FAIL, 1 MISSING" in printed
    assert "57.14" in (tmp_path / "m.html").read_text()
    content = json.loads(resight("reproduce", "T", "good", *fixed, "--json").stdout)
    assert [(cell["status"], cell["row"]) for cell in content] == [("OK", "good")]
    table["rows"] = [{**rows[0], "published": {"mAP": 90}}]
    (tmp_path / "T.yaml").write_text(yaml.safe_dump(table))
    assert "1 FAIL" in words(resight("reproduce", *fixed, code=1))
    assert "choose among" in words(resight("reproduce", "Q", *fixed, code=2))
