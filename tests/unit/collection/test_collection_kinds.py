"""Collections that keep several kinds of local features, or one that comes from a network."""

import shutil

import numpy as np
import pytest

from onnx_factory import write_network
from photo_factory import SMALL
from resight.artifacts.files import LOCAL
from resight.collection import create_collection, open_collection, open_or_create
from resight.collection.check import check_collection
from resight.collection.codebooks import codebook_of
from resight.collection.duplicates import near_duplicates
from resight.errors import CollectionError, StampMismatch, UsageError
from resight.features.local.reduction import Reduction
from resight.fitting.fusion import fit_fusion
from resight.index.asmk import Codebook

HOW = {"how.dim": 8, "how.max_side": 160, "how.count": 120, "how.words": 32, "how.scales": [1.0, 0.5]}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return str(write_network(tmp_path_factory.mktemp("net") / "net.onnx", channels=24))


@pytest.fixture(scope="module")
def both(world, network, tmp_path_factory):
    """RootSIFT, HOW and a global descriptor. Do not write into it."""
    path = tmp_path_factory.mktemp("kinds") / "c.resight"
    settings = {**SMALL, **HOW, "features": "how,rootsift", "backbone": network, "vector.scales": [1.0]}
    create_collection(path, "hybrid", {**settings, "how.enlarge_below": None}).add([world.photos.folder])
    return path


@pytest.fixture(scope="module")
def alone(world, network, tmp_path_factory):
    """HOW alone. Do not write into it."""
    path = tmp_path_factory.mktemp("how") / "c.resight"
    settings = {name.removeprefix("how."): value for name, value in HOW.items()}
    create_collection(path, "how", {**settings, "backbone": network}).add([world.photos.folder])
    return path


@pytest.fixture
def copy(both, tmp_path):
    return open_collection(shutil.copytree(both, tmp_path / "copy.resight"))


def groups_found(collection, world, **options):
    """How many of the other photos of each query's group come first."""
    found = 0
    for group in world.photos.groups:
        ids = [result.id for result in collection.search(group[0], top=len(group) - 1, **options).results]
        found += len(set(ids) & set(group))
    return found / sum(len(group) - 1 for group in world.photos.groups)


def test_the_kind_that_localises_best_verifies_whatever_the_order(both):
    snapshot = open_collection(both).snapshot
    assert dict(snapshot.kinds) == {"": "rootsift", "how": "how"}
    assert [encoder.dim for encoder in snapshot.encoders.values()] == [128, 8]
    assert snapshot.verifier.coarse is False
    assert set(snapshot.stamp.models) == {"descriptor", "local", "local how", "local how reduction"}


def test_search_finds_and_proves(both, alone, world):
    collection = open_collection(both)
    assert groups_found(collection, world) == 1
    assert groups_found(collection, world, parts="rootsift=0,how=1,vector=0") > 0.6
    assert groups_found(open_collection(alone), world) > 0.6
    answer = collection.search(world.photos.groups[0][0])
    assert answer.confident
    assert answer.results[0].inliers > 5


def test_a_file_is_described_as_when_it_was_indexed(both, world, tmp_path):
    collection = open_collection(both)
    stored = collection.query(world.photos.groups[0][0])
    again = tmp_path / "again.jpg"
    again.write_bytes((world.photos.folder / world.photos.groups[0][0]).read_bytes() + b"\0")
    fresh = collection.query(again)
    np.testing.assert_allclose(fresh.more["how"].xy, stored.more["how"].xy, atol=0.01)
    difference = np.abs(fresh.more["how"].descriptors - stored.more["how"].descriptors)
    assert difference.max() < 0.05 * np.abs(fresh.more["how"].descriptors).max()


def test_explain_says_what_each_kind_found(both, world):
    first, second = world.photos.groups[0][:2]
    said = [evidence.summary for evidence in open_collection(both).explain(first, second).evidence]
    assert any(text.startswith("how features alone put it at rank") for text in said)
    assert any(text.startswith("local features alone put it at rank") for text in said)


def test_duplicates_and_check(both, alone):
    for path in (both, alone):
        assert all(finding.ok for finding in check_collection(path))
        assert isinstance(near_duplicates(open_collection(path)), list)


def test_info_counts_every_kind(both):
    info = open_collection(both).info()
    assert info.kinds["how"]["words"] == 32
    assert info.kinds["rootsift"]["words"] == 64
    assert info.features == sum(kind["features"] for kind in info.kinds.values())
    assert info.memory_per_million == pytest.approx(1e6 * info.bytes_per_image)
    assert info.disk_per_million > info.memory_per_million


