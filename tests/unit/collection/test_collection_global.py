"""Collections with global descriptors: recipes gem and hybrid over a small network."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from onnx_factory import write_network
from photo_factory import picture, save
from resight.artifacts.files import FUSION, VECTOR_LISTS, VECTORS_CODED, WHITENING
from resight.cli import app
from resight.collection import create_collection, open_collection, open_or_create
from resight.collection.check import check_collection, repair_collection
from resight.errors import CollectionError, ImageError, StampMismatch, UsageError
from resight.features.whitening import fit_pca
from resight.fitting.fusion import fit_fusion
from resight.fitting.whitening import fit_whitening_to, use_whitening
from resight.index.approximate import ApproximateIndex
from resight.index.refined import RefinedIndex
from resight.reports.pictures import contribution_picture


@pytest.fixture
def gem(world, tmp_path):
    return world.copy("gem", tmp_path).path


@pytest.fixture
def both(world, tmp_path):
    return world.copy("hybrid", tmp_path)


def test_a_photo_finds_itself_first_and_rows_fit_vectors(world, gem):
    collection = open_collection(gem)
    rows, vectors = collection.vectors()
    assert len(rows) == len(collection.snapshot.tables) == len(vectors)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    photos = world.photos
    query = collection.query(photos.folder / sorted(collection.ids)[0])
    ranking = collection.pipeline()(query.queries())
    assert ranking.ids[0, 0] == collection.snapshot.row_of(sorted(collection.ids)[0])
    answer = collection.search(sorted(collection.ids)[0], top=5)
    assert len(answer.results) == 5
    assert not answer.rule.proof
    assert sorted(collection.ids)[0] not in [result.id for result in answer.results]
    assert all(result.verification is None for result in answer.results)
    expected = vectors @ vectors[collection.snapshot.row_of(sorted(collection.ids)[0])]
    best = np.argsort(-expected, kind="stable")[1:6]
    assert [result.row for result in answer.results] == rows[best].tolist()


def test_a_blend_of_two_networks_is_one_vector(world, tmp_path):
    first, second = (write_network(tmp_path / f"{name}.onnx", channels=c, seed=c) for name, c in (("a", 8), ("b", 12)))
    settings = {"backbone": str(first), "second": str(second)}
    collection = create_collection(tmp_path / "blend.resight", "gem", settings)
    collection.add([world.photos.folder])
    alone = {}
    for name, network in (("a", first), ("b", second)):
        alone[name] = create_collection(tmp_path / f"{name}.resight", "gem", {"backbone": str(network)})
        alone[name].add([world.photos.folder])
    vectors = collection.vectors()[1]
    parts = np.hstack([one.vectors()[1] for one in alone.values()]) / np.sqrt(2)
    np.testing.assert_allclose(vectors, parts, atol=1e-6)
    id_ = sorted(collection.ids)[0]
    assert open_collection(collection.path).search(world.photos.folder / id_).results[0].id == id_
    with pytest.raises(StampMismatch, match="another network"):
        open_or_create(collection.path, "gem", {**settings, "second": str(first)})
    with pytest.raises(UsageError, match=r"there is no backbone .*none\.onnx"):
        create_collection(tmp_path / "x.resight", "gem", {**settings, "second": str(tmp_path / "none.onnx")})
    query, result = collection.query(id_), collection.search(id_).results[0]
    with pytest.raises(UsageError, match="vectors of two networks"):
        contribution_picture(collection, query, result)


def test_a_few_photos_do_not_tell_what_a_match_is(gem):
    collection = open_collection(gem)
    collection.remove(sorted(collection.ids)[3:])
    answer = open_collection(gem).search(sorted(collection.ids)[0])
    assert answer.rule.threshold is None
    assert not answer.confident
    assert "without saying what is a match" in str(answer.rule)


def test_evidence_of_a_global_search(gem):
    collection = open_collection(gem)
    ids = sorted(collection.ids)
    explanation = collection.explain(ids[0], ids[1])
    assert [item.stage for item in explanation.evidence] == ["GlobalSearch"]
    assert "cosine" in explanation.evidence[0].summary


def test_removed_and_changed_photos(gem, tmp_path):
    collection = open_collection(gem)
    ids = sorted(collection.ids)
    collection.remove(ids[:2])
    assert ids[0] not in [result.id for result in collection.search(ids[2], top=50).results]
    assert len(open_collection(gem).vectors()[0]) == len(ids) - 2
    extra = tmp_path / "more"
    extra.mkdir()
    Image.fromarray(np.full((90, 120, 3), 80, np.uint8)).save(extra / "plain.png")
    Image.fromarray(np.full((3, 200, 3), 80, np.uint8)).save(extra / "thin.png")
    (extra / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    report = open_collection(gem).add([extra])
    assert (report.added, sorted(problem.kind for problem in report.problems)) == (1, ["too-small", "truncated"])
    assert "200 x 3" in next(p.message for p in report.problems if p.kind == "too-small")
    after = open_collection(gem)
    assert len(after.vectors()[0]) == len(ids) - 1
    with pytest.raises(ImageError, match="200 x 3"):
        after.search(extra / "thin.png")


def test_hybrid_keeps_both_and_thin_photos_their_local_features(both, tmp_path):
    collection = both
    stages = [item.stage for item in collection.explain(*sorted(collection.ids)[:2]).evidence]
    assert stages[:3] == ["AsmkSearch", "GlobalSearch", "SpatialRerank"]
    answer = collection.search(sorted(collection.ids)[0], top=3)
    assert answer.rule.proof
    assert answer.results[0].match
    thin = tmp_path / "thin.png"
    pixels = np.random.default_rng(0).integers(0, 256, (5, 400, 3), np.uint8)
    Image.fromarray(pixels).save(thin)
    assert collection.add([thin]).problems == []
    assert len(collection.vectors()[0]) == len(collection.snapshot.tables) - 1
    assert len(collection.search(thin, top=3).results) > 0


def test_weight_zero_is_classic_before_verification(both):
    query = both.query(sorted(both.ids)[4]).queries()
    fused = both.pipeline(weight=0.0, expand=False)(query)
    whole = both.pipeline(weight=50.0, expand=False)(query)
    assert fused.ids[0, 0] == query.rows[0]
    assert fused.ids[0].tolist() != whole.ids[0].tolist()
    with pytest.raises(UsageError, match="weight=-1"):
        both.pipeline(weight=-1.0)


def test_a_whitening_given_is_used_and_kept(gem):
    collection = open_collection(gem)
    raw = collection.vectors()[1]
    whitening = fit_pca(raw, 4)
    use_whitening(collection, whitening)
    again = open_collection(gem)
    np.testing.assert_allclose(again.vectors()[1], whitening.apply(raw), atol=1e-6)
    assert (again.info().whitening, again.info().dim, again.info().vectors) == ("pca", 4, len(raw))
    first = sorted(again.ids)[0]
    path = again.snapshot.photo(again.snapshot.row_of(first))["path"]
    np.testing.assert_allclose(again.query(path).vector, again.query(first).vector, atol=1e-4)
    again.remove([first])
    assert open_collection(gem).info().dim == 4
    with pytest.raises(UsageError, match="dimensions does not fit"):
        use_whitening(again, fit_pca(np.random.default_rng(0).normal(size=(9, 3))))


def test_a_damaged_whitening_is_named_and_repaired(gem):
    use_whitening(open_collection(gem), fit_pca(open_collection(gem).vectors()[1], 4))
    WHITENING.path(gem).write_bytes(b"nonsense")
    assert not all(finding.ok for finding in check_collection(gem))
    assert all(finding.ok for finding in repair_collection(gem))
    assert open_collection(gem).info().whitening == "none"


def test_another_network_is_refused_and_a_moved_one_followed(gem, world, tmp_path):
    network = world.network
    other = write_network(tmp_path / "other.onnx", channels=24, seed=1)
    with pytest.raises(StampMismatch, match="another network"):
        open_or_create(gem, "gem", {"backbone": str(other)})
    moved = tmp_path / "moved.onnx"
    shutil.copy(network, moved)
    assert open_or_create(gem, "gem", {"backbone": str(moved)}).snapshot.stamp.parameters["backbone"] == str(moved)
    moved.unlink()
    collection = open_collection(gem)
    assert collection.search(sorted(collection.ids)[0]).results  # a stored vector needs no network
    with pytest.raises(UsageError, match=r"there is no backbone .*moved\.onnx"):
        collection.search(save(tmp_path / "outside.jpg", picture(77)))


def test_a_large_collection_keeps_its_lists_and_follows_changes(gem, monkeypatch):
    monkeypatch.setattr("resight.index.approximate.HALF_VALUES", 10)
    monkeypatch.setattr("resight.index.approximate.FLOAT_VALUES", 5)
    collection = open_collection(gem)
    ids = sorted(collection.ids)
    exact = [result.id for result in collection.search(ids[3], top=8).results]
    assert isinstance(collection.snapshot.descriptors.index, ApproximateIndex)
    assert not VECTOR_LISTS.path(gem).exists()  # opened without a writer: made in memory
    collection.remove(ids[:1])
    assert VECTOR_LISTS.path(gem).exists()
    again = open_collection(gem)
    assert again.snapshot.descriptors.index.rows.tolist() == again.vectors()[0].tolist()
    assert [result.id for result in again.search(ids[3], top=8).results][:5] == [i for i in exact if i != ids[0]][:5]
    VECTOR_LISTS.path(gem).write_bytes(b"nonsense")
    assert not all(finding.ok for finding in check_collection(gem))
    assert all(finding.ok for finding in repair_collection(gem))
    monkeypatch.undo()
    open_collection(gem).remove(ids[1:2])
    assert not VECTOR_LISTS.path(gem).exists()


def test_networks_that_do_not_fit_the_recipe(world, tmp_path):
    with pytest.raises(UsageError, match="recipe gem needs a network"):
        create_collection(tmp_path / "a.resight", "gem")
    with pytest.raises(UsageError, match="solar is a trained network"):
        create_collection(tmp_path / "a.resight", "solar", {"backbone": str(world.network)})
    with pytest.raises(UsageError, match="there is no backbone"):
        create_collection(tmp_path / "a.resight", "gem", {"backbone": "nowhere.onnx"})
    assert not (tmp_path / "a.resight").exists()


def test_whitening_is_fitted_by_itself_when_there_are_enough_photos(world, tmp_path, monkeypatch):
    monkeypatch.setattr("resight.artifacts.descriptors.FEWEST", 10)
    photos, network = world.photos, world.network
    collection = create_collection(tmp_path / "c.resight", "gem", {"backbone": str(network), "whiten": "zca"})
    collection.add([photos.folder])
    assert collection.info().whitening == "zca"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "best"}, "method 'best'"),
        ({"method": "learned"}, "--pairs"),
        ({"method": "zca", "dim": 3}, "keeps all dimensions"),
    ],
)
def test_whitening_that_cannot_be_fitted(gem, options, message):
    with pytest.raises(UsageError, match=message):
        fit_whitening_to(open_collection(gem), **options)


def test_the_weight_of_the_descriptor_is_learned(both, gem, tmp_path):
    collection = both
    learned = fit_fusion(collection)
    assert learned.weight >= 0
    assert learned.matches >= learned.queries >= 5
    assert open_collection(collection.path).pipeline().stages[0].terms[1][0] == learned.weight
    ids = sorted(collection.ids)
    pairs = tmp_path / "pairs.csv"
    same = [(a, b) for a in ids for b in ids if a < b and a[:3] == b[:3]]
    pairs.write_text("left,right\n" + "".join(f"{a},{b}\n" for a, b in same))
    given = json.loads(
        CliRunner().invoke(app, ["fit", "fusion", str(collection.path), "--pairs", str(pairs), "--json"]).stdout
    )
    assert (given["matches"], given["source"]) == (2 * len(same), "given pairs")
    FUSION.path(collection.path).write_text('{"weight": -1}')
    with pytest.raises(CollectionError, match="resight fit fusion"):
        open_collection(collection.path).pipeline()
    with pytest.raises(UsageError, match="nothing to weigh"):
        fit_fusion(open_collection(gem))


def test_commands(world, gem, tmp_path):
    photos, network = world.photos, world.network
    run = CliRunner()
    path = str(tmp_path / "new.resight")
    made_now = run.invoke(
        app, ["index", str(photos.folder), "--to", path, "--recipe", "gem", "--backbone", str(network), "--json"]
    )
    assert json.loads(made_now.stdout)["added"] == len(open_collection(path).snapshot.tables)
    ids = sorted(open_collection(path).ids)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("left,right\n" + "".join(f"{a},{b}\n" for a, b in zip(ids[::2], ids[1::2], strict=False)))
    learned = ["fit", "whitening", path, "--method", "learned", "--pairs", str(pairs), "--dim", "5", "--json"]
    assert json.loads(run.invoke(app, learned).stdout)["method"] == "learned"
    assert open_collection(path).info().dim == 5
    same = [(a, b) for a in ids for b in ids if a < b and a[:3] == b[:3]]
    pairs.write_text("left,right\n" + "".join(f"{a},{b}\n" for a, b in same))
    adapted = ["fit", "whitening", path, "--method", "adapted", "--pairs", str(pairs), "--json"]
    assert "adapt" in json.loads(run.invoke(app, adapted).stdout)["method"]
    file = str(tmp_path / "w.safetensors")
    assert run.invoke(app, ["fit", "whitening", path, "--method", "pca", "--dim", "6", "--out", file]).exit_code == 0
    assert run.invoke(app, ["fit", "whitening", str(gem), "--from", file]).exit_code == 0
    assert open_collection(gem).info().dim == 6
    found = run.invoke(app, ["search", path, ids[0]])
    assert "there are no local features for proof" in found.stdout
    assert "inliers" not in found.stdout
    pairs.write_text(f"left,right\n{ids[0]},nobody\n")
    refused = run.invoke(app, learned)
    assert refused.exit_code == 2
    assert "nobody" in refused.output


def test_a_collection_beyond_memory_keeps_codes_and_follows_changes(gem, monkeypatch):
    monkeypatch.setattr("resight.artifacts.descriptors.REFINED_VALUES", 10)
    collection = open_collection(gem)
    ids = sorted(collection.ids)
    exact = [result.id for result in collection.search(ids[3], top=8).results]
    collection.remove(ids[:1])
    again = open_collection(gem)
    index = again.snapshot.descriptors.index
    assert isinstance(index, RefinedIndex)
    assert index.rows.tolist() == again.vectors()[0].tolist()
    assert [result.id for result in again.search(ids[3], top=8).results][:5] == [i for i in exact if i != ids[0]][:5]
    for part in (VECTORS_CODED.codes, VECTORS_CODED.vectors):
        content = part.path(gem).read_bytes()
        part.path(gem).write_bytes(content[:-9])
        assert not all(finding.ok for finding in check_collection(gem))
        with pytest.raises(CollectionError, match=f"{part.name} is .*run resight check --repair"):
            open_collection(gem).search(ids[3])
        assert all(finding.ok for finding in repair_collection(gem))
        assert isinstance(open_collection(gem).snapshot.descriptors.index, RefinedIndex)
    monkeypatch.undo()
    open_collection(gem).remove(ids[1:2])
    assert not VECTORS_CODED.codes.exists(gem)
    assert not VECTORS_CODED.vectors.exists(gem)
