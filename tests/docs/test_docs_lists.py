"""Lists on the pages are what the program has, and every page is in the navigation."""

from __future__ import annotations

import importlib.util
import re

import pytest
import yaml
from docs_pages import ROOT

from resight.store.tables import open_tables

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("generate_settings", DOCS / "generate_settings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_recipes_and_settings_are_current(generator):
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page(), "run python docs/generate_settings.py"


def test_extras_and_variables_are_current(generator):
    text = generator.INSTALL.read_text(encoding="utf-8")
    assert text == generator.with_lists(text), "run python docs/generate_settings.py"


def test_what_lies_in_a_collection(scratch):
    """The folder, and the columns of its tables."""
    page = (DOCS / "data-model.md").read_text(encoding="utf-8")
    tree = page.partition("photos.resight/\n")[2].partition("```")[0]
    named = {line.split()[0].rstrip("/") for line in tree.splitlines() if line.strip()}
    assert {one.name for one in (scratch / "photos.resight").iterdir()} == named
    tables = open_tables(scratch / "photos.resight")
    columns = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", _section(page, "images"), re.M)))
    assert set(tables.images().schema.names) | {"global"} == set(columns)


def _section(page: str, table: str) -> str:
    return page.partition(f"## Table `{table}`")[2].partition("\n## ")[0]


@pytest.mark.parametrize("page", ["README.md", "docs/settings.md"])
def test_every_recipe_that_indexes_is_named(page):
    from resight.recipes.catalogue import INDEXING

    text = (ROOT / page).read_text(encoding="utf-8")
    assert [name for name in INDEXING if f"`{name}`" not in text and f"[{name}]" not in text] == []


def test_every_method_says_when_it_helps_and_when_it_hurts():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_load(text[text.index("\nnav:") :])["nav"]
    (methods,) = (part["Methods"] for part in nav if "Methods" in part)
    pages = [page for part in methods for group in part.values() for one in group for page in one.values()]
    said = re.compile(r"^(## .*(help|hurt|When to use|goes wrong|Does it)|\*\*When they hurt)", re.M | re.I)
    assert [page for page in pages if not said.search((DOCS / page).read_text(encoding="utf-8"))] == []