def test_photos_come_and_go_and_the_reduction_stays(copy, world, tmp_path):
    before = copy.snapshot.encoders["how"].reduction.fingerprint
    name = world.photos.groups[0][0]
    kept = copy.snapshot.features(copy.ids[name], "how")
    copy.remove([name])
    assert copy.snapshot.kind("how").index.rows.tolist() == copy.snapshot.kind("").index.rows.tolist()
    more = tmp_path / "more"
    more.mkdir()
    shutil.copy(world.photos.folder / name, more / "new.jpg")
    copy.add([more])
    again = copy.snapshot.features(copy.ids["new.jpg"], "how")
    np.testing.assert_array_equal(again.descriptors, kept.descriptors)
    copy.relearn()
    assert copy.snapshot.encoders["how"].reduction.fingerprint == before


def test_a_moved_file_keeps_the_features_of_all_kinds(world, network, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in world.photos.groups[0] + world.photos.groups[1]:
        shutil.copy(world.photos.folder / name, photos)
    settings = {**SMALL, **HOW, "features": "rootsift,how", "how.backbone": network, "how.enlarge_below": None}
    collection = create_collection(tmp_path / "c.resight", "classic", settings)
    collection.add([photos])
    name = world.photos.groups[0][0]
    before = collection.snapshot.features(collection.ids[name], "how")
    (photos / name).rename(photos / "moved.jpg")
    assert collection.add([photos]).moved == 1
    after = collection.snapshot.features(collection.ids[name], "how")
    np.testing.assert_array_equal(before.descriptors, after.descriptors)


@pytest.mark.parametrize("damage", ["gone", "bent", "other"])
def test_without_its_reduction_nothing_can_be_asked_or_added(copy, world, damage):
    path = LOCAL["how"].reduction.path(copy.path)
    if damage == "gone":
        path.unlink()
    elif damage == "bent":
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    else:
        Reduction(np.ones((8, 24), np.float32), np.ones(8, np.float32)).save(path)
    collection = open_collection(copy.path)
    with pytest.raises(CollectionError, match=r"how_reduction\.safetensors"):
        collection.add([world.photos.folder])
    assert groups_found(collection, world) == 1  # stored photos can still be asked for


def test_another_network_is_refused(copy, tmp_path):
    other = write_network(tmp_path / "other.onnx", channels=24, seed=7)
    with pytest.raises(StampMismatch):
        open_or_create(copy.path, None, {"backbone": str(other)})


def test_a_network_that_moved_is_given_again(copy, network, tmp_path):
    moved = shutil.copy(network, tmp_path / "moved.onnx")
    collection = open_or_create(copy.path, None, {"backbone": str(moved)})
    assert collection.snapshot.encoders["how"].dim == 8


def test_weights_are_learned_for_every_part(copy):
    learned = fit_fusion(copy)
    assert list(learned.weights) == ["", "how", "vector"]
    assert learned.weights[""] == 1
    assert copy.snapshot.fusion_weights == learned.weights


@pytest.mark.parametrize(
    ("parts", "message"),
    [("gem=1", "no part 'gem'"), ("how=x", "'x'"), ("how=-1", "0 or more"), ("rootsift=0,how=0,vector=0", "at least")],
)
def test_bad_weights(both, world, parts, message):
    with pytest.raises(UsageError, match=message):
        open_collection(both).search(world.photos.groups[0][0], parts=parts)


def test_codebooks_learnt_on_other_photos(copy, alone, tmp_path, world):
    words = codebook_of(open_collection(alone).snapshot)
    words.save(tmp_path / "words")
    given = Codebook.load(tmp_path / "words")
    copy.add([world.photos.folder], codebooks={"how": given})
    assert codebook_of(copy.snapshot, "how").fingerprint == words.fingerprint
    for codebooks, message in (
        ({"rootsift": given}, "8 dimensions"),
        ({"": given}, "name one"),
        ({"x": given}, "of x"),
    ):
        with pytest.raises(UsageError, match=message):
            copy.add([world.photos.folder], codebooks=codebooks)
    with pytest.raises(UsageError, match="name one"):
        codebook_of(copy.snapshot)


def test_too_few_photos_to_learn_from_say_so_and_nothing_is_lost(world, network, tmp_path):
    collection = create_collection(tmp_path / "c.resight", "how", {"backbone": network, "dim": 20, "max_side": 32})
    name = world.photos.groups[0][0]
    with pytest.raises(UsageError, match=r"too few|vary in"):
        collection.add([world.photos.folder / name])
    report = open_collection(collection.path).add([world.photos.folder])
    assert report.added == sum(map(len, world.photos.groups))
