"""Graphs, labels and graph recipes of a collection."""

from __future__ import annotations

import io
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from photo_factory import make_photos
from resight.artifacts.files import GRAPH, GRAPH_CODED, OFFLINE, TUNED
from resight.cli import app
from resight.collection import open_collection
from resight.collection.regions import describe_regions
from resight.errors import CollectionError, UsageError
from resight.fitting.graphs import build_graph, tune
from resight.fitting.labels import label
from resight.graph.knn_graph import build_knn_graph
from resight.ranking.expansion_stages import Augmentation
from resight.recipes import resources
from resight.recipes.catalogue import RECIPES, pipeline
from resight.recipes.resources import need_augmented
from resight.reports.graph_figure import graph_figure


@pytest.fixture(scope="module")
def base(world, tmp_path_factory):
    """A hybrid collection with every graph, and labels for its photos."""
    folder = tmp_path_factory.mktemp("graphs")
    collection = world.copy("hybrid", folder)
    os.rename(collection.path, folder / "c.resight")
    collection = open_collection(folder / "c.resight")
    describe_regions(collection)
    reports = build_graph(collection, 8, offline=True, augmented=Augmentation(least=5))
    assert [report.kind for report in reports] == ["similarity", "verified", "augmented", "off-line diffusion"]
    lines = [f"{path},{path.stem[:3]}" for path in sorted(world.photos.folder.iterdir())]
    (folder / "labels.csv").write_text("\n".join(["photo,label", *lines]))
    label(collection, folder / "labels.csv")
    return folder


@pytest.fixture
def copy(base, tmp_path):
    shutil.copytree(base / "c.resight", tmp_path / "c.resight")
    return tmp_path / "c.resight"


OPTIONS = {name: {"k": 8} for name in ("explore-exploit", "semi-supervised", "diffusion", "verified-diffusion")}
OPTIONS |= {"deep-spatial-diffusion": {"k": 8}}
OPTIONS |= {"spectral-ranking": {"k": 8, "rank": 5}, "hybrid-diffusion": {"k": 8, "rank": 5}}
OPTIONS |= {
    "landmark2019": {"k": 8, "least": 5},
    "verified-expansion": {"least": 5},
    "k-reciprocal": {"k1": 5, "k2": 2},
    "super-global": {"k": 3},
}


SEARCHED = sorted(name for name, recipe in RECIPES.items() if not recipe.indexes)
FITTED = ("separation", "deep-similarity")


@pytest.mark.parametrize("name", [name for name in SEARCHED if name not in FITTED])
def test_every_recipe_answers_online_and_explains(base, name):
    collection = open_collection(base / "c.resight")
    ids = sorted(collection.ids)
    answer = collection.search(ids[0], top=5, recipe=name, **OPTIONS.get(name, {}))
    assert 1 <= len(answer.results) <= 5
    assert ids[0] not in [result.id for result in answer.results]
    path = collection.snapshot.photo(collection.snapshot.row_of(ids[3]))["path"]
    unseen = collection.search(path, top=10, recipe=name, **OPTIONS.get(name, {}))
    assert ids[3] in [result.id for result in unseen.results]
    if name not in ("diffusion", "explore-exploit", "semi-supervised", "landmark2019", "spectral-ranking"):
        return
    evidence = collection.pipeline(None, name, **OPTIONS[name]).explain(
        collection.query(ids[0]).queries(), 0, answer.results[0].row
    )
    assert len(evidence) >= 2


def test_every_photo_is_expanded_as_the_query_is(base):
    snapshot = open_collection(base / "c.resight").snapshot
    vectors, graph, verified = snapshot.descriptors.matrix, snapshot.graph, snapshot.verified_graph
    moved = vectors.copy()
    for node in range(len(vectors)):
        near = graph.ids[node][:4].tolist()
        proven = [(ids, w) for ids, w in zip(verified.ids[node], verified.weights[node], strict=True) if ids in near]
        moved[node] += sum(vectors[ids] for ids, w in proven if w >= 5 and ids in [i for i, _ in proven[:2]])
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    assert np.abs(moved - vectors).max() > 0.01
    stages = pipeline("verified-expansion", snapshot, {"augment": True, "verify": 4, "least": 5}).stages
    np.testing.assert_allclose(stages[1].database.vectors, moved, atol=1e-6)
    how = Augmentation(4, 5, 2)
    assert snapshot.augmented_graph(how) is None, "it is of another augmentation"
    with pytest.raises(UsageError, match=r"first 10, least 9, most 2.*graph build --augmented"):
        pipeline("landmark2019", snapshot, {"least": 9, "k": 8})
    built = replace(snapshot, builds=True)
    database, graph = need_augmented(built, 8, Augmentation(least=5))
    assert np.array_equal(graph.ids, snapshot.augmented_graph(Augmentation(least=5)).ids)
    assert np.array_equal(graph.ids, build_knn_graph(database.vectors, 8).ids)


