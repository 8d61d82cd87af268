import io

import numpy as np
import pytest
from PIL import Image

from resight.errors import ArrayError, UsageError
from resight.viz import separation as figures
from resight.viz import similarity


def opened(png):
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG"
    pixels = np.asarray(picture.convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20  # something is drawn
    return pixels


def unit(seed, n=50):
    x = np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_figures_are_pictures_that_depend_on_their_data():
    drawn = [
        figures.loss_over_similarity(0.3),
        figures.gradients_of_query([0.1, 0.3, -0.2], [0.0, 0.6, -0.2], 0.3),
        figures.gradients_of_query([0.1, 0.3, -0.2], [0.0, 0.5, -0.2], 0.3),
        figures.similarity_histogram(unit(0), unit(1), 0.4),
        figures.similarity_histogram(unit(0), unit(2), 0.4),
        figures.training_curve([-0.1, -0.2, -0.25], [(1, 0.5), (3, 0.6)], best=3),
        figures.training_curve([-0.1, -0.2, -0.25], [(1, 0.5)], scores=[(1, 0.8), (3, 0.9)]),
        figures.study({"a": [(1, 0.5), (2, 0.6)], "b": [(1, 0.4)]}, "layers", "mAP"),
        figures.study({"a": [(10, 0.5), (1000, 60)]}, "photos", "seconds", logarithmic=True),
    ]
    for png in drawn:
        opened(png)
    assert len(set(drawn)) == len(drawn)
    assert figures.similarity_histogram(unit(0), unit(1), 0.4) == drawn[3]


def test_bad_figures():
    with pytest.raises(UsageError, match="beta"):
        figures.loss_over_similarity(1.0)
    with pytest.raises(UsageError, match="no photos"):
        figures.gradients_of_query([], [], 0.3)
    with pytest.raises(UsageError, match="beta=1"):
        figures.gradients_of_query([0.1], [0.1], 1.0)
    with pytest.raises(ArrayError, match="after"):
        figures.gradients_of_query([0.1], [0.1, 0.2], 0.3)
    with pytest.raises(ArrayError, match="after"):
        figures.similarity_histogram(unit(0), unit(1, 49), 0.4)
    with pytest.raises(UsageError, match="2 rows"):
        figures.similarity_histogram(unit(0, 1), unit(1, 1), 0.4)
    with pytest.raises(UsageError, match="no epochs"):
        figures.training_curve([])
    with pytest.raises(UsageError, match="nothing to draw"):
        figures.study({"a": []}, "x", "y")
    with pytest.raises(ArrayError, match="NaN"):
        figures.study({"a": [(1, np.nan)]}, "x", "y")


@pytest.mark.parametrize(
    ("module", "draw"),
    [
        (figures, lambda: figures.training_curve([-0.1, -0.2, -0.25], [(1, 0.5)], 1, [(1, 0.8), (3, 0.9)])),
        (figures, lambda: figures.gradients_of_query([0.1, 0.3, -0.2], [0.0, 0.6, -0.2], 0.3)),
        (similarity, lambda: similarity.training_curves({"a": [(0, None, 2), (1, 1, 1)], "b": [(0, 3, 1)]})),
    ],
)
def test_legends_cover_no_curve(module, draw, monkeypatch):
    kept = []
    monkeypatch.setattr(module, "_png", kept.append)
    draw()
    (figure,) = kept
    figure.draw_without_rendering()
    legends = [(axes, axes.get_legend()) for axes in figure.axes if axes.get_legend()]
    assert legends
    for axes, legend in legends:
        assert legend.get_window_extent().y0 >= axes.get_window_extent().y1
        assert axes.title.get_text() == "" or not legend.get_window_extent().overlaps(axes.title.get_window_extent())
