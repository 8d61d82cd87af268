"""A collection in shards answers as one collection of all its photos, to the last bit."""

import shutil
import time

import numpy as np
import pytest

import resight
from onnx_factory import write_network
from photo_factory import SMALL
from resight.artifacts import files
from resight.cluster.engines import open_engine
from resight.cluster.layout import MANIFEST, is_sharded, read_layout, write_layout
from resight.cluster.sharded import open_shards
from resight.cluster.split import split
from resight.collection import create_collection, open_collection
from resight.errors import CollectionError, CollectionNotFound, StampMismatch, UsageError
from resight.index.asmk import Codebook
from resight.store.writer import writing
from resight.types import Box

HOW = {"how.dim": 8, "how.max_side": 160, "how.count": 120, "how.words": 32, "how.scales": [1.0, 0.5]}


@pytest.fixture(scope="module")
def classic(built, tmp_path_factory):
    """One collection, and the same in three shards. Do not write into them."""
    folder = tmp_path_factory.mktemp("shards") / "c.shards"
    split(built.path, folder, 3)
    return built.path, folder


@pytest.fixture(scope="module")
def hybrid(world, tmp_path_factory):
    base = tmp_path_factory.mktemp("hybrid")
    network = str(write_network(base / "net.onnx", channels=24))
    settings = {**SMALL, **HOW, "features": "how,rootsift", "backbone": network, "vector.scales": [1.0]}
    collection = create_collection(base / "c.resight", "hybrid", {**settings, "how.enlarge_below": None})
    collection.add([world.photos.folder])
    split(base / "c.resight", base / "c.shards", 2)
    return base / "c.resight", base / "c.shards"


def facts(answer):
    return [
        (r.id, r.score, r.match, r.inliers, None if r.verification is None else r.verification.significance)
        for r in answer.results
    ]


def same_answers(one, shards, ids, **options):
    for id_ in ids:
        assert facts(shards.search(id_, **options)) == facts(one.search(id_, **options)), id_


@pytest.mark.parametrize("kind", ["classic", "hybrid"])
def test_every_answer_is_equal_to_the_last_bit(kind, request):
    whole, folder = request.getfixturevalue(kind)
    one, shards = open_collection(whole), open_shards(folder)
    ids = [photo["id"] for photo in one.snapshot.photos(one.snapshot.tables.feature_rows)]
    same_answers(one, shards, ids)
    same_answers(one, shards, ids[:3], top=2, where="width > 100")
    same_answers(one, shards, ids[:3], where="id > 'a'")
    assert shards.threshold == one.threshold
    assert shards.snapshot.calibrated
    assert len(shards.snapshot.tables) == len(one.snapshot.tables)


def test_a_file_and_a_part_of_it_are_searched_as_in_one_collection(classic, built):
    one, shards = open_collection(classic[0]), open_shards(classic[1])
    photo = next(iter(sorted(built.photos.folder.rglob("*.jpg"))))
    assert facts(shards.search(photo)) == facts(one.search(photo))
    box = Box(10, 10, 60, 50)
    assert facts(shards.search(photo, box)) == facts(one.search(photo, box))


def test_recipes_of_vectors_are_equal(hybrid):
    one, shards = open_collection(hybrid[0]), open_shards(hybrid[1])
    ids = [photo["id"] for photo in one.snapshot.photos(one.snapshot.tables.feature_rows)]
    same_answers(one, shards, ids[:5], recipe="gem")
    same_answers(one, shards, ids[:5], recipe="gem", where="id > 'b'")
    same_answers(one, shards, ids[:5], recipe="classic")
    with pytest.raises(UsageError, match="in shards"):
        shards.search(ids[0], recipe="alpha-expansion")


def test_the_front_door_opens_both(classic, built):
    query = built.photos.groups[0][0]
    assert facts(resight.open(classic[1]).search(query)) == facts(resight.open(classic[0]).search(query))
    with pytest.raises(UsageError, match="not one in shards"):
        resight.open(classic[0], engine="ray://local")


def test_explanations_are_equal(classic, built):
    one, shards = open_collection(classic[0]), open_shards(classic[1])
    first, second = built.photos.groups[0][:2]
    mine, theirs = one.explain(first, second), shards.explain(first, second)
    assert [e.summary for e in mine.evidence] == [e.summary for e in theirs.evidence]
    assert mine.result.rank == theirs.result.rank


def test_shards_are_collections_of_their_own(classic):
    layout = read_layout(classic[1])
    counts = [len(open_collection(path).snapshot.tables) for path in layout.shards]
    assert sum(counts) == len(open_collection(classic[0]).snapshot.tables)
    assert max(counts) - min(counts) <= 1
    assert is_sharded(classic[1])
    assert not is_sharded(classic[0])


