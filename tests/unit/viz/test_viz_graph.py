"""The picture of a graph: where photos stand, which edges are seen, what is refused."""

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.viz.graph import PATH, QUERY, GraphEdge, GraphNode, draw_graph
from resight.viz.pictures import RIGHT

COLOURS = [(200, 0, 0), (0, 0, 120), (90, 90, 0), (0, 110, 110), (110, 0, 110)]
NODES = [GraphNode(np.full((40, 60, 3), colour, np.uint8), f"photo {i}") for i, colour in enumerate(COLOURS)]
CHAIN = [GraphEdge(0, 1, "0.91"), GraphEdge(1, 2, "45", verified=True), GraphEdge(2, 3), GraphEdge(0, 3)]


def centre(picture, colour):
    """The middle of all pixels of that colour."""
    where = np.argwhere((np.asarray(picture) == colour).all(axis=2))
    assert len(where), f"{colour} is not in the picture"
    return where.mean(axis=0)[::-1]


def count(picture, colour):
    return int((np.asarray(picture) == colour).all(axis=2).sum())


def test_columns_count_the_edges_from_the_query():
    picture = draw_graph(NODES, CHAIN)
    x = [centre(picture, colour)[0] for colour in COLOURS]
    assert x[0] < x[1] == pytest.approx(x[3], abs=1)
    assert x[1] < x[2] < x[4], "what no edge joins stands last"


def test_the_path_the_query_and_proven_edges_have_their_colours():
    plain, walked = draw_graph(NODES, CHAIN), draw_graph(NODES, CHAIN, [0, 1, 2])
    assert count(plain, PATH) == 0
    assert count(walked, PATH) > 1000
    assert count(plain, QUERY) == count(walked, QUERY) > 300
    assert count(plain, RIGHT) > 100
    assert count(draw_graph(NODES, [GraphEdge(1, 2)]), RIGHT) == 0
    judged = [NODES[0], GraphNode(NODES[1].pixels, "", True)]
    assert count(draw_graph(judged, [GraphEdge(0, 1)]), RIGHT) > 300


def test_a_query_alone_and_strange_captions():
    picture = draw_graph([GraphNode(NODES[0].pixels, "two\nlines \ud800 ü")], [])
    assert count(picture, COLOURS[0]) > 500
    assert draw_graph(NODES, CHAIN).tobytes() == draw_graph(NODES, CHAIN).tobytes()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: draw_graph([], []), UsageError, "without nodes"),
        (lambda: draw_graph(NODES, [GraphEdge(0, 5)]), UsageError, "no node 5"),
        (lambda: draw_graph(NODES, [], [0, -1]), UsageError, "no node -1"),
        (lambda: draw_graph(NODES, [], cell=8), UsageError, "8 pixels"),
        (lambda: draw_graph([GraphNode(np.zeros((4, 4)))], []), ArrayError, "node 0"),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
