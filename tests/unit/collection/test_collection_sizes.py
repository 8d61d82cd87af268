"""Bytes of every part, on disk and in memory."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from resight.cli import app
from resight.collection import open_collection
from resight.collection.sizes import arrays, part_sizes


@pytest.mark.parametrize("recipe", ["classic", "gem", "hybrid"])
def test_parts_add_up_to_the_files_and_hold_what_searches_hold(world, recipe):
    collection = open_collection(world.path(recipe))
    info = collection.info()
    files = sum(path.stat().st_size for path in collection.path.rglob("*") if path.is_file())
    assert sum(part["disk"] for part in info.parts.values()) == files
    held = sum(part["memory"] for part in info.parts.values())
    vectors = 0 if recipe == "classic" else collection.vectors()[1].nbytes
    assert held >= info.index_bytes + vectors > 0
    assert info.bytes_per_image == pytest.approx((info.index_bytes + vectors) / len(collection.ids))
    for part in info.parts.values():
        assert part["disk_per_photo"] == pytest.approx(part["disk"] / info.photos, abs=0.051)
        assert part["memory_per_photo"] == pytest.approx(part["memory"] / info.photos, abs=0.051)
    if recipe != "gem":
        assert info.parts["inverted file of local features"]["memory"] >= info.index_bytes


def test_an_array_counts_once_however_it_is_reached():
    whole = np.zeros((10, 4), np.float32)
    assert sum(arrays([whole, whole[2:5], {"again": whole.T}], set())) == 160
    seen = set()
    assert sum(arrays(whole, seen)) == 160
    assert sum(arrays(whole[1:], seen)) == 0


def test_a_graph_counts_once_it_is_built(world, tmp_path):
    from resight.fitting.graphs import build_graph

    collection = world.copy("gem", tmp_path)
    build_graph(collection, 5)
    graph = part_sizes(collection.snapshot)["kNN graph of similarities"]
    assert graph.memory == len(collection.ids) * 5 * 8
    assert graph.disk > graph.memory


def test_command_prints_the_parts(world):
    shown = CliRunner().invoke(app, ["info", str(world.path("gem"))], env={"COLUMNS": "160"})
    assert "global descriptors" in shown.stdout
    said = json.loads(CliRunner().invoke(app, ["info", str(world.path("gem")), "--json"]).stdout)
    assert said["parts"]["table of photos"]["disk"] > 0
