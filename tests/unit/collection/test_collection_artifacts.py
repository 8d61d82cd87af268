"""What lies derived beside a collection: `check` sees all of it, a repair loses nothing, one writer at a time."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import resight.fitting
from photo_factory import picture, save
from resight.artifacts import files
from resight.artifacts.refined_vectors import follow_refined
from resight.artifacts.vlad import make_vlad
from resight.cli import app
from resight.collection import open_collection
from resight.collection.check import check_collection, repair_collection
from resight.collection.update import begin
from resight.errors import CollectionLocked, UsageError
from resight.features.whitening import fit_pca
from resight.fitting.fusion import fit_fusion
from resight.fitting.graphs import build_graph, tune
from resight.fitting.labels import label
from resight.fitting.separation import extend_separation, fit_separation_to
from resight.fitting.similarity import fit_similarity
from resight.fitting.whitening import use_whitening
from resight.index.approximate import ApproximateIndex
from resight.recipes.catalogue import RECIPES
from resight.store.block_log import BlockLog
from resight.store.writer import writing

# Artifacts of a collection that keeps one kind of local features, with nothing learnt before they were extracted.
OTHER_KINDS = {one for key, files_of in files.LOCAL.items() if key for one in vars(files_of).values()}
ARTIFACTS = tuple(one for one in files.ARTIFACTS if one not in OTHER_KINDS and one != files.LOCAL[""].reduction)
LEARNED = tuple(artifact for artifact in ARTIFACTS if artifact.learned)
NONSENSE = b"\x00nonsense" * 40


def ids(artifact):
    return artifact.name


@pytest.fixture(scope="module")
def whole(fitted, tmp_path_factory):
    """`fitted` with the artifacts of large and of classic collections, and of runs that were stopped. Do not write."""
    path = shutil.copytree(fitted, tmp_path_factory.mktemp("whole") / "c.resight")
    collection = open_collection(path)

    def stop(epoch):
        if epoch.number == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_separation_to(collection, k=2, on_epoch=stop)
    with writing(path, "test") as writer:
        make_vlad(writer)
        ApproximateIndex.over(collection.vectors()[1]).save(files.place(writer, files.VECTOR_LISTS))
        made = collection.snapshot.descriptors
        for where in (files.VECTORS_CODED, files.GRAPH_CODED):
            follow_refined(writer, where, made.rows, made.matrix)
        BlockLog(files.place(writer, files.VERIFIED_LOG), "test").append(0, bytes(100))
    assert [artifact for artifact in ARTIFACTS if not artifact.exists(path)] == [files.UNFINISHED]
    return path


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "c.resight")


def broken(findings):
    return {finding.name for finding in findings if not finding.ok}


def state(path):
    """Every file of the collection: when it was written, and what it holds."""
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.rglob("*") if file.is_file()}


def test_a_whole_collection_is_ok(whole):
    assert broken(check_collection(whole)) == set()


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=ids)
def test_check_sees_every_damaged_artifact(copy, artifact):
    """Whatever the damage, down to one bit, in the header or in the values."""
    path = artifact.path(copy)
    if artifact is files.UNFINISHED:
        with writing(copy, "test") as writer:
            begin(writer, open_collection(copy).snapshot)
    content = path.read_bytes()
    rng = np.random.default_rng(len(content))
    damages = {"nonsense": NONSENSE, "empty": b""}
    if artifact is not files.VERIFIED_LOG:  # a kill cuts it short, and what is whole of it counts
        damages["cut"] = content[:-9]
    for place in rng.integers(0, len(content), 12):
        if not content[place : place + 1].isspace():
            damages[f"bit {place}"] = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    missed = []
    for damage, changed in damages.items():
        path.write_bytes(changed)
        if artifact.name not in [other.name for other, _ in files.damaged(copy)]:
            missed.append(damage)
    assert missed == []
    path.write_bytes(NONSENSE)
    assert broken(check_collection(copy)) == {artifact.name}


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=ids)
def test_a_repair_sets_aside_what_a_user_taught(copy, artifact):
    before = {other: other.path(copy).read_bytes() for other in LEARNED}
    artifact.path(copy).write_bytes(NONSENSE)
    findings = repair_collection(copy)
    assert broken(findings) == set()
    aside = artifact.path(copy).with_name(artifact.name + ".damaged")
    assert aside.exists() == artifact.learned
    if artifact.learned:
        assert aside.read_bytes() == NONSENSE
        assert any(artifact.command in finding.message for finding in findings if finding.name == "repaired")
    for other, content in before.items():
        if other is not artifact:
            assert other.path(copy).read_bytes() == content, other.name


def test_a_second_repair_keeps_what_the_first_set_aside(copy):
    for content in (NONSENSE, b"other nonsense"):
        files.FUSION.path(copy).write_bytes(content)
        repair_collection(copy)
    kept = sorted(path.read_bytes() for path in files.FUSION.path(copy).parent.glob("fusion.json.damaged*"))
    assert kept == sorted([NONSENSE, b"other nonsense"])


@pytest.mark.parametrize(
    "damaged",
    [(files.WHITENING,), (files.GRAPH,), tuple(a for a in ARTIFACTS if a not in (files.WHITENING, files.GRAPH))],
    ids=["whitening", "graph", "all others"],
)
def test_photos_are_added_beside_damaged_artifacts(copy, tmp_path, damaged):
    for artifact in damaged:
        artifact.path(copy).write_bytes(NONSENSE)
    report = open_collection(copy).add([save(tmp_path / "new.jpg", picture(50))])
    assert report.added == 1
    expected = [artifact.command for artifact in damaged] if len(damaged) == 1 else []
    assert [f"run {command} on {copy}" in note for command, note in zip(expected, report.notes, strict=True)] == [
        True
    ] * len(expected)
    assert "new.jpg" in open_collection(copy).ids


@pytest.mark.parametrize("artifact", [files.VLAD, files.VLAD_VECTORS], ids=ids)
def test_photos_are_added_beside_a_damaged_vlad(world, tmp_path, artifact):
    collection = world.copy("classic", tmp_path)
    build_graph(collection, 4)
    artifact.path(collection.path).write_bytes(NONSENSE)
    name = save(tmp_path / "new.jpg", picture(50))
    told = CliRunner().invoke(app, ["add", str(collection.path), str(name)])
    assert told.exit_code == 0, told.output
    assert "run resight graph build on" in " ".join(told.output.split())
    again = open_collection(collection.path)
    assert [result.id for result in again.search("new.jpg").results]
    told = CliRunner().invoke(app, ["remove", str(collection.path), "new.jpg", "--json"])
    assert json.loads(told.stdout)["removed"] == 1


@pytest.fixture
def writers(world, tmp_path):
    """Every function of `fitting/` that writes, by name, ready to be called with a collection."""
    labels, groups = tmp_path / "labels.csv", tmp_path / "groups.csv"
    names = world.photos.names
    labels.write_text("\n".join(["photo,label", *(f"{world.photos.folder / name},{name[:3]}" for name in names)]))
    groups.write_text("\n".join(["id,group", *(f"{name},{name[:3]}" for name in names)]))
    return {
        "fit_fusion": fit_fusion,
        "build_graph": lambda collection: build_graph(collection, 4),
        "tune": tune,
        "label": lambda collection: label(collection, labels),
        "fit_separation_to": lambda collection: fit_separation_to(collection, epochs=1),
        "extend_separation": extend_separation,
        "fit_similarity": lambda collection: fit_similarity(collection, groups=groups),
        "use_whitening": lambda collection: use_whitening(collection, fit_pca(collection.snapshot.tables.vectors()[1])),
    }


def test_one_writer_holds_for_all_that_is_fitted(copy, writers):
    collection = open_collection(copy)
    with writing(copy, "the first one"):
        before = state(copy)
        for name, write in writers.items():
            with pytest.raises(CollectionLocked, match="the first one"):
                write(collection)
            assert state(copy) == before, name
        with pytest.raises(CollectionLocked):
            repair_collection(copy)


def test_these_are_all_functions_of_fitting_that_write(writers):
    found = set()
    for path in Path(resight.fitting.__file__).parent.glob("*.py"):
        for function in ast.parse(path.read_text()).body:
            if isinstance(function, ast.FunctionDef) and "writing(" in ast.unparse(function):
                found.add(function.name)
        module = importlib.import_module(f"resight.fitting.{path.stem}") if path.stem != "__init__" else None
        assert module is None or not hasattr(module, "derived_path")
    assert found == set(writers)


@pytest.mark.parametrize("recipe", [None, *RECIPES])
def test_a_search_writes_nothing(fitted, world, recipe, tmp_path):
    name = world.photos.names[0]
    outside = save(tmp_path / "outside.jpg", picture(3))
    before = state(fitted)
    collection = open_collection(fitted)
    for image in (name, outside):
        assert collection.search(image, recipe=recipe).results
    collection.explain(name, world.photos.names[1], recipe=recipe)
    collection.info()
    assert state(fitted) == before


def test_a_classic_search_makes_no_descriptors(built):
    before = state(built.path)
    collection = open_collection(built.path)
    collection.search("001-0.jpg")
    for recipe in ("diffusion", "deep-similarity", "separation"):
        with pytest.raises(UsageError, match="lacks"):
            collection.search("001-0.jpg", recipe=recipe)
    assert state(built.path) == before
