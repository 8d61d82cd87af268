import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from photo_factory import SMALL, picture, save, view
from resight.cli import app


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
    printed = words(resight("evaluate", f"holidays:{names}", "--features", x, "--report", tmp_path / "p.html"))
    assert f"{100 * (2 + 2 / 7) / 4:.1f}" in printed
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
    assert "plain: +42.9 against the earlier result" in words(resight(*arguments))
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
    printed = words(resight("evaluate", f"folders:{tmp_path}/p", *pairs, "--cache", tmp_path / "c",
                             "--failures", tmp_path / "f.html"))  # fmt: skip
    for expected in ("AsmkSearch", "+ SpatialRerank", "100.0", "4 images, 4 queries"):
        assert expected in printed
    assert "0 of 4 right photos missed, in 0 queries: 0 no candidate, 0 not proven" in printed
    assert "What classic missed on folders" in (tmp_path / "f.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mars:x",), "is not NAME:PATH with a known name"),
        (("holidays",), "is not NAME:PATH"),
        (("holidays:absent",), "absent does not exist"),
        (("folders:.", "--recipe", "magic"), "recipe 'magic' is unknown"),
        (("folders:.", "--set", "binary"), "not of the form KEY=VALUE"),
        (("folders:.", "--report", "absent/page.html"), "there is no folder"),
        (("folders:.", "--against", "absent.json"), "is not a result of resight evaluate"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments: tuple[str, ...], message: str) -> None:
    result = resight("evaluate", *arguments, code=2)
    assert message in words(result)
    assert "Traceback" not in result.output
