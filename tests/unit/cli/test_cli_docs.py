"""The pages that name commands: docs/commands.md is what the command line says, and no page names one that is gone."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import typer

from resight.cli import app

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("src/**/*.py")])
CALLS = {  # in a page also as a block; in a program only where a sentence names one
    ".md": re.compile(r"(?:^ {4}|`)resight ([a-z][a-z ]*)((?: [^`]*)?)", re.MULTILINE),
    ".py": re.compile(r"(?:`|run )resight ([a-z][a-z ]*)((?: [^`\"]*)?)"),
}


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("generate_commands", ROOT / "docs" / "generate_commands.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_is_current(generator):
    found = generator.PAGE.read_text(encoding="utf-8")
    assert found == generator.page(), "run python docs/generate_commands.py"


def known_options(words):
    """Options of the command that `words` call, None where there is no such command."""
    command = typer.main.get_command(app)
    for word in words.split():
        if not hasattr(command, "commands"):
            break  # an argument
        command = command.commands.get(word)
        if command is None:
            return None
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_named_exist(page):
    for words, rest in CALLS[page.suffix].findall(page.read_text(encoding="utf-8")):
        options = known_options(words)
        assert options is not None, f"resight {words}"
        named = re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest.split("\n")[0])
        assert set(named) <= options | {"--help"}, f"resight {words}{rest}"
