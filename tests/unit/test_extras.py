"""What resight does where the packages of an extra are not installed."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from resight.errors import MissingExtra, UsageError
from resight.extras import EXTRAS, needed, remedy

WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({absent!r}))  # as if they were not installed
from resight.cli import main
main()
"""


def run_without(absent: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    code = WITHOUT.format(absent=absent)
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_a_package_of_an_extra_is_named_with_its_remedy():
    with pytest.raises(MissingExtra, match=r"this needs torch.*pip install 'resight\[learned\]'"), needed("this"):
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
    assert issubclass(MissingExtra, UsageError)


def test_other_missing_modules_stay_what_they_are():
    assert remedy("this", ModuleNotFoundError("no", name="resight.nowhere")) is None
    with pytest.raises(ModuleNotFoundError, match="nowhere"), needed("this"):
        raise ModuleNotFoundError("No module named 'nowhere'", name="nowhere")


def test_every_extra_stands_in_the_project():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(EXTRAS.values()) <= set(project["optional-dependencies"])
    assert not [need for need in project["dependencies"] if need.startswith("torch")]


def test_classic_works_without_any_extra(tmp_path, world):
    photos = sorted(world.photos.folder.glob("*.jpg"))[:6]
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in photos:
        shutil.copy(photo, folder)
    absent = tuple(EXTRAS)
    name = str(tmp_path / "x.resight")
    search = ["search", name, str(folder / photos[0].name)]
    for command in (["index", str(folder), "--to", name], search, ["info", name], ["models", "list"], ["doctor"]):
        done = run_without(absent, *command)
        assert done.returncode == 0, done.stderr
    refused = run_without(absent, "fit", "separation", name)
    assert refused.returncode == 2
    assert "pip install 'resight[learned]'" in refused.stderr
    assert "Traceback" not in refused.stderr
