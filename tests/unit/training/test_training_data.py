"""What is learned from: data sets of every form, and what is wrong with them."""

import csv
import pickle
import shutil

import numpy as np
import pytest

from photo_factory import make_photos
from resight.errors import ArrayError, UsageError
from resight.training.data import Examples, alone, drawn_pairs, hold_out, of_groups, of_pairs
from resight.training.sources.open import open_examples
from resight.training.sources.sfm import read_sfm
from resight.training.sources.tables import read_folders, read_table


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"), objects=4)


def table(path, header, *lines):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *lines])
    return path


def partners(examples):
    """What is paired with each photo, by name."""
    return {name: {examples.names[b] for a, b in examples.pairs if a == row} for row, name in enumerate(examples.names)}


def test_labels_give_pairs_and_clusters(photos):
    lines = [(name, f"thing {number}") for number, group in enumerate(photos.groups) for name in group]
    for header in ("photo,label", "id,group"):
        examples = read_table(table(photos.folder / "labels.csv", header, *lines))
        examples.check_files()
        for group in photos.groups:
            for name in group:
                assert partners(examples)[name] == set(group) - {name}
        assert len(np.unique(examples.clusters)) == 4


def test_pairs_join_clusters_and_are_learned_both_ways(photos):
    first, second = photos.groups[0], photos.groups[1]
    lines = [(first[0], first[1], 1), (first[1], first[2], 1), (first[0], second[0], 0)]
    examples = read_table(table(photos.folder / "pairs.csv", "left,right,matching", *lines))
    assert partners(examples)[first[1]] == {first[0], first[2]}
    assert partners(examples)[second[0]] == set()
    same = {examples.names.index(name) for name in first}
    assert len({examples.clusters[row] for row in same}) == 1
    assert examples.clusters[examples.names.index(second[0])] != examples.clusters[examples.names.index(first[0])]


def test_landmarks_are_found_by_their_ids(tmp_path, photos):
    ids = ["0123456789abcde0", "0123456789abcde1", "f123456789abcde2"]
    for name, source in zip(ids, photos.groups[0], strict=True):
        target = tmp_path / name[0] / name[1] / name[2] / f"{name}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos.folder / source, target)
    rows = [(ids[0], "http", 7), (ids[1], "http", 7), (ids[2], "http", 9)]
    one = read_table(table(tmp_path / "train.csv", "id,url,landmark_id", *rows))
    clean = [(7, f"{ids[0]} {ids[1]}"), (9, ids[2])]
    for examples in (one, read_table(table(tmp_path / "train_clean.csv", "landmark_id,images", *clean))):
        examples.check_files()
        assert partners(examples) == {ids[0]: {ids[1]}, ids[1]: {ids[0]}, ids[2]: set()}
    with pytest.raises(UsageError, match="ids of Google Landmarks"):
        read_table(table(tmp_path / "bad.csv", "id,landmark_id", ("../../../etc/passwd", 1)))


def test_folders_are_classes(tmp_path, photos):
    for number, group in enumerate(photos.groups):
        (tmp_path / f"class{number}").mkdir()
        for name in group:
            shutil.copy(photos.folder / name, tmp_path / f"class{number}" / name)
    shutil.copy(photos.folder / photos.groups[0][0], tmp_path / "loose.jpg")
    examples, judged = open_examples(tmp_path)
    assert judged is None
    assert partners(examples)["loose.jpg"] == set()
    assert {len(found) for name, found in partners(examples).items() if "/" in name} == {2}


def sfm(path, **parts):
    path.write_bytes(pickle.dumps(parts))
    return path


def part(names, cluster, pairs, **more):
    return {"cids": names, "cluster": cluster, "qidxs": [q for q, _ in pairs], "pidxs": [p for _, p in pairs], **more}


def test_pickles_of_retrieval_sfm(tmp_path):
    names = [f"{digit * 9}abcdef" for digit in "12345"]
    train = part(names, [4, 4, 9, 9, 9], [(0, 1), (2, [3, 4])], bbxs=None)
    path = sfm(tmp_path / "d.pkl", train=train, val=part(names[:2], [1, 1], [(0, 1)]))
    examples, judged = open_examples(path, tmp_path / "ims")
    assert examples.pairs.tolist() == [[0, 1], [2, 3], [2, 4]]
    assert examples.files[0] == str(tmp_path / "ims" / "ef" / "cd" / "ab" / names[0])
    assert len(judged) == 2
    gl18 = sfm(tmp_path / "db_gl18.pkl", train=part(["a/b/x", "a/b/y.png"], [0, 0], [(0, 1)]))
    found = read_sfm(gl18).files
    assert found == (str(tmp_path / "ims" / "a" / "b" / "x.jpg"), str(tmp_path / "ims" / "a" / "b" / "y.png"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"train": {"cids": ["a"]}}, "no part train"),
        ({"train": part(["a", "b"], [0, 0], [(0, 2)])}, "below 2"),
        ({"train": part(["a", "b"], [0, 0], [(0, 1.5)])}, "whole numbers"),
        ({"train": part(["a", "b"], [0, 1], [(0, 1)])}, "another cluster"),
        ({"train": part(["a", "b"], [0], [(0, 1)])}, "2 photos and 1 clusters"),
        ({"train": part(["../x/a", "b"], [0, 0], [(0, 1)])}, "outside the folder"),
        ({"train": part(["a", "b"], [0, 0], [])}, "nothing can be learned"),
        ([1, 2], "no part train"),
    ],
)
def test_damaged_pickles_are_refused(tmp_path, content, said):
    path = tmp_path / "d.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UsageError, match=said):
        read_sfm(path)


