"""Regions of activation maps beside a collection: made, searched with, followed, refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from onnx_factory import write_network
from photo_factory import make_photos
from resight.artifacts.files import REGIONS
from resight.artifacts.regions import load_regions
from resight.cli import app
from resight.collection import create_collection, open_collection
from resight.collection.regions import describe_regions
from resight.errors import CollectionError, UsageError
from resight.evaluation.evaluate import evaluate
from resight.evaluation.experiment import Run
from resight.fitting.graphs import build_graph
from resight.images.decode import decode
from resight.matching.deep_spatial import describe, verify_regions


@pytest.fixture(scope="module")
def base(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("regions")
    network = write_network(folder / "net.onnx", channels=24)
    collection = create_collection(folder / "c.resight", "gem", {"backbone": str(network)})
    collection.add([world.photos.folder])
    build_graph(collection, 10)
    count, problems = describe_regions(collection)
    assert (count, problems) == (len(world.photos.names), [])
    return collection.path


@pytest.fixture
def copy(base, tmp_path):
    return open_collection(shutil.copytree(base, tmp_path / "c.resight"))


def same(one, other):
    parts = ("xy", "shape", "word", "strength")
    return all(np.array_equal(getattr(one.frames, name), getattr(other.frames, name)) for name in parts)


def test_what_is_stored_is_what_the_network_sees(base):
    snapshot = open_collection(base).snapshot
    rows = np.array([5, 0, 11])
    for row, found in zip(rows.tolist(), snapshot.regions(rows), strict=True):
        pixels = decode(snapshot.photo(row)["path"], max_side=snapshot.network.max_side).pixels
        seen = describe(snapshot.network.backbone, pixels, query=False)
        assert len(seen) > 3
        assert same(found, seen)
        np.testing.assert_array_equal(found.scale, seen.scale)
        np.testing.assert_array_equal(found.cells, seen.cells)


@pytest.mark.parametrize("recipe", ["deep-spatial", "deep-spatial-diffusion"])
def test_searches_follow_the_inliers(base, world, recipe):
    collection = open_collection(base)
    name = world.photos.groups[1][0]
    options = {"verify": 8} | ({"k": 5, "seeds": 2} if recipe == "deep-spatial-diffusion" else {})
    query = collection.query(world.photos.folder / name)
    pipeline = collection.pipeline(None, recipe, **options)
    ranking = pipeline(query.queries())
    snapshot = collection.snapshot
    before = collection.pipeline(None, "gem")(query.queries())
    own = snapshot.describe_regions(query.path, None)
    near = [row for row in before.ids[0].tolist() if row != query.queries().rows[0]][:8]
    inliers = [found.inliers for found in verify_regions(own, snapshot.regions(np.array(near)))]
    if recipe == "deep-spatial":
        expected = [near[i] for i in np.argsort(-np.array(inliers), kind="stable")]
        assert [row for row in ranking.ids[0].tolist() if row in near][:8] == expected
    evidence = pipeline.explain(query.queries(), 0, near[0])
    assert evidence[-1].stage.startswith("DeepSpatial")
    limited = collection.search(name, where="row < 6", recipe=recipe, **options).results
    assert {result.row for result in limited} <= set(range(6))
    with pytest.raises(UsageError, match="verify=0"):
        collection.search(name, recipe=recipe, verify=0)


def test_photos_that_come_need_regions_and_photos_that_go_do_not(copy, tmp_path, world):
    copy.remove(sorted(copy.ids)[:1])
    name = sorted(copy.ids)[3]
    assert open_collection(copy.path).search(name, recipe="deep-spatial").results
    more = make_photos(tmp_path / "more", objects=1)
    copy.add([more.folder])
    with pytest.raises(UsageError, match=r"3 photos of .* have no regions yet: run resight fit regions"):
        open_collection(copy.path).search(name, recipe="deep-spatial")
    (more.folder / more.names[0]).write_bytes(b"nothing")
    done = CliRunner().invoke(app, ["fit", "regions", str(copy.path), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["described"] == len(world.photos.names) - 1 + 2
    assert [problem["path"] for problem in said["problems"]] == [more.names[0]]
    snapshot = open_collection(copy.path).snapshot
    gone = snapshot.row_of(more.names[0])
    assert len(snapshot.regions(np.array([gone]))[0]) == 0, "a file that is gone has no regions, and is no error"
    assert open_collection(copy.path).search(name, recipe="deep-spatial").results


def test_what_does_not_fit_is_refused(copy, world, tmp_path):
    path, network = REGIONS.path(copy.path), copy.snapshot.network.fingerprint
    assert load_regions(copy.path, "another") is None
    with pytest.raises(CollectionError, match="1 photos have no regions"):
        load_regions(copy.path, network)(np.array([999]))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CollectionError, match=r"damaged.*run resight fit regions"):
        load_regions(copy.path, network)
    path.unlink()
    with pytest.raises(UsageError, match=r"needs regions of activation maps.*resight fit regions"):
        copy.search(sorted(copy.ids)[0], recipe="deep-spatial")
    classic = world.copy("classic", tmp_path)
    with pytest.raises(UsageError, match="collection needs one network that gives maps"):
        describe_regions(classic)


@pytest.mark.parametrize("recipe", ["deep-spatial", "deep-spatial-diffusion"])
def test_regions_of_a_benchmark_are_made_once(base, world, tmp_path, recipe, monkeypatch):
    lines = [f"{name} {group}" for group, names in enumerate(world.photos.groups[:4]) for name in names]
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    settings = {"backbone": str(base.parent / "net.onnx"), "verify": 5}
    settings |= {"k": 4, "seeds": 2, "alpha": 0.5} if recipe == "deep-spatial-diffusion" else {}
    run = Run("landmarks", str(tmp_path / "labels.txt"), recipe, settings, photos=str(world.photos.folder))
    found = evaluate(run, cache=tmp_path / "cache")
    assert [result.system for result in found.results] == ["GlobalSearch", "+ DescribeRegions"]
    monkeypatch.setattr("resight.collection.regions.describe", lambda *_, **__: pytest.fail("described again"))
    again = evaluate(replace(run, stages=1), cache=tmp_path / "cache")
    assert again.final.scores["plain"].map == found.results[0].scores["plain"].map
