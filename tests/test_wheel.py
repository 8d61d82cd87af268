"""The wheel alone, in an empty environment: what a user gets from `pip install resight`."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import types
import venv
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_what_a_package_index_shows_has_no_link_that_leads_nowhere():
    spec = importlib.util.spec_from_file_location("hatch_build", PROJECT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:  # the interface that only a build has
        interface = types.ModuleType("hatchling.metadata.plugin.interface")
        interface.MetadataHookInterface = object
        patch.setitem(sys.modules, "hatchling.metadata.plugin.interface", interface)
        spec.loader.exec_module(module)
    shown = module.without_local_links((PROJECT / "README.md").read_text(encoding="utf-8"))
    assert re.findall(r"\]\((?!https?://|#)", shown) == []
    assert "Quick start" in shown
    assert module.without_local_links("[a](b.md) [c](https://d.e/) ![f](g.jpg)\nh") == "a [c](https://d.e/) h"


@pytest.mark.slow
def test_the_wheel_alone_runs_the_demonstration_without_torch(tmp_path):
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, PROJECT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("resight-*.whl")
    venv.create(tmp_path / "bare", with_pip=True)
    python = tmp_path / "bare" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[demo]", cwd=tmp_path)
    resight = tmp_path / "bare" / "bin" / "resight"
    outcome = json.loads(run(resight, "demo", "--to", "out", "--json", cwd=tmp_path))
    assert outcome["map"] > 0.95
    assert Path(tmp_path / outcome["report"]).is_file()
    facts = {fact["name"]: fact["state"] for fact in json.loads(run(resight, "doctor", "--json", cwd=tmp_path))}
    assert facts["learned: torch"] == "note"
    assert "bad" not in facts.values()


def test_the_documentation_builds_without_a_warning(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "site" / "python" / "index.html").read_text(encoding="utf-8").count("<h2") > 10
