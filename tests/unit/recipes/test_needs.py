"""A recipe can be searched with exactly where the collection holds what its line in the catalogue says it needs."""

from __future__ import annotations

import shutil

import pytest

from resight.collection import open_collection
from resight.errors import ResightError
from resight.fitting.graphs import build_graph
from resight.recipes.catalogue import RECIPES


def searchable(collection, name):
    try:
        collection.pipeline(recipe=name)
    except ResightError:
        return False
    return True


@pytest.mark.parametrize("kind", ["classic", "gem", "hybrid", "graph", "fitted"])
def test_needs_say_what_can_be_searched_with(world, fitted, tmp_path, kind):
    if kind == "graph":
        collection = world.copy("classic", tmp_path)
        build_graph(collection, 23)
    elif kind == "fitted":
        collection = open_collection(shutil.copytree(fitted, tmp_path / "c.resight"))
    else:
        collection = open_collection(world.path(kind))
    held = {name for name, recipe in RECIPES.items() if all(map(collection.snapshot.holds, recipe.needs))}
    assert held == {name for name in RECIPES if searchable(collection, name)}
