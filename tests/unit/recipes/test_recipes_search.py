"""What holds for every recipe in a search: its options are checked, a condition loses nothing, no rank is the last."""

from __future__ import annotations

import inspect
import json
import math
import re
import shutil

import cv2
import pytest
from typer.testing import CliRunner

from photo_factory import SMALL, homography, picture, save
from resight.cli import app
from resight.collection import Collection, create_collection, open_collection
from resight.errors import UsageError
from resight.evaluation.evaluate import evaluate
from resight.evaluation.experiment import Run
from resight.recipes.catalogue import RECIPES, search_options

THING, OTHERS = 130, 20
CUTS = {"limit", "rerank", "verify"}  # options that say at how many results a recipe looks
AMONG_THEMSELVES = {"k-reciprocal", "super-global"}  # results are compared with each other, so with those that fit


def found(answer):
    return [result.row for result in answer.results]


# A condition


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_condition_loses_nothing(fitted, world, recipe):
    """What fits the condition stands in the order of the whole ranking, however narrow the condition is."""
    collection, name = open_collection(fitted), world.photos.names[4]
    options = {"expand": False} if "expand" in search_options(recipe) else {}  # it would expand by other photos
    whole = found(collection.search(name, top=1000, recipe=recipe, **options))
    last = whole[-3:]  # those that a cut would lose
    for rows in (last, whole[::5], whole[1:2]):
        condition = f"row IN ({', '.join(map(str, rows))})"
        part = collection.search(name, top=1000, recipe=recipe, where=condition, **options)
        expected = [row for row in whole if row in rows]
        assert sorted(found(part)) == sorted(expected)
        assert found(part) == expected or recipe in AMONG_THEMSELVES


@pytest.mark.parametrize("recipe", [name for name in RECIPES if CUTS & set(search_options(name))])
def test_a_condition_comes_before_the_cut(fitted, world, recipe):
    """The worst three of all photos are found among themselves even where a recipe looks at three alone."""
    collection, name = open_collection(fitted), world.photos.names[4]
    options = dict.fromkeys(CUTS & set(search_options(recipe)), 3)
    whole = found(collection.search(name, top=1000, recipe=recipe))
    condition = f"row IN ({', '.join(map(str, whole[-3:]))})"
    part = collection.search(name, top=1000, recipe=recipe, where=condition, **options)
    assert set(found(part)) == set(whole[-3:])


@pytest.mark.parametrize("recipe", ["classic", "hybrid"])
def test_expansion_within_a_condition(fitted, world, recipe):
    collection, group = open_collection(fitted), world.photos.groups[1]
    answer = collection.search(group[0], recipe=recipe, where=f"id IN ('{group[1]}', '{group[2]}', '000-0.jpg')")
    assert {result.id for result in answer.results} == {*group[1:], "000-0.jpg"}
    assert {result.id for result in answer.results[:2]} == set(group[1:])


# Options


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_option_has_the_name_of_something_else(recipe):
    """What a search takes itself could not be set."""
    taken = {*inspect.signature(Collection.search).parameters, *inspect.signature(Collection.explain).parameters}
    assert not taken & set(search_options(recipe))


WRONG = [
    ("classic", "verify", "abc", "verify='abc' is not a whole number"),
    ("classic", "verify", 1.5, "verify=1.5 is not a whole number"),
    ("classic", "verify", math.nan, "verify=nan is not a whole number"),
    ("classic", "verify", None, "verify=None is not a whole number"),
    ("classic", "verify", True, "verify=True is not a whole number"),
    ("classic", "sources", "abc", "sources='abc' is not a whole number"),
    ("classic", "expand", "maybe", "expand='maybe' is not true or false"),
    ("classic", "expand", 1, "expand=1 is not true or false"),
    ("classic", "allowed", [0], "recipe classic has no option 'allowed'"),
    ("classic", "resources", 0, "recipe classic has no option 'resources'"),
    ("hybrid", "weight", math.inf, "weight=inf is not a number"),
    ("alpha-expansion", "n", "abc", "n='abc' is not a whole number"),
    ("alpha-expansion", "alpha", "abc", "alpha='abc' is not a number"),
    ("diffusion", "k", "abc", "k='abc' is not a whole number"),
    ("k-reciprocal", "k1", "abc", "k1='abc' is not a whole number"),
    ("diffusion", "k", 0, "k=0"),
    ("classic", "verify", 0, "verify=0"),
    ("classic", "sources", 0, "sources=0"),
]


def as_text(value):
    """A value as `--set` takes it."""
    if value is None or isinstance(value, bool | list):
        return json.dumps(value)
    return f".{value}" if isinstance(value, float) and not math.isfinite(value) else str(value)