def test_what_shards_hold_is_added_up(hybrid):
    one, shards = open_collection(hybrid[0]).info(), open_shards(hybrid[1]).info()
    for name in ("photos", "broken", "features", "words", "vectors", "dim", "pending", "threshold", "recipe"):
        assert getattr(shards, name) == getattr(one, name), name
    assert {k: (v["features"], v["words"]) for k, v in shards.kinds.items()} == {
        k: (v["features"], v["words"]) for k, v in one.kinds.items()
    }


def test_photos_are_added_to_a_shard_not_to_the_whole(classic):
    shards = open_shards(classic[1])
    for change in (lambda: shards.add([]), lambda: shards.remove([]), lambda: shards.relearn()):
        with pytest.raises(UsageError, match="one by one"):
            change()


@pytest.fixture
def copy(classic, tmp_path):
    return shutil.copytree(classic[1], tmp_path / "copy.shards")


def test_a_shard_that_is_gone_is_refused_or_named(copy, built):
    gone = read_layout(copy).shards[1]
    held = {photo["id"] for photo in open_collection(gone).snapshot.tables.images(["id"]).to_pylist()}
    shutil.rmtree(gone)
    with pytest.raises(CollectionError, match=r"0001\.resight cannot be asked"):
        open_shards(copy)
    shards = open_shards(copy, partial=True)
    query = next(id_ for group in built.photos.groups for id_ in group if id_ not in held)
    answer = shards.search(query)
    assert answer.absent == (str(gone),)
    assert answer.results
    assert not held & {result.id for result in answer.results}
    assert answer.calibrated


def test_without_any_shard_there_is_no_answer(copy):
    for path in read_layout(copy).shards:
        shutil.rmtree(path)
    with pytest.raises(CollectionError, match="no shard can be asked"):
        open_shards(copy, partial=True)


def test_a_shard_with_another_codebook_is_refused(copy):
    path = read_layout(copy).shards[2]
    other = open_collection(path)
    known = other.snapshot.index.codebook
    changed = Codebook(known.centroids[::-1].copy(), rotation=known.rotation)
    with writing(path, "test") as writer:
        other.update(writer, codebooks={"": changed})
    with pytest.raises(StampMismatch, match="another codebook"):
        open_shards(copy)


def test_a_shard_of_other_settings_is_refused(copy, tmp_path):
    create_collection(tmp_path / "other.resight", "classic", {**SMALL, "words": 8})
    layout = read_layout(copy)
    write_layout(copy, [*(path.name for path in layout.shards), str(tmp_path / "other.resight")])
    with pytest.raises(StampMismatch, match="another parameter"):
        open_shards(copy)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1, "shards": []}', '{"format": 1, "shards": [3]}'])
def test_a_damaged_list_of_shards_is_named(copy, content):
    (copy / MANIFEST).write_text(content)
    with pytest.raises(CollectionError, match=MANIFEST):
        read_layout(copy)


def test_lists_that_cannot_be_used(copy, tmp_path):
    (copy / MANIFEST).write_text('{"format": 2, "shards": ["a"]}')
    with pytest.raises(CollectionError, match="format 2"):
        read_layout(copy)
    (copy / MANIFEST).write_text('{"format": 1, "shards": ["a", "a"]}')
    with pytest.raises(CollectionError, match="twice"):
        read_layout(copy)
    with pytest.raises(CollectionNotFound):
        read_layout(tmp_path)


def test_splitting_is_all_or_nothing(built, tmp_path):
    with pytest.raises(UsageError, match="0 shards"):
        split(built.path, tmp_path / "a", 0)
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        split(built.path, tmp_path / "taken", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_stopped_collection_is_not_split(built, tmp_path):
    folder = shutil.copytree(built.path, tmp_path / "stopped.resight")
    with writing(folder, "test") as writer:
        files.write_json(writer, files.UNFINISHED, {})
    with pytest.raises(UsageError, match="was stopped"):
        split(folder, tmp_path / "shards", 2)


def test_engines_that_there_are_not(classic):
    with pytest.raises(UsageError, match="spark"):
        open_engine("spark", [classic[0]])


@pytest.mark.slow
def test_ray_actors_answer_the_same_and_come_back_after_a_kill(classic):
    ray = pytest.importorskip("ray")
    one = open_collection(classic[0])
    shards = open_shards(classic[1], "ray://local")
    try:
        ids = [photo["id"] for photo in one.snapshot.photos(one.snapshot.tables.feature_rows)]
        same_answers(one, shards, ids[:4])
        ray.kill(shards.snapshot.engine._actors[1], no_restart=False)
        time.sleep(1)
        same_answers(one, shards, ids[4:8])
        assert shards.absent == ()
    finally:
        shards.close()
        ray.shutdown()


def test_rows_rise_from_shard_to_shard(classic):
    rows = open_shards(classic[1]).snapshot.tables.rows
    assert (np.diff(rows) > 0).all()
