"""Global descriptors in Milvus: Milvus Lite here, the server where its package is installed (marked slow)."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onnx_factory import write_network
from resight.cluster.milvus import MilvusIndex, address_of
from resight.cluster.on_milvus import fill, milvus_index
from resight.cluster.open import open_searched
from resight.collection import create_collection, open_collection
from resight.errors import CollectionError, StampMismatch, UsageError
from resight.index.exact import ExactIndex

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")


@pytest.fixture(scope="module")
def gem(world, tmp_path_factory):
    """A collection of global descriptors, and Milvus Lite with them."""
    base = tmp_path_factory.mktemp("gem")
    network = str(write_network(base / "net.onnx", channels=24))
    collection = create_collection(base / "c.resight", "gem", {"backbone": network, "scales": [1.0]})
    collection.add([world.photos.folder])
    engine = f"milvus://{base / 'm.db'}/photos"
    assert fill(collection.path, engine) == (len(collection.vectors()[0]), 0)
    return collection.path, engine


def facts(answer):
    return [(r.id, r.score, r.match) for r in answer.results]


def test_searches_answer_as_on_one_machine(gem):
    path, engine = gem
    one, other = open_collection(path), open_searched(path, engine)
    for id_ in one.ids:
        assert facts(other.search(id_)) == facts(one.search(id_))
        assert facts(other.search(id_, top=3, where="id > 'b'")) == facts(one.search(id_, top=3, where="id > 'b'"))


def test_filling_again_follows_the_collection(world, gem, tmp_path):
    path, engine = gem
    assert fill(path, engine) == (0, 0)
    collection = create_collection(tmp_path / "c.resight", "gem", dict(open_collection(path).snapshot.stamp.parameters))
    photos = sorted(world.photos.folder.rglob("*.jpg"))
    collection.add(photos[:6])
    own = f"milvus://{tmp_path / 'm.db'}/own"
    assert fill(collection.path, own) == (6, 0)
    collection.remove([next(iter(collection.ids))])
    with pytest.raises(CollectionError, match="holds 6 vectors and the collection 5"):
        open_searched(collection.path, own)
    collection.add(photos[6:8])
    assert fill(collection.path, own) == (2, 1)
    query = next(iter(collection.ids))
    assert facts(open_searched(collection.path, own).search(query)) == facts(collection.search(query))


def test_another_collection_under_the_name_is_refused(world, gem, tmp_path):
    path, engine = gem
    network = str(write_network(tmp_path / "other.onnx", channels=24, seed=5))
    other = create_collection(tmp_path / "c.resight", "gem", {"backbone": network, "scales": [1.0]})
    other.add([world.photos.folder])
    with pytest.raises(StampMismatch, match="holds other vectors"):
        fill(other.path, engine)
    with pytest.raises(StampMismatch, match="holds other vectors"):
        open_searched(other.path, engine)
    assert facts(open_searched(path, engine).search(next(iter(open_collection(path).ids))))


def test_what_cannot_be_searched(built, gem, tmp_path):
    with pytest.raises(UsageError, match="no global descriptors"):
        open_searched(built.path, f"milvus://{tmp_path / 'm.db'}/x")
    with pytest.raises(CollectionError, match="holds nothing yet"):
        open_searched(gem[0], f"milvus://{tmp_path / 'empty.db'}/x")
    for engine in ("milvus://here", "milvus://host/x", "milvus://host:1/bad name", "milvus://host:1/1x"):
        with pytest.raises(UsageError, match="give milvus://HOST:PORT/NAME"):
            open_searched(gem[0], engine)


def test_a_server_that_is_down_is_said_at_once(gem):
    with pytest.raises(CollectionError, match="see that the server is up"):
        open_searched(gem[0], "milvus://127.0.0.1:1/x")


def test_another_process_finds_what_was_filled(gem, tmp_path):
    path, engine = gem[0], f"milvus://{tmp_path / 'm.db'}/photos"
    query = next(iter(open_collection(path).ids))

    def resight(*arguments):
        command = [sys.executable, "-m", "resight", *map(str, arguments), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert resight("engine", "fill", path, engine)["removed"] == 0
    found = resight("search", path, query, "--engine", engine)["results"]
    expected = open_collection(path).search(query).results
    assert [(r["id"], r["score"]) for r in found] == [(r.id, pytest.approx(r.score)) for r in expected]


@pytest.mark.slow
def test_the_server_answers_as_one_machine(gem, tmp_path):
    """In a network namespace of its own, since the server listens on all addresses."""
    pytest.importorskip("milvus")
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("a network namespace needs unshare and ip")
    script = Path(__file__).with_name("milvus_server.py")
    inside = f"ip link set lo up && exec {sys.executable} {script} {gem[0]} {tmp_path}"
    done = subprocess.run(
        ["unshare", "--net", "--map-root-user", "sh", "-c", inside],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:] + (tmp_path / "log").read_text()[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    count = len(open_collection(gem[0]).vectors()[0])
    assert found["filled"] == [count, 0]
    assert found["again"] == [0, 0]
    assert found["equal"]
    assert found["before"] == count
    assert "see that the server is up" in found["down"]


@pytest.fixture
def filled(tmp_path):
    """An index of 300 random unit vectors, and the exact one."""
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(300, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = np.arange(300) * 3
    exact = ExactIndex(16)
    exact.add(rows, vectors)

    def some(chosen):
        part = ExactIndex(16)
        places = np.flatnonzero(np.isin(rows, chosen))
        part.add(rows[places], vectors[places])
        return part

    index = MilvusIndex(address_of(f"milvus://{tmp_path / 'v.db'}/v"), "made", some)
    assert index.fill(rows, vectors) == (300, 0)
    return index, exact, rows, vectors


@pytest.mark.parametrize("share", [1.0, 0.5, 0.02])
def test_filters_lose_nothing(filled, share, monkeypatch):
    index, exact, rows, vectors = filled
    monkeypatch.setattr("resight.cluster.milvus.EXACT", 10)
    allowed = rows[: int(len(rows) * share)]
    mine, theirs = index.search(vectors[:4], 7, allowed), exact.search(vectors[:4], 7, allowed)
    np.testing.assert_array_equal(mine.ids, theirs.ids)
    np.testing.assert_array_equal(mine.scores, theirs.scores)
    none = index.search(vectors[:2], 7, np.array([1, 2]))
    assert none.ids.shape[1] == 0 or (none.ids == -1).all()


def test_a_connection_that_drops_is_made_again(filled):
    index, exact, _, vectors = filled
    failures = [ConnectionError("the connection was closed"), ConnectionError("unavailable")]
    ask = index._connected

    def flaky():
        if failures:
            raise failures.pop()
        return ask()

    index._connected = flaky
    np.testing.assert_array_equal(index.search(vectors[:1], 5).ids, exact.search(vectors[:1], 5).ids)
    assert not failures


def test_a_connection_that_stays_down_is_an_error(filled, monkeypatch):
    index, _, _, vectors = filled
    monkeypatch.setattr("resight.cluster.milvus.WAIT", 0.001)

    def down():
        raise ConnectionError("unavailable")

    index._connected = down
    with pytest.raises(CollectionError, match="unavailable"):
        index.search(vectors[:1], 5)


def test_what_lies_there_is_dropped(gem, filled):
    index = filled[0]
    index.drop()
    with pytest.raises(CollectionError, match="holds nothing yet"):
        len(index)
    with pytest.raises(CollectionError, match="holds nothing"):
        milvus_index(open_collection(gem[0]).snapshot, str(index.address)).drop()
