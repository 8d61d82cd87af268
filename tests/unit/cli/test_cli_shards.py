"""The commands for shards, and searches of shards by the command line."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from resight.cli import app
from resight.cluster.layout import read_layout


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def shards(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "c.shards"
    done = run("shards", "split", built.path, "--to", folder, "--shards", 2, "--json")
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["shards"]) == 2
    return folder


def test_a_search_answers_as_the_collection_does(built, shards):
    query = built.photos.groups[0][0]
    answers = [json.loads(run("search", path, query, "--json").stdout) for path in (built.path, shards)]
    assert [(r["id"], r["score"]) for r in answers[0]["results"]] == [
        (r["id"], r["score"]) for r in answers[1]["results"]
    ]
    assert answers[1]["absent"] == []
    assert run("explain", shards, query, built.photos.groups[0][1]).exit_code == 0
    assert json.loads(run("info", shards, "--json").stdout)["photos"] == 19


def test_shards_that_are_gone_are_said(built, shards, tmp_path):
    copy = shutil.copytree(shards, tmp_path / "copy.shards")
    shutil.rmtree(read_layout(copy).shards[1])
    query = next(iter(sorted(built.photos.folder.rglob("*.jpg"))))
    refused = run("search", copy, query)
    assert refused.exit_code != 0
    assert "--partial" in refused.output
    partial = run("search", copy, query, "--partial")
    assert partial.exit_code == 0, partial.output
    assert "gone" in partial.output


def test_photos_are_added(built, shards, tmp_path):
    copy = shutil.copytree(shards, tmp_path / "grown.shards")
    new = tmp_path / "new.jpg"
    shutil.copyfile(next(iter(sorted(built.photos.folder.rglob("*.jpg")))), new)
    done = run("shards", "add", copy, new)
    assert done.exit_code == 0, done.output
    assert "1 added" in done.output


@pytest.mark.parametrize("command", [("graph", "build"), ("relearn",), ("duplicates",)])
def test_other_commands_take_one_shard(shards, command):
    done = run(*command, shards)
    assert done.exit_code != 0
    assert "lies in shards" in done.output


def test_engines_are_for_shards(built):
    done = run("search", built.path, built.photos.groups[0][0], "--engine", "ray://local")
    assert done.exit_code != 0
    assert "not one in shards" in done.output
