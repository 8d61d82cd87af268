"""What is fitted to a collection stays within bounds, whatever is asked for."""

from __future__ import annotations

import shutil

import pytest

from resight.artifacts.files import GRAPH, LABELS
from resight.collection import open_collection
from resight.errors import UsageError
from resight.fitting.graphs import build_graph
from resight.fitting.labels import label


@pytest.fixture
def own(fitted, tmp_path):
    return open_collection(shutil.copytree(fitted, tmp_path / "own.resight"))


def test_a_graph_of_more_neighbours_than_photos(own):
    (report,) = build_graph(own, k=999_999_999)
    assert report.k == report.nodes - 1
    with pytest.raises(UsageError, match="k=0"):
        build_graph(own, k=0)
    assert GRAPH.exists(own.path)


def test_one_labelled_photo_is_refused_and_nothing_changes(own, world, tmp_path):
    before = LABELS.path(own.path).read_bytes()
    (tmp_path / "one.csv").write_text(f"photo,label\n{world.photos.folder / world.photos.names[0]},tower\n")
    with pytest.raises(UsageError, match="give at least 5"):
        label(own, tmp_path / "one.csv")
    assert LABELS.path(own.path).read_bytes() == before
    assert own.search(world.photos.names[0], recipe="semi-supervised").results
