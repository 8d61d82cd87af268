"""What is known in one place only: names of recipes and of derived files, and how much the middle may know."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import resight
from resight.artifacts.files import ARTIFACTS, LOCAL
from resight.recipes.catalogue import RECIPES

ROOT = Path(resight.__file__).parent
SOURCES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(ROOT.rglob("*.py"))}
LARGEST, MOST_IMPORTED = 250, 12

# Names of recipes that are names of other things as well, and where.
ALSO = {
    "training/": {"gem", "rmac", "ap-gem", "solar", "delg", "how", "fire"},  # what networks are trained as
    "cli/train.py": {"gem", "how"},
    "features/": {
        "gem",
        "rmac",
        "ap-gem",
        "solar",
        "delg",
        "how",
        "fire",
    },  # poolings, and networks as they were published
    "recipes/settings.py": {"gem", "rmac"},  # poolings
    "recipes/graph.py": {"diffusion"},  # a method whose options are tuned, in several recipes
    "ranking/tuning.py": {"diffusion", "explore-exploit"},  # methods that are tuned, below all recipes
    "cli/fit.py": {"rmac"},  # the pooling whose regions are whitened
    "collection/snapshot.py": {"separation"},  # a part that recipes need
    # of files, not of collections
    "evaluation/feature_recipes.py": {
        "separation",
        "deep-similarity",
        "semi-supervised",
        "verified-expansion",
        "landmark2019",
    },
}


def texts(source):
    """Every string of a source file with its line, docstrings and comments left out."""
    tree = ast.parse(source)
    bodies = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, bodies) and node.body
            and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


@pytest.mark.parametrize("name", [artifact.name for artifact in ARTIFACTS])
def test_the_name_of_a_derived_file_stands_in_the_list_of_them_alone(name):
    # Files of further kinds of local features are called as those of the first.
    further = [key for key in sorted(LOCAL, key=len, reverse=True) if key and name.startswith(f"{key}_")]
    name = name.removeprefix(f"{further[0]}_") if further else name
    assert [file for file, source in SOURCES.items() if name in source] == ["artifacts/files.py"]
    assert [text for _, text in texts(SOURCES["artifacts/files.py"])].count(name) == 1


def test_the_name_of_a_recipe_stands_in_the_catalogue_alone():
    found = [
        f"{file}:{line}: {text}"
        for file, source in SOURCES.items()
        for line, text in texts(source)
        if text in RECIPES and not any(file.startswith(place) and text in names for place, names in ALSO.items())
    ]
    assert [place for place in found if not place.startswith("recipes/catalogue.py")] == []
    written = [place.rpartition(" ")[2] for place in found]
    assert sorted(set(written)) == sorted(RECIPES)
    twice = {name for name in written if written.count(name) > 1}
    also = {"rmac", "how", "fire", "delg", "separation"}  # a pooling; local features; a part of `Resources`
    assert twice <= also, "written twice in the catalogue"


def test_the_collection_stays_small():
    source = SOURCES["collection/collection.py"]
    tree = ast.parse(source)
    typing = {id(node) for block in ast.walk(tree) if isinstance(block, ast.If) for node in ast.walk(block)}
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and id(node) not in typing}
    assert len(source.splitlines()) <= LARGEST
    assert len([name for name in imported if name.startswith("resight")]) <= MOST_IMPORTED


def test_the_names_of_the_front_door():
    from resight.collection import Collection, create_collection, open_collection, open_or_create

    assert Collection.__module__ == "resight.collection.collection"
    assert {function.__module__ for function in (create_collection, open_collection, open_or_create)} == {
        "resight.collection.open"
    }
    assert callable(resight.open)
