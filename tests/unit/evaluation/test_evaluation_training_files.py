from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.evaluation.evaluate import evaluate, evaluate_once
from resight.evaluation.experiment import Run
from resight.evaluation.streaming import nearest_in_blocks
from resight.evaluation.training_files import read_training
from resight.graph.knn_graph import neighbours

EYE = np.eye(12, dtype=np.float32)


def near(place: int, towards: int, amount: float) -> np.ndarray:
    vector = EYE[place] + amount * EYE[towards]
    return vector / np.linalg.norm(vector)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Three photos of thing 0 that look nothing alike, each beside five training photos of it; thing 1 the same."""
    for thing in range(2):
        (tmp_path / "photos" / str(thing)).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "photos" / str(thing) / f"{number}.jpg").touch()
    np.save(tmp_path / "x.npy", EYE[:6])
    training = [near(place, 6 + number, 0.3) for place in range(6) for number in range(5)]
    np.save(tmp_path / "training.npy", np.array(training, np.float32))
    rows = [f"t{number},http,{'tower' if number < 15 else 'bridge'}" for number in range(30)]
    (tmp_path / "train.csv").write_text("\n".join(["id,url,landmark_id", *rows]))
    settings = {"training": str(tmp_path / "training.npy"), "labels": str(tmp_path / "train.csv"), "limit": 6}
    return Run("folders", str(tmp_path / "photos"), "semi-supervised", settings, features=str(tmp_path / "x.npy"))


@pytest.mark.parametrize("bridges", [False, True])
def test_labels_lead_to_what_looks_nothing_alike(run: Run, bridges: bool) -> None:
    found = evaluate(replace(run, settings={**run.settings, "bridges": bridges}))
    assert found.final.scores["plain"].map == 1
    assert found.final.ranking is not None
    assert found.final.ranking.ids.max() < 6, "training photos are never returned"
    assert evaluate(replace(run, recipe="search", settings={})).final.scores["plain"].map < 0.8


def test_proven_training_photos_name_a_second_label(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.permutation(30)  # the vote knows nothing: every training photo has a label of its own
    (tmp_path / "train.csv").write_text("\n".join(["label", *map(str, np.concatenate((labels[:28], [77, 77])))]))
    plain = evaluate(run).final.scores["plain"].map
    listed = np.full((6, 2), -1)
    listed[3:, 0] = 28  # geometry proves that the photos of thing 1 show what training photo 28 shows
    np.save(tmp_path / "proven.npy", listed)
    proven = {**run.settings, "proven": str(tmp_path / "proven.npy"), "query_proven": str(tmp_path / "proven.npy")}
    found = evaluate(replace(run, settings=proven)).final.scores["plain"]
    np.testing.assert_array_equal(found.ap[3:], 1)
    assert found.map > plain
    bridged = evaluate(replace(run, settings={**proven, "bridges": True})).final.scores["plain"]
    np.testing.assert_array_equal(bridged.ap[3:], 1)


def test_a_training_file_that_changes_is_measured_again(run: Run, tmp_path: Path) -> None:
    assert evaluate_once(run, cache=tmp_path / "cache").final.scores["plain"].map == 1
    (tmp_path / "train.csv").write_text("\n".join(["label", *map(str, range(30))]))
    assert evaluate_once(run, cache=tmp_path / "cache").final.scores["plain"].map < 1


def test_what_geometry_proves_expands_queries_and_photos(run: Run, tmp_path: Path) -> None:
    """Photos 0 and 1 look alike, 1 and 2 are proven to match: a chain that neither side alone closes."""
    x = EYE[:6].copy()
    x[1] = near(0, 1, 1.0)
    np.save(tmp_path / "x.npy", x)
    lists = {"index_lists": np.full((6, 10), -1), "query_lists": np.full((6, 10), -1)}
    lists["index_lists"][:3, 0] = [0, 2, 1]  # a photo in its own list is not added to itself
    lists["query_lists"][0, 0] = 1
    settings = {}
    for name, content in lists.items():
        np.save(tmp_path / f"{name}.npy", content)
        settings[name] = str(tmp_path / f"{name}.npy")
    expanded = replace(run, recipe="verified-expansion", settings=settings)
    found = evaluate(expanded).final
    assert found.ranking is not None
    database = np.stack([x[0], x[1] + x[2], x[2] + x[1], *x[3:]])
    database /= np.linalg.norm(database, axis=1, keepdims=True)
    query = (x[0] + x[1]) / np.linalg.norm(x[0] + x[1])
    assert found.ranking.ids[0, :3].tolist() == np.argsort(-(database @ query), kind="stable")[:3].tolist()
    np.testing.assert_allclose(np.sort(database @ query)[::-1][:3], found.ranking.scores[0, :3], atol=1e-6)
    chain = evaluate(replace(expanded, recipe="landmark2019", settings={**settings, "k": 3, "limit": 6})).final
    np.testing.assert_array_equal(chain.scores["plain"].ap[:3], 1)
    labelled = {**settings, **run.settings, "k": 3}
    assert evaluate(replace(expanded, recipe="landmark2019", settings=labelled)).final.scores["plain"].map == 1
    with pytest.raises(UsageError, match="give what geometry proves"):
        evaluate(replace(expanded, settings={}))


def test_files_that_do_not_fit_are_named(run: Run, tmp_path: Path) -> None:
    def refused(message: str, **settings: str) -> None:
        with pytest.raises((UsageError, ArrayError), match=message):
            evaluate(replace(run, settings={**run.settings, **settings}))

    refused("descriptors of the training photos: --set training=FILE", training="")
    refused("labels of the training photos", labels="")
    (tmp_path / "other.csv").write_text("id,name\n1,2\n")
    refused("has no column landmark_id or label", labels=str(tmp_path / "other.csv"))
    (tmp_path / "short.csv").write_text("label\n1\n2\n")
    refused("30 descriptors and there are 2 labels", labels=str(tmp_path / "short.csv"))
    np.save(tmp_path / "proven.npy", np.full((6, 1), 30))
    refused("they must be 0 to 29", proven=str(tmp_path / "proven.npy"))
    np.save(tmp_path / "proven.npy", np.full((5, 1), 3))
    refused("proven.npy", proven=str(tmp_path / "proven.npy"))
    (tmp_path / "proven.npy").write_bytes(b"no")
    refused("cannot be read as an npy file of lists", proven=str(tmp_path / "proven.npy"))


def test_the_nearest_of_blocks_are_the_nearest_of_all() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(100, 8)).astype(np.float32)
    x[40] = x[7]
    q = rng.normal(size=(9, 8)).astype(np.float32)
    whole = neighbours(q, x, 6)
    parts = nearest_in_blocks(q, (x[start : start + 17] for start in range(0, 100, 17)), 6)
    np.testing.assert_array_equal(parts.ids, whole.ids)
    np.testing.assert_array_equal(parts.weights, whole.weights)


def test_labels_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("label\nb\na\nb\n")
    assert read_training("x.npy", str(tmp_path / "labels.csv")).labels.tolist() == [1, 0, 1]
