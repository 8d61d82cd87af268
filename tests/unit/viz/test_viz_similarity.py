from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from resight.errors import ArrayError, UsageError
from resight.viz.similarity import learned_against_cosine, training_curves


def opened(png):
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB")).astype(int)


def orange(picture):
    return (picture[..., 0] > 200) & (picture[..., 2] < 140)


def test_matching_pairs_are_drawn_where_their_scores_are():
    rng = np.random.default_rng(0)
    cosine, matching = rng.uniform(0, 1, 400), np.arange(400) < 200
    high = opened(learned_against_cosine(cosine, cosine + np.where(matching, 0.8, -0.8), matching))
    low = opened(learned_against_cosine(cosine, cosine - np.where(matching, 0.8, -0.8), matching))
    half = slice(150, None), slice(100, 780)  # inside the axes, without the legend's and the margins' share
    heights = [np.argwhere(orange(picture[half])).mean(axis=0)[0] for picture in (high, low)]
    assert heights[0] + 100 < heights[1]


def test_one_kind_of_pairs_is_enough():
    opened(learned_against_cosine([0.1, 0.2], [0.3, 0.1], [False, False]))
    opened(learned_against_cosine([0.1], [0.3], [True]))


def test_bad_pairs_are_refused():
    with pytest.raises(UsageError, match="no pairs"):
        learned_against_cosine([], [], [])
    with pytest.raises(ArrayError, match="NaN"):
        learned_against_cosine([0.1], [np.nan], [True])
    with pytest.raises(ArrayError, match="scores has shape"):
        learned_against_cosine([0.1], [0.1, 0.2], [True])


def test_training_curves():
    rows = [(0, np.nan, 0.9), (1, 0.5, 0.4), (2, 0.2, 0.45)]
    one, three = opened(training_curves({"a": rows})), opened(training_curves({"a": rows, "b": rows, "c": rows}))
    assert three.shape[1] > one.shape[1]
    assert orange(one).sum() > 20  # the dot at the kept epoch
    with pytest.raises(UsageError, match="no epochs"):
        training_curves({})
    with pytest.raises(UsageError, match="no epochs"):
        training_curves({"a": []})