def test_pickles_that_run_something_are_refused(tmp_path):
    (tmp_path / "d.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UsageError, match=r"os\.system"):
        read_sfm(tmp_path / "d.pkl")


@pytest.mark.parametrize(
    ("header", "lines", "said"),
    [
        ("photo,label", [("{0}", "a"), ("{1}", "b")], "none has two photos"),
        ("photo,label", [("{0}", "a"), ("nowhere.jpg", "a")], "there is no photo"),
        ("photo,label", [("{0}", "a"), ("{0}", "b")], "second label"),
        ("photo,label", [("{0}", "")], "no label"),
        ("left,right", [("{0}", "{0}")], "with itself"),
        ("left,right,matching", [("{0}", "{1}", "yes")], "write 1 or 0"),
        ("left,right,matching", [("{0}", "{1}", "0")], "names no two photos"),
        ("left,right", [("{0}", "gone.jpg")], "there is no photo"),
        ("colour,size", [("red", "1")], "must name the columns"),
    ],
)
def test_tables_that_cannot_be_learned_from(photos, header, lines, said):
    filled = [[value.format(*photos.groups[0]) for value in line] for line in lines]
    with pytest.raises(UsageError, match=said) as error:
        read_table(table(photos.folder / "bad.csv", header, *filled))
    assert "bad.csv" in str(error.value)


def test_what_is_no_data_is_refused(tmp_path):
    (tmp_path / "data.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    for place, said in (("data.txt", "neither a folder"), ("none", "there is no"), ("empty", "has 0 groups")):
        with pytest.raises(UsageError, match=said):
            open_examples(tmp_path / place)


def test_photos_that_have_moved_are_missed_and_the_key_stays(tmp_path, photos):
    lines = [(name, group[0]) for group in photos.groups for name in group]
    examples = read_table(table(photos.folder / "labels.csv", "photo,label", *lines))
    moved = tmp_path / "moved"
    shutil.copytree(photos.folder, moved)
    assert read_table(moved / "labels.csv").key == examples.key
    elsewhere = Examples(
        examples.names, tuple(f"{file}x" for file in examples.files), examples.clusters, examples.pairs
    )
    with pytest.raises(UsageError, match=r"is not there, and 11 more: if the photos have moved"):
        elsewhere.check_files()


def test_holding_out_shares_no_cluster():
    groups = np.array([0, 0, 1, 1, 1, 2, 2, 3, 3, -1, -1, -1, -1])
    names = [str(row) for row in range(len(groups))]
    examples = of_groups(names, names, groups, "here")
    learn, judge = hold_out(examples, 0.5, seed=3)
    assert set(learn.names) | set(judge.names) == set(names)
    assert len(learn) + len(judge) == len(names)
    assert not set(learn.clusters) & set(judge.clusters)
    assert sum(group >= 0 and names[row] in judge.names for row, group in enumerate(groups)) in (4, 5)
    assert sum(names[row] in judge.names for row, group in enumerate(groups) if group < 0) == 2
    every = {(examples.names[a], examples.names[b]) for a, b in examples.pairs}
    assert every == {(part.names[a], part.names[b]) for part in (learn, judge) for a, b in part.pairs}
    with pytest.raises(UsageError, match="at least two are needed"):
        hold_out(of_groups(names[:3], names[:3], np.array([0, 0, -1]), "here"), 0.5)
    with pytest.raises(UsageError, match="between 0 and 1"):
        hold_out(examples, 1.0)


def test_regions_and_proofs_follow_their_photos():
    pairs = np.array([[0, 1], [3, 4]])
    regions = np.arange(16, dtype=np.float32).reshape(2, 2, 4)
    asked = []

    def proven(queries, others):
        asked.append((queries.tolist(), others.tolist()))
        return queries == others

    names = tuple("abcde")
    examples = Examples(names, names, np.array([0, 0, 1, 2, 2]), pairs, regions, proven)
    part = examples.select(np.array([2, 3, 4]))
    assert part.pairs.tolist() == [[1, 2]]
    assert part.regions.tolist() == regions[1:].tolist()
    part.proven(np.array([0, 2]), np.array([1, 1]))
    assert asked == [([2, 4], [3, 3])]
    assert examples.key != part.key


def test_examples_are_checked():
    names = ("a", "b", "c")
    for clusters, pairs, said in (
        ([0, 0, 1], [[0, 3]], "rows 0 to 2"),
        ([0, 0, 1], [[1, 1]], "two of the rows"),
        ([0, 0, 1], [[0, 2]], "one cluster"),
    ):
        with pytest.raises(ArrayError, match=said):
            Examples(names, names, np.array(clusters), np.array(pairs))
    with pytest.raises(ArrayError, match="names"):
        Examples(names, names[:2], np.zeros(3, np.int64), np.array([[0, 1]]))
    with pytest.raises(UsageError, match="names no two photos"):
        of_pairs(names, names, np.empty((0, 2), np.int64), "it")


def test_clusters_of_photos_without_a_group_are_their_own():
    assert alone(np.array([1, -1, 0, -1, 1])).tolist() == [1, 2, 0, 3, 1]
    assert alone(np.array([-1, -1])).tolist() == [0, 1]


def test_pairs_are_drawn_without_repetition():
    names = [str(row) for row in range(6)]
    examples = of_groups(names, names, np.array([0, 0, 0, 1, 1, 1]), "here")
    drawn = drawn_pairs(examples, 5, np.random.default_rng(0))
    assert len(set(drawn.tolist())) == 5
    assert sorted(drawn_pairs(examples, None, np.random.default_rng(0))) == list(range(12))


def test_folders_of_one_class_are_too_few(tmp_path, photos):
    (tmp_path / "one").mkdir()
    shutil.copy(photos.folder / photos.groups[0][0], tmp_path / "one")
    with pytest.raises(UsageError, match="none has two photos"):
        read_folders(tmp_path)