def test_the_stored_graph_is_the_one_of_the_vectors(base):
    collection = open_collection(base / "c.resight")
    expected = build_knn_graph(collection.vectors()[1], 8)
    stored = collection.snapshot.graph
    assert np.array_equal(stored.ids, expected.ids)
    assert collection.snapshot.verified_graph is not None


def test_photos_that_come_and_go_are_followed(copy, tmp_path):
    collection = open_collection(copy)
    ids = sorted(collection.ids)
    collection.remove(ids[:2])
    after = open_collection(copy)
    expected = build_knn_graph(after.vectors()[1], 8)
    assert np.array_equal(after.snapshot.graph.ids, expected.ids)
    assert after.snapshot.verified_graph is None
    with pytest.raises(UsageError, match="verified graph, which the collection lacks"):
        after.search(ids[2], recipe="explore-exploit", verified=True)
    more = make_photos(tmp_path / "more", objects=2)
    after.add([more.folder])
    again = open_collection(copy)
    expected = build_knn_graph(again.vectors()[1], 8)
    assert np.array_equal(again.snapshot.graph.ids, expected.ids)


def test_traversal_of_the_verified_graph_returns_proven_photos_only(base):
    collection = open_collection(base / "c.resight")
    first = sorted(collection.ids)[0]
    pipeline = collection.pipeline(None, "explore-exploit", verified=True, threshold=1000.0, k=8)
    stage = pipeline.stages[1]
    found = stage(collection.query(first).queries(), None)
    proofs = collection.snapshot.verifier(collection.query(first).local, found.ids[0][found.ids[0] >= 0])
    assert proofs
    assert proofs[0].verified


def test_where_holds_for_graph_recipes_too(base):
    collection = open_collection(base / "c.resight")
    ids = sorted(collection.ids)
    found = collection.search(ids[0], where="row < 5", recipe="diffusion", k=8).results
    assert {result.row for result in found} <= set(range(5))


def test_what_is_missing_is_said(base, world, tmp_path):
    collection = open_collection(base / "c.resight")
    first = sorted(collection.ids)[0]
    with pytest.raises(UsageError, match="recipe 'best' is unknown"):
        collection.search(first, recipe="best")
    with pytest.raises(UsageError, match=r"explore-exploit has no option 'treshold': it has threshold"):
        collection.search(first, recipe="explore-exploit", treshold=3)
    with pytest.raises(UsageError, match="--k 20"):
        collection.search(first, recipe="diffusion", k=20)
    gem = world.copy("gem", tmp_path)
    first = sorted(gem.ids)[0]
    for recipe, missing in (
        ("diffusion", "graph build"),
        ("landmark2019", "local features"),
        ("semi-supervised", "label"),
    ):
        with pytest.raises(UsageError, match=missing):
            gem.search(first, recipe=recipe)
    assert gem.search(first, recipe="alpha-expansion", n=1).results
    classic = world.copy("classic", tmp_path)
    with pytest.raises(UsageError, match="needs global descriptors"):
        classic.search(sorted(classic.ids)[0], recipe="diffusion")


def test_a_classic_collection_has_graphs_of_vlad(world, tmp_path):
    photos, collection = world.photos, world.copy("classic", tmp_path)
    reports = build_graph(collection, 4, verified=True)
    assert [report.nodes for report in reports] == [len(collection.snapshot.index)] * 2
    first = sorted(collection.ids)[0]
    again = open_collection(collection.path)
    assert again.search(first, recipe="diffusion", k=4).results
    assert again.search(str(photos.folder / first), recipe="explore-exploit", k=4, threshold=0.0).results
    collection.remove([first])
    assert collection.search(sorted(collection.ids)[0], recipe="diffusion", k=4).results
    assert len(open_collection(collection.path).snapshot.graph) == len(collection.snapshot.index)


def test_tuned_options_are_used(copy):
    collection = open_collection(copy)
    chosen = tune(collection)
    assert open_collection(copy).snapshot.tuned["traversal"] == dict(chosen.traversal.settings)
    TUNED.path(copy).write_text("{}")
    with pytest.raises(CollectionError, match="resight graph tune"):
        _ = open_collection(copy).snapshot.tuned


@pytest.mark.parametrize(("artifact", "part"), [(GRAPH, "graph"), (OFFLINE, "offline")])
def test_damaged_graphs_are_named(copy, artifact, part):
    artifact.path(copy).write_bytes(b"nonsense")
    with pytest.raises(CollectionError, match=f"{artifact.name}.*run {artifact.command}"):
        getattr(open_collection(copy).snapshot, part)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is empty"), ("a.jpg,1\n", "photo,label"), ("photo,label\nnowhere.jpg,3\n", "there is no photo")],
)
def test_label_files_that_cannot_be(copy, tmp_path, text, message):
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        label(open_collection(copy), file)