@pytest.mark.parametrize(("recipe", "option", "value", "message"), WRONG)
def test_options_are_checked_in_every_search(fitted, recipe, option, value, message):
    collection = open_collection(fitted)
    for ask in (
        lambda: collection.search("000-0.jpg", recipe=recipe, **{option: value}),
        lambda: collection.explain("000-0.jpg", "001-0.jpg", recipe=recipe, **{option: value}),
        lambda: collection.pipeline(None, recipe, **{option: value}),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            ask()


@pytest.mark.parametrize(("recipe", "option", "value", "message"), WRONG)
@pytest.mark.parametrize("command", [("search",), ("explain", "001-0.jpg")])
def test_options_are_checked_on_the_command_line(fitted, command, recipe, option, value, message):
    name, *more = command
    text = ("--recipe", recipe, "--set", f"{option}={as_text(value)}")
    told = CliRunner().invoke(app, [name, str(fitted), "000-0.jpg", *more, *text])
    assert told.exit_code == 2, told.output
    assert message.split(" is not ")[-1] in " ".join(told.output.split())


@pytest.mark.parametrize("option", ["recipe", "where", "image", "box", "self", "top", "id", "progress"])
@pytest.mark.parametrize("command", [("search",), ("explain", "001-0.jpg")])
def test_parameters_of_a_search_are_no_options_of_a_recipe(fitted, command, option):
    name, *more = command
    told = CliRunner().invoke(app, [name, str(fitted), "000-0.jpg", *more, "--set", f"{option}=1"])
    assert told.exit_code == 2, told.output
    assert f"recipe hybrid has no option '{option}': it has weight, parts, verify" in " ".join(told.output.split())


@pytest.mark.parametrize(("option", "value"), [(o, v) for recipe, o, v, _ in WRONG if recipe == "classic"])
def test_an_evaluation_checks_them_too(world, tmp_path, option, value):
    for group in world.photos.groups[:2]:
        folder = tmp_path / "photos" / group[0][:3]
        folder.mkdir(parents=True)
        for photo in group[:2]:
            shutil.copy(world.photos.folder / photo, folder)
    run = Run("folders", str(tmp_path / "photos"), settings={**SMALL, option: value})
    with pytest.raises(UsageError, match=option):
        evaluate(run, cache=tmp_path / "cache")


# Ranks


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A collection of 130 photos of one thing, seen from near by, and of 20 others."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "photos").mkdir()
    for number in range(THING):
        thing = cv2.warpPerspective(picture(0, 150, 200), homography(number, 150, 200), (200, 150))
        save(folder / "photos" / f"thing-{number:03d}.jpg", thing)
    for number in range(OTHERS):
        save(folder / "photos" / f"other-{number:03d}.jpg", picture(100 + number, 150, 200))
    collection = create_collection(folder / "c.resight", "classic", {**SMALL, "count": 80})
    collection.add([folder / "photos"])
    return collection


def proven(answer):
    return [result for result in answer.results if result.inliers and result.score >= answer.rule.threshold]


def test_matches_behind_rank_100(many):
    answer = many.search("thing-000.jpg", top=149, verify=149)
    assert len(answer.results) == 149
    assert all(result.verification is not None for result in answer.results)
    assert [result for result in answer.results if result.match] == proven(answer)
    matches = [result.rank for result in answer.results if result.match]
    assert len(matches) > 115
    assert max(matches) > 115
    assert {result.id[:5] for result in answer.results if result.match} == {"thing"}


def test_so_many_are_verified_as_were_asked_for(many):
    for verify in (7, 100):
        answer = many.search("thing-000.jpg", top=149, verify=verify)
        ranks = [result.rank for result in answer.results if result.verification is not None]
        assert ranks == list(range(1, verify + 1))


@pytest.mark.parametrize("options", [{}, {"verify": 149}, {"verify": 149, "expand": False}, {"strict": True}])
def test_an_explanation_is_of_the_ranking_that_was_searched(many, options):
    answer = many.search("thing-000.jpg", top=149, **options)
    for rank in (1, 99, 101, 123, 149):
        result = answer.results[rank - 1]
        explained = many.explain("thing-000.jpg", result.id, **options).result
        assert (explained.rank, explained.match, explained.inliers) == (rank, result.match, result.inliers)
        assert explained.score == pytest.approx(result.score)


def test_the_command_explains_what_the_command_searched(many):
    options = ("--set", "verify=149", "--top", "149", "--json")
    run, path = CliRunner(), str(many.path)
    searched = json.loads(run.invoke(app, ["search", path, "thing-000.jpg", *options]).stdout)["results"][122]
    explained = json.loads(run.invoke(app, ["explain", path, "thing-000.jpg", searched["id"], *options]).stdout)
    assert (explained["rank"], explained["match"], explained["inliers"]) == (
        123,
        searched["match"],
        searched["inliers"],
    )
    assert explained["shown"]
