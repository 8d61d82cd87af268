"""The Dockerfile and the systemd unit hold what they promise."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from resight.cli import app

ROOT = Path(__file__).parents[3]
INSTRUCTIONS = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL",
                "ENTRYPOINT", "CMD"}  # fmt: skip


def instructions():
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [line.split(None, 1) for line in text.splitlines() if line.strip()]


def options():
    return {name for parameter in get_command(app).commands["serve"].params for name in parameter.opts}


def test_the_dockerfile_is_of_known_instructions_and_copies_what_is_there():
    lines = instructions()
    assert {name for name, _ in lines} <= INSTRUCTIONS
    for name, rest in lines:
        if name == "COPY" and "--from" not in rest:
            ignored = (ROOT / ".dockerignore").read_text().split()
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source.removeprefix('./')}" in ignored, source


def test_the_container_runs_the_service_as_a_user_with_keys_from_pinned_images():
    lines = instructions()
    assert all(re.search(r"python:3\.\d+-slim-\w+", rest) for name, rest in lines if name == "FROM")
    assert [rest for name, rest in lines if name == "USER"] == ["resight"]
    (entry,) = [rest for name, rest in lines if name == "ENTRYPOINT"]
    words = re.findall(r'"([^"]*)"', entry)
    assert words[:2] == ["resight", "serve"]
    assert {word for word in words if word.startswith("--")} <= options()
    assert "--keys" in words


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker is not installed")
def test_docker_takes_the_dockerfile():
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("docker does not run here")
    done = subprocess.run(["docker", "build", "--check", ROOT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_systemd_unit_of_the_docs_starts_the_service():
    text = (ROOT / "docs" / "serve.md").read_text()
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string(re.search(r"```ini\n(.*?)```", text, re.S)[1])
    words = shlex.split(unit["Service"]["ExecStart"])
    assert words[1] == "serve"
    assert {word for word in words if word.startswith("--")} <= options()
    assert unit["Service"]["NoNewPrivileges"] == "yes"
