"""Every command of every page is right, and runs: each page from its first to its last command, in one folder."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest
from docs_names import COMPILED, reason
from docs_pages import PAGES, ROOT, Command, commands, programs
from docs_run import CANNOT, Page, check, parsed

OURS = {page: [one for one in commands(page) if one.words[0] == "resight"] for page in PAGES}
EVERY = [one for page in PAGES for one in commands(page)]
# Pages that take longer than a few seconds: trainings, local features of networks, several collections.
SLOW = {"README.md"} | {
    f"docs/{name}.md"
    for name in (
        "aliked", "ap-gem", "classic", "context", "delf", "delg", "explore-exploit", "fire", "hessian-affine", "how",
        "hybrid", "index", "learned-similarity", "quickstart", "report", "reproduction", "separation", "training",
    )
}  # fmt: skip


def of(program: str) -> list[Command]:
    return [one for one in EVERY if one.words[0] == program]


@pytest.mark.parametrize("command", [one for page in OURS.values() for one in page], ids=str)
def test_a_command_is_right(command):
    check(command)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW)) for page in PAGES if OURS[page] or programs(page)],
)
def test_a_page_runs(page, scratch, tmp_path, monkeypatch):
    shutil.copytree(scratch, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RESIGHT_DATA", raising=False)
    Page(page).read()


def test_what_cannot_run_is_in_use():
    """The tables hold nothing that no page has any more."""
    assert {parsed(one)[0] for page in OURS.values() for one in page} >= set(CANNOT)
    blocks = [(page, block.text) for page in PAGES for block in programs(page)]
    assert sum(reason(*one) is not None for one in blocks) == len(COMPILED)


@pytest.mark.parametrize("command", of("python"), ids=str)
def test_scripts_and_their_options_exist(command):
    words = [word for word in command.words[1:] if word.startswith(("benchmarks/", "docs/"))]
    if not words:
        assert command.words[1] in ("-m", "-c"), command
        return
    source = (ROOT / words[0]).read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w-])--[a-z][a-z-]*", " ".join(command.words))
    fields = set(re.findall(r"^    ([a-z_]+): ", source, re.MULTILINE))  # of settings that become options
    assert all(f'"{option}"' in source or option[2:].replace("-", "_") in fields for option in named), command


@pytest.mark.parametrize("command", of("pip"), ids=str)
def test_extras_exist(command):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {extra for found in re.findall(r"\[([\w,]+)\]", " ".join(command.words)) for extra in found.split(",")}
    assert named <= set(extras)


@pytest.mark.parametrize("command", of("make"), ids=str)
def test_targets_of_make_exist(command):
    assert f"\n{command.words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert Path(ROOT / "Makefile").is_file()
