"""What `resight doctor` says, and what `-v` adds."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from resight.cli import app
from resight.version import __version__

run = CliRunner()


def test_versions_extras_threads_and_folders_are_said(monkeypatch, tmp_path):
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "here"))
    done = run.invoke(app, ["doctor", "--json"])
    assert done.exit_code == 0
    facts = {(fact["topic"], fact["name"]): fact for fact in json.loads(done.output)}
    assert facts["version", "resight"]["value"] == __version__
    assert facts["version", "numpy"]["state"] == "ok"
    assert str(tmp_path / "here") in facts["folder", "cache"]["value"]
    assert facts["variable", "RESIGHT_CACHE"]["value"] == str(tmp_path / "here")
    assert {"extra", "threads", "device"} <= {topic for topic, _ in facts}


def test_a_folder_that_cannot_be_written_is_a_problem(monkeypatch, tmp_path):
    import os

    monkeypatch.setenv("RESIGHT_MODELS", str(tmp_path / "closed"))
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path) and may(path, mode))
    assert run.invoke(app, ["doctor"]).exit_code == 1
    facts = json.loads(run.invoke(app, ["doctor", "--json"]).output)
    assert [fact["name"] for fact in facts if fact["state"] == "bad"] == ["models"]


def test_verbose_says_stages_and_artifacts_on_standard_error(world):
    photo = sorted(world.photos.folder.glob("*.jpg"))[0]
    quiet = run.invoke(app, ["search", str(world.path("classic")), str(photo)])
    loud = run.invoke(app, ["-vv", "search", str(world.path("classic")), str(photo)])
    assert quiet.exit_code == loud.exit_code == 0
    assert "SpatialRerank" not in quiet.stderr
    assert "AsmkSearch" in loud.stderr
    assert "INFO resight.collection.open: opened" in loud.stderr
    assert "INFO" not in loud.stdout
