"""The version stands in two files, as the build needs it without importing the package."""

from __future__ import annotations

import tomllib
from pathlib import Path

import resight
from resight.version import __version__

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_the_project_and_the_package_agree():
    assert tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["version"] == __version__
    assert resight.__version__ == __version__
