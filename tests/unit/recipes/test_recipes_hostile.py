"""Whatever value an option is given: a ranking or a sentence, within bounds of time and memory, never a traceback."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from resight.collection import open_collection
from resight.errors import UsageError
from resight.evaluation.evaluate import check_run
from resight.evaluation.experiment import Run
from resight.evaluation.feature_database import Database
from resight.evaluation.feature_recipes import FEATURE_RECIPES
from resight.ranking.propagation import label_collection
from resight.ranking.vector_database import VectorDatabase
from resight.recipes.catalogue import RECIPES, pipeline, search_options
from resight.recipes.options import check_options, options_of
from resight.recipes.resources import ArrayResources
from resight.types import Queries

HUGE = (2**31, 2**62, 2**63 - 1, 10**30)
VALUES = (-1, 0, -(2**31), *HUGE, -1.0, -0.0, 1e-300, 1e18, 1e300, math.nan, math.inf, -math.inf)
VALUES += (None, True, "abc", "", [], [1], [[1]], {})
SECONDS = 10.0  # of processor time for a search among 40 photos: a thousand times what it takes


@pytest.fixture(scope="module")
def descriptors():
    vectors = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def answered(ask) -> bool:
    """Whether there was an answer and no sentence; all else fails."""
    started = time.process_time()
    said = ""
    try:
        ask()
    except UsageError as error:
        said = str(error)
    assert time.process_time() - started < SECONDS
    assert len(said) < 400
    return not said


VECTOR_RECIPES = [name for name, recipe in RECIPES.items() if not recipe.others] + ["semi-supervised"]


@pytest.mark.parametrize("recipe", VECTOR_RECIPES)
def test_recipes_over_descriptors(descriptors, recipe):
    database = VectorDatabase.over(descriptors)
    training = label_collection(database, descriptors[:6], np.arange(6))
    resources = ArrayResources(database, training=training)
    queries = Queries(vectors=descriptors[:2].copy(), rows=np.array([-1, -1]))
    assert answered(lambda: pipeline(recipe, resources, {})(queries))
    for option in search_options(recipe):
        for value in VALUES:
            answered(lambda option=option, value=value: pipeline(recipe, resources, {option: value})(queries))


@pytest.mark.parametrize("recipe", [name for name, one in RECIPES.items() if one.others])
def test_recipes_over_photos(fitted, recipe):
    collection = open_collection(fitted)
    for option in search_options(recipe):
        for value in (-1, 2**62, -math.inf, 1e300, "abc"):
            answered(
                lambda option=option, value=value: collection.search("000-0.jpg", recipe=recipe, **{option: value})
            )


@pytest.mark.parametrize("recipe", ["search", "average-expansion", "alpha-augmentation", "separation"])
def test_recipes_for_files(descriptors, recipe):
    queries, rank = Queries(vectors=descriptors[:2].copy()), FEATURE_RECIPES[recipe]
    brief = {"epochs": 1} if recipe == "separation" else {}

    def ask(option, value):
        options = {**brief, option: value}
        check_options(recipe, rank, options)
        rank(queries, Database(descriptors), **options)

    for option in options_of(rank):
        for value in VALUES:
            if not (option == "epochs" and value in HUGE):  # so many epochs may be asked for
                answered(lambda option=option, value=value: ask(option, value))


@pytest.mark.parametrize("name", ["recipe", "where", "image", "box", "self", "top", "queries", "database", "allowed"])
@pytest.mark.parametrize("features", [None, "x.npy"])
def test_parameters_of_functions_are_no_settings(name, features):
    for recipe in ("classic", "hybrid") if features is None else ("search", "diffusion", "separation"):
        with pytest.raises(UsageError, match=f"recipe {recipe} has no option '{name}'"):
            check_run(Run("roxford5k", ".", recipe, {name: 1}, features=features))
