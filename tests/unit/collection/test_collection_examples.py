"""Several query photos in one search, and examples of what is not meant."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from resight.cli import app
from resight.collection import open_collection
from resight.errors import UsageError


@pytest.fixture(scope="module")
def collection(world):
    return open_collection(world.path("classic"))


def test_results_have_the_best_of_their_scores_and_name_the_query(collection):
    one, other = "000-0.jpg", "003-0.jpg"
    alone = [{r.id: r for r in collection.search(query, top=30).results} for query in (one, other)]
    both = collection.search(one, top=30, also=[other])
    assert {r.id for r in both.results if r.match} >= {"000-1.jpg", "000-2.jpg", "003-1.jpg", "003-2.jpg"}
    for result in both.results:
        scores = [found[result.id].score for found in alone if result.id in found]
        assert result.score == max(scores)
        from_other = both.found_by(result).name == other
        source = alone[int(from_other)][result.id]
        assert (result.score, result.inliers, result.match) == (source.score, source.inliers, source.match)
    assert [r.rank for r in both.results] == list(range(1, len(both.results) + 1))
    assert (np.diff([r.score for r in both.results]) <= 0).all()
    assert len(collection.search(one, top=3, also=[other]).results) == 3


def test_order_of_queries_changes_no_score(collection):
    queries = ["000-0.jpg", "003-0.jpg", "005-1.jpg"]
    first = collection.search(queries[0], top=30, also=queries[1:])
    last = collection.search(queries[2], top=30, also=queries[1::-1])
    shared = {r.id for r in first.results} & {r.id for r in last.results}
    scores = [{r.id: r.score for r in answer.results if r.id in shared} for answer in (first, last)]
    assert scores[0] == scores[1]


def test_what_matches_an_example_is_left_out_and_others_fill_the_places(collection):
    everything = collection.search("000-0.jpg", top=10)
    without = collection.search("000-0.jpg", top=10, also=["003-0.jpg"], without=["003-1.jpg"])
    assert not any(r.id.startswith("003-") for r in without.results)
    assert {"000-1.jpg", "000-2.jpg"} <= {r.id for r in without.results}
    plain = collection.search("000-0.jpg", top=10, without=["000-1.jpg"])
    assert len(plain.results) == min(10, len(everything.results))
    assert "000-1.jpg" not in {r.id for r in plain.results}


def test_an_unknown_example_is_refused(collection):
    for how in ({"also": ["none.jpg"]}, {"without": ["none.jpg"]}):
        with pytest.raises(UsageError, match=r"none\.jpg is neither a file"):
            collection.search("000-0.jpg", **how)


def test_command_takes_several_photos_and_examples(collection, world, tmp_path):
    path, run = str(collection.path), CliRunner()
    photo = str(world.photos.folder / "000-0.jpg")
    call = ["search", path, photo, "003-0.jpg", "--not", "003-2.jpg", "--json"]
    said = json.loads(run.invoke(app, call).stdout)
    assert (said["query"], said["also"], said["without"]) == (photo, ["003-0.jpg"], ["003-2.jpg"])
    assert said["results"][0]["id"] == "000-0.jpg"  # the file itself
    assert {"000-1.jpg", "000-2.jpg"} <= {r["id"] for r in said["results"]}
    assert not any(r["id"].startswith("003-") for r in said["results"] if r["match"])
    page = tmp_path / "report.html"
    shown = run.invoke(app, ["search", path, "000-0.jpg", "003-0.jpg", "--top", "6", "--report", str(page)])
    assert shown.exit_code == 0, shown.output
    assert "found by" in shown.stdout
    assert "found by 003-0.jpg" in page.read_text(encoding="utf-8")