def test_the_report_shows_how_results_hang_together(base, tmp_path):
    collection, page = open_collection(base / "c.resight"), tmp_path / "page.html"
    first = sorted(collection.ids)[0]
    told = CliRunner().invoke(
        app, ["search", str(collection.path), first, "--recipe", "explore-exploit", "--set", "k=8", "--set",
              "threshold=0.0", "--report", str(page)]
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    assert "How the first results hang together" in page.read_text()
    answer = collection.search(first, recipe="explore-exploit", k=8, threshold=0.0)
    picture = Image.open(io.BytesIO(graph_figure(collection, answer, "explore-exploit", {"k": 8, "threshold": 0.0})))
    assert min(picture.size) > 100


def test_commands(world, tmp_path):
    run, network = CliRunner(), str(world.network)
    photos = make_photos(tmp_path / "photos", objects=3)
    labels = tmp_path / "labels.csv"
    paths = [path for path in sorted(photos.folder.rglob("*")) if path.is_file()]
    labels.write_text("\n".join(["photo,label", *(f"{path},{path.stem[:3]}" for path in paths)]))
    name = str(tmp_path / "n.resight")
    made = run.invoke(
        app,
        ["index", str(photos.folder), "--to", name, "--recipe", "gem", "--backbone", network],
    )
    assert made.exit_code == 0, made.output
    made = run.invoke(app, ["label", name, str(labels)])
    assert "with labels beside it" in made.output
    built = json.loads(run.invoke(app, ["graph", "build", name, "--k", "4", "--json"]).stdout)
    assert built[0]["k"] == 4
    assert json.loads(run.invoke(app, ["graph", "tune", name, "--json"]).stdout)["source"] == "mutual neighbours"
    first = sorted(open_collection(name).ids)[0]
    found = run.invoke(app, ["search", name, first, "--recipe", "diffusion", "--set", "k=4", "--json"])
    assert json.loads(found.stdout)["results"]
    told = run.invoke(
        app, ["explain", name, first, sorted(open_collection(name).ids)[1], "--recipe", "semi-supervised"]
    )
    assert told.exit_code == 2  # k = 50 is more than the stored graph has
    assert "--k 50" in told.output


def test_what_is_stored_answers_as_what_each_search_would_make(copy, monkeypatch):
    options = {"spectral-ranking": {"k": 8, "rank": 5}, "hybrid-diffusion": {"k": 8, "rank": 5}}
    options |= {"manifold-embedding": {}, "explore-exploit": {"k": 8}}
    ids = sorted(open_collection(copy).ids)

    def answers():
        opened = open_collection(copy)
        found = [opened.search(i, recipe=name, **given) for name, given in options.items() for i in ids[:3]]
        return [{result.id: result.score for result in one.results} for one in found]

    made = answers()
    reports = build_graph(open_collection(copy), 8, spectral=True, manifold=True)
    assert [report.kind for report in reports] == ["similarity", "spectral basis", "manifold embedding"]
    for name in ("spectral_basis", "iterative_embedding", "adjacency"):
        monkeypatch.setattr(resources, name, lambda *_: pytest.fail("it is made anew"))
    for stored, anew in zip(answers(), made, strict=True):
        assert stored == pytest.approx(anew, abs=1e-4)
    monkeypatch.undo()
    open_collection(copy).remove(ids[-1:])
    after = open_collection(copy).snapshot
    assert after.spectral_basis(8, 5) is None
    assert after.embedding(5, 2048, 2) is None
    assert len(after.edges) == len(after.graph) == len(ids) - 1


def test_a_graph_that_was_cut_off_is_named_with_its_command(copy):
    path = GRAPH.path(copy)
    os.truncate(path, path.stat().st_size - 9)
    with pytest.raises(CollectionError, match=r"graph\.safetensors is damaged .*run resight graph build"):
        open_collection(copy).snapshot.graph.ids.sum()


def test_the_graph_of_a_large_collection_is_searched_and_followed(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("resight.artifacts.neighbours.SEARCHED_FROM", 5)
    monkeypatch.setattr("resight.artifacts.neighbours.build_knn_graph", lambda *_: pytest.fail("all are compared"))
    (report,) = build_graph(open_collection(copy), 8)
    assert report.recall == 1.0  # few photos: the search is exact
    ids = sorted(open_collection(copy).ids)
    open_collection(copy).remove(ids[:2])
    after = open_collection(copy)
    assert np.array_equal(after.snapshot.graph.ids, build_knn_graph(halved(after), 8).ids)
    after.add([make_photos(tmp_path / "more", objects=2).folder])
    again = open_collection(copy)
    expected = build_knn_graph(halved(again), 8)
    assert np.isin(again.snapshot.graph.ids, expected.ids).all()
    assert (again.snapshot.graph.ids == expected.ids).mean() > 0.9
    GRAPH_CODED.vectors.path(copy).unlink()
    again.remove(ids[2:3])
    last = open_collection(copy)
    assert len(last.snapshot.graph) == len(last.ids)


def halved(collection):
    return collection.snapshot.descriptors.matrix.astype(np.float16).astype(np.float32)
