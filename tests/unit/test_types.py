from __future__ import annotations

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.features.local.rootsift import RootSift
from resight.types import Box, Encoder, KnnGraph, LocalFeatures, Queries, Ranking, Stage, as_array

INF = np.inf


def features(n=3, dim=4, **changes):
    values = {
        "xy": np.zeros((n, 2)),
        "scale": np.ones(n),
        "angle": np.zeros(n),
        "strength": np.arange(n, 0, -1),
        "descriptors": np.ones((n, dim)),
    }
    return LocalFeatures(**{**values, **changes})


def test_ranking_converts_and_keeps():
    ranking = Ranking([[4, 2, -1]], [[2, 1, -INF]])
    assert (ranking.ids.dtype, ranking.scores.dtype) == (np.int64, np.float32)
    assert ranking.lengths.tolist() == [2]
    assert len(ranking) == 1
    assert ranking.top(1).ids.tolist() == [[4]]
    assert ranking.top(9).ids.tolist() == [[4, 2, -1]]


@pytest.mark.parametrize(
    ("ids", "scores", "message"),
    [
        ([[1, 2]], [[1.0]], "shape"),
        ([1, 2], [1.0, 2.0], "expected"),
        ([[1, 2]], [[1.0, 2.0]], "not sorted"),
        ([[1, 1]], [[2.0, 1.0]], "twice"),
        ([[-1, 1]], [[-INF, -INF]], "behind the end"),
        ([[1, -2]], [[1.0, -INF]], "rows start at 0"),
        ([[1]], [[np.nan]], "NaN"),
        ([[1, -1]], [[1.0, 0.5]], "must stand together"),
        ([[1, 2]], [[1.0, -INF]], "must stand together"),
        ([[1.5]], [[1.0]], "integers are needed"),
    ],
)
def test_ranking_refuses(ids, scores, message):
    with pytest.raises(ArrayError, match=message):
        Ranking(ids, scores)


def test_equal_scores_may_follow_each_other():
    assert Ranking([[5, 3, 9]], [[1, 1, 1]]).ids.tolist() == [[5, 3, 9]]


def test_ranking_of_nothing():
    assert Ranking(np.zeros((0, 0), int), np.zeros((0, 0))).lengths.tolist() == []
    assert Ranking.from_lists([[], []], [[], []]).ids.shape == (2, 0)


def test_ranking_from_lists_pads():
    ranking = Ranking.from_lists([[3], [1, 2]], [[0.5], [2, 1]])
    assert ranking.ids.tolist() == [[3, -1], [1, 2]]
    assert ranking.scores.tolist() == [[0.5, -INF], [2, 1]]


@pytest.mark.parametrize("k", [0, -1])
def test_ranking_cut_to_nothing(k):
    with pytest.raises(UsageError, match="at least 1"):
        Ranking([[1]], [[1.0]]).top(k)


def test_knn_graph_keeps_width_of_ids_and_order_of_weights():
    assert KnnGraph(np.array([[1, 2]], np.int32), [[1, 5]]).ids.dtype == np.int32
    wide = KnnGraph(np.array([[1, 2]], np.int64), [[1, 5]])
    assert (wide.ids.dtype, wide.k, len(wide)) == (np.int64, 2, 1)
    with pytest.raises(ArrayError, match="behind the end"):
        KnnGraph([[-1, 2]], [[-INF, 1]])
    with pytest.raises(ArrayError, match="NaN"):
        KnnGraph([[1, 2]], [[1, np.nan]])


def test_local_features_select_and_scale():
    made = features(xy=[[0.5, 0.5], [10, 20], [3, 4]], scale=[1, 2, 3])
    assert (len(made), made.dim) == (3, 4)
    double = made.scaled(2)
    assert double.xy.tolist() == [[1, 1], [20, 40], [6, 8]]
    assert double.scale.tolist() == [2, 4, 6]
    assert double.strength.tolist() == made.strength.tolist()
    assert made.select([0, 2]).xy.tolist() == [[0.5, 0.5], [3, 4]]
    assert made.select(np.array([False, True, False])).scale.tolist() == [2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xy": np.zeros((3, 3))}, "xy has shape"),
        ({"scale": np.ones(2)}, "scale has shape"),
        ({"descriptors": np.ones(3)}, "descriptors has shape"),
        ({"angle": [0, np.nan, 0]}, "angle holds NaN"),
        ({"xy": np.full((3, 2), INF)}, "xy holds NaN or infinity"),
        ({"strength": [1, 2, 3]}, "must descend"),
    ],
)
def test_local_features_refuse(changes, message):
    with pytest.raises(ArrayError, match=message):
        features(**changes)


def test_box_parses_and_prints():
    box = Box.parse(" 1,2.5,30,40 ")
    assert box == Box(1, 2.5, 30, 40)
    assert str(box) == "1,2.5,30,40"
    assert Box.parse(str(box)) == box


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1;2;3;4"])
def test_box_must_be_four_numbers(text):
    with pytest.raises(UsageError, match="x,y,w,h"):
        Box.parse(text)


@pytest.mark.parametrize("text", ["0,0,0,5", "0,0,5,-1", "0,0,nan,5", "inf,0,1,1"])
def test_box_must_hold_something(text):
    with pytest.raises(UsageError, match=r"empty|finite"):
        Box.parse(text)


def test_box_is_cut_to_the_image():
    assert Box(-5, 10, 20, 200).inside(100, 50) == Box(0, 10, 15, 40)
    for outside in (Box(100, 0, 5, 5), Box(0, 60, 5, 5), Box(-9, 0, 5, 5), Box(99.5, 0, 5, 5)):
        with pytest.raises(UsageError, match="outside the image, which is 100 x 50"):
            outside.inside(100, 50)


def test_queries_need_parts_of_one_length():
    queries = Queries(local=[features(2), features(5)], vectors=np.eye(2), rows=[3, -1])
    assert len(queries) == 2
    alone = queries.only(1)
    assert (len(alone), len(alone.local[0]), alone.rows.tolist()) == (1, 5, [-1])
    assert Queries(rows=[1]).only(0).local is None
    with pytest.raises(ArrayError, match=r"lengths \[1, 2\]"):
        Queries(vectors=np.eye(2), rows=[3])
    with pytest.raises(ArrayError, match=r"lengths \[\]"):
        Queries()


def test_as_array_says_what_was_wrong():
    assert as_array("x", [[1, 2]], np.float32, (None, 2)).flags.c_contiguous
    with pytest.raises(ArrayError, match=r"x has shape \(1, 2\), expected \(any, 3\)"):
        as_array("x", [[1, 2]], np.float32, (None, 3))
    with pytest.raises(ArrayError, match="x cannot be read as float32"):
        as_array("x", [["a"]], np.float32, (None, None))


def test_protocols_recognise_callables():
    assert isinstance(RootSift(), Encoder)
    assert not isinstance(lambda _: None, Encoder)  # neither dim nor fingerprint
    assert isinstance(lambda _, ranking=None: ranking, Stage)
