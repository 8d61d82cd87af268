from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.legend import Legend
from PIL import Image

from resight.errors import ArrayError, UsageError
from resight.viz import curves, separation, similarity


def opened(png):
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def test_interpolated_precision_of_a_hand_worked_list():
    # Hits at ranks 1, 3 and 5 of 4 positives: precision 1, 2/3, 3/5, and nothing beyond recall 3/4.
    levels, precision = curves.recall_precision([[1, 0, 1, 0, 1]], [4])
    at = dict(zip(np.round(levels, 2), precision[0], strict=True))
    assert at[0.0] == at[0.25] == 1
    assert at[0.26] == at[0.5] == pytest.approx(2 / 3)
    assert at[0.51] == at[0.75] == pytest.approx(3 / 5)
    assert at[0.76] == at[1.0] == 0


def test_interpolation_takes_the_best_precision_further_down():
    _, precision = curves.recall_precision([[0, 1, 1, 1]], [3])
    np.testing.assert_allclose(precision[0], 3 / 4)


def test_queries_without_positives_and_empty_lists():
    _, precision = curves.recall_precision([[0, 0], [1, 0]], [0, 1])
    assert np.isnan(precision[0]).all()
    assert (precision[1] == 1).all()
    _, empty = curves.recall_precision(np.zeros((2, 0), bool), [0, 3])
    assert np.isnan(empty[0]).all()
    assert (empty[1] == 0).all()


def test_more_hits_than_positives_is_refused():
    with pytest.raises(ArrayError, match="query 1 has 2 hits but 1 positives"):
        curves.recall_precision([[0, 0], [1, 1]], [3, 1])


def test_precision_recall_draws_what_it_is_given():
    recall = np.linspace(0, 1, 11)
    high = curves.precision_recall({"a": (recall, np.full(11, 0.9))})
    low = curves.precision_recall({"a": (recall, np.full(11, 0.1))})
    blue = [np.mean(((p := opened(png))[..., 2] > 180) & (p[..., 0] < 80), axis=1).argmax() for png in (high, low)]
    assert blue[0] < 0.3 * 640 < 0.6 * 640 < blue[1]


def test_precision_recall_of_many_queries_is_shaded_and_skips_nan():
    recall = np.linspace(0, 1, 11)
    rows = np.stack([np.full(11, 0.2), np.full(11, 0.8), np.full(11, np.nan)])
    one = opened(curves.precision_recall({"a": (recall, rows)}))
    plain = opened(curves.precision_recall({"a": (recall, np.full(11, 0.5))}))
    assert (one != plain).any(axis=2).mean() > 0.1
    with pytest.raises(UsageError, match="curve a has no query"):
        curves.precision_recall({"a": (recall, rows[2:])})
    with pytest.raises(UsageError, match="no curve"):
        curves.precision_recall({})
    with pytest.raises(ArrayError, match="precision of a"):
        curves.precision_recall({"a": (recall, [1, 2])})


def test_ap_histogram():
    assert opened(curves.ap_histogram([0.1, 0.9, np.nan, 1.0])).shape == (640, 1024, 3)
    with pytest.raises(UsageError, match="no query"):
        curves.ap_histogram([np.nan])
    with pytest.raises(ArrayError, match="0 to 1"):
        curves.ap_histogram([1.5])


def test_score_histogram():
    both = opened(curves.score_histogram([1, 2, 3, 4], 10, found=[12, 30], label="inliers"))
    alone = opened(curves.score_histogram([1, 2, 3, 4], 10, found=[]))
    assert (both != alone).any()
    opened(curves.score_histogram([5, 5, 5], 5))
    with pytest.raises(UsageError, match="no scores"):
        curves.score_histogram([], 1)
    with pytest.raises(ArrayError, match="NaN"):
        curves.score_histogram([1, np.nan], 1)


def clusters(groups=3, each=8, dim=16):
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(groups, 1, dim))
    rows = (centres + 0.05 * rng.normal(size=(groups, each, dim))).reshape(-1, dim)
    return rows.astype(np.float32), np.repeat(np.arange(groups), each)


def test_plane_keeps_groups_together_and_repeats():
    rows, groups = clusters()
    plane = curves.project_to_plane(rows, seed=1)
    np.testing.assert_array_equal(plane, curves.project_to_plane(rows, seed=1))
    distances = np.linalg.norm(plane[:, None] - plane[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (groups[distances.argmin(axis=1)] == groups).all()


def test_embedding_map_colours_groups():
    rows, groups = clusters()
    named = opened(curves.embedding_map(rows, [None if g == 2 else f"g{g}" for g in groups]))
    none = opened(curves.embedding_map(rows, [None] * len(rows)))
    spread = [np.ptp(image.astype(int), axis=2) > 90 for image in (named, none)]
    assert spread[0].sum() > 500
    assert spread[1].sum() == 0
    opened(curves.embedding_map(rows[:5, :1], range(5)))


def test_embedding_map_refuses_bad_rows():
    rows, groups = clusters()
    with pytest.raises(ArrayError, match="2 groups for 24 rows"):
        curves.embedding_map(rows, [1, 2])
    with pytest.raises(UsageError, match="map of 4 rows"):
        curves.embedding_map(rows[:4], groups[:4])
    rows[0, 0] = np.inf
    with pytest.raises(ArrayError, match="NaN or infinity"):
        curves.embedding_map(rows, groups)


def test_many_groups_get_colours_of_their_own():
    assert len(set(curves._cycle(200))) > 190
    assert all(len(colour) == 7 for colour in curves._cycle(200))


def test_charts_are_imported_only_when_drawn():
    code = "import resight.viz.curves, resight.viz.report, resight.viz.matches, resight.viz.ranked, sys; "
    code += "print([m for m in ('matplotlib', 'sklearn', 'torch', 'cv2') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_no_legend_looks_for_the_best_place(monkeypatch):
    """The search takes long with much data, and matplotlib then warns: on a slow machine a picture failed."""

    def refuse(*_, **__):
        raise AssertionError("a legend without a place of its own")

    monkeypatch.setattr(Legend, "_find_best_position", refuse)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 4)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    steps, matching = np.linspace(0, 1, 11), rng.random(60) < 0.5
    for picture in (
        curves.precision_recall({f"a system of a rather long name {n}": (steps, steps[::-1]) for n in range(4)}),
        curves.ap_histogram(rng.random(50)),
        curves.score_histogram(rng.random(50), 0.9, found=[0.95]),
        curves.embedding_map(points, [n % 3 for n in range(60)]),
        separation.loss_over_similarity(0.3),
        separation.similarity_histogram(points, points[::-1], 0.4),
        separation.training_curve([3.0, 2.0], [(1, 0.5)], best=1, scores=[(1, 0.4)]),
        separation.study({"a": [(1, 0.5)], "b": [(2, 0.4)]}, "layers", "mAP"),
        similarity.learned_against_cosine(rng.random(60), rng.random(60), matching),
        similarity.training_curves({"one": [(1, 2.0, 3.0), (2, 1.0, 2.0)]}),
    ):
        assert min(opened(picture).shape[:2]) > 100
