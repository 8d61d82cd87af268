import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from resight.cli import app
from resight.errors import ResightError
from resight.features.checkpoints import catalogue as models
from resight.features.checkpoints.catalogue import KNOWN, KnownModel


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["models", *arguments], env={"COLUMNS": "250"})
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESIGHT_MODELS", str(tmp_path))
    return tmp_path


def test_the_list_names_every_model(folder: Path) -> None:
    (folder / "fire.pth").write_bytes(b"weights")
    lines = run("list").output.splitlines()
    for known in KNOWN:
        assert any(known.name in line for line in lines)
    rows = {line.split()[1]: line for line in lines if line.startswith("│")}
    assert "yes" in rows["fire-resnet50"]
    assert "CC BY-NC-SA 4.0" in rows["fire-resnet50"]
    assert "by hand" in rows["ap-gem-resnet101"]
    assert rows["ap-gem-resnet101"].count("unknown") == 2  # neither size nor checksum is made up
    assert "102.5 MB" in rows["torchvision-resnet50"]
    assert "0676ba61" in rows["torchvision-resnet50"]
    assert "pull" in rows["solar-resnet101"]


def test_the_list_as_json(folder: Path) -> None:
    (folder / "fire.pth").write_bytes(b"weights")
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert rows.keys() == {known.name for known in KNOWN}
    assert rows["fire-resnet50"]["path"] == str(folder / "fire.pth")
    assert rows["solar-resnet101"]["path"] is None
    assert rows["solar-resnet101"]["sha256"] is None


def test_pull(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    asked: list[str] = []

    def fetched(model: KnownModel, place: Path, _progress: object) -> Path:
        asked.append(model.name)
        return place / model.file

    monkeypatch.setattr(models, "fetch", fetched)
    output = run("pull", "solar-resnet101").output
    assert str(folder / "resnet101-solar-best.pth") in output.replace("\n", "")
    assert "licence: MIT" in output
    assert "it was not checked" in output
    assert "not checked" not in run("pull", "torchvision-resnet18").output
    assert json.loads(run("pull", "torchvision-resnet18", "--json").stdout)["path"] == str(
        folder / "resnet18-f37072fd.pth"
    )
    assert asked == ["solar-resnet101", "torchvision-resnet18", "torchvision-resnet18"]


def test_what_cannot_be_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no known model" in run("pull", "nothing", code=2).output
    assert "give it with --weights" in " ".join(run("pull", "ap-gem-resnet101", code=2).output.split())

    def broken(*_arguments: object) -> Path:
        raise ResightError("it broke off")

    monkeypatch.setattr(models, "fetch", broken)
    assert "it broke off" in run("pull", "solar-resnet101", code=1).output
