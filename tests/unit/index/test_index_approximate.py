import json
import threading

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from resight.errors import ArrayError, CollectionError, UsageError
from resight.index import approximate, inverted_lists
from resight.index.approximate import ApproximateIndex, choose_index
from resight.index.exact import ExactIndex

DIM = 16


def clustered(count, seed=0, groups=60):
    centres = np.random.default_rng(99).standard_normal((groups, DIM))
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(0, groups, count)] + 0.8 * rng.standard_normal((count, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def recall(found, truth):
    return np.mean([len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True)]) / truth.shape[1]


@pytest.fixture
def many_lists(monkeypatch):
    monkeypatch.setattr(inverted_lists, "TRAIN_FROM", 500)
    monkeypatch.setattr(inverted_lists, "BLOCK", 300)
    monkeypatch.setattr(approximate, "BLOCK", 300)


@pytest.fixture
def database():
    return clustered(4000)


@pytest.mark.parametrize("half", [False, True])
def test_few_vectors_are_searched_exactly(half):
    database, queries = clustered(300), clustered(20, seed=1)
    index = ApproximateIndex.over(database, half=half)
    assert (index.lists, index.effort.recall, len(index)) == (1, 1.0, 300)
    for allowed in (None, [7, 5, 999], np.arange(0, 300, 2)):
        found, truth = (one.search(queries, 12, allowed) for one in (index, ExactIndex.over(database, half=half)))
        assert found.ids.tolist() == truth.ids.tolist()
        np.testing.assert_allclose(found.scores, truth.scores, atol=1e-6)


@pytest.mark.usefixtures("many_lists")
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("target", [0.9, 0.98])
def test_the_measured_recall_is_the_recall(half, target, database):
    index = ApproximateIndex.over(database, half=half, recall=target, k=20)
    assert index.lists == 126
    assert target <= index.effort.recall < target + 0.06
    assert 1 < index.effort.probes < 60
    queries = clustered(300, seed=1)
    exact = ExactIndex.over(database, half=half)
    assert recall(index.search(queries, 20).ids, exact.search(queries, 20).ids) == pytest.approx(
        index.effort.recall, abs=0.03
    )
    allowed = np.flatnonzero(np.random.default_rng(5).random(4000) < 0.15)
    found = index.search(queries, 20, allowed).ids
    assert np.isin(found, allowed).all()
    assert recall(found, exact.search(queries, 20, allowed).ids) > target - 0.05


@pytest.mark.usefixtures("many_lists")
def test_the_effort_is_the_least_that_reaches_the_recall(database):
    index = ApproximateIndex.over(database, half=False, recall=0.9, k=10)
    rng, lists = np.random.default_rng(0), index._lists
    rows = np.sort(rng.choice(4000, 200, replace=False))
    truth = ExactIndex.over(database).search(database[rows], 11).ids
    truth = np.array([[t for t in one if t != row][:10] for row, one in zip(rows, truth, strict=True)])
    effort = inverted_lists.measure(lists, rows, database[rows], 10, 0.9, 0)

    def reached(probes):
        lists.nprobe = probes
        found = lists.search(database[rows], 11)[1]
        return np.mean([np.isin(t, f).mean() for t, f in zip(truth, found, strict=True)])

    assert reached(effort.probes) == pytest.approx(effort.recall, abs=1e-9)
    assert reached(effort.probes) >= 0.9 > reached(effort.probes - 1)


@pytest.mark.usefixtures("many_lists")
def test_few_allowed_rows_are_searched_exactly(database):
    index = ApproximateIndex.over(database, half=False, recall=0.5, k=5)
    queries = clustered(30, seed=1)
    allowed = np.arange(0, 4000, 11)
    found, truth = (one.search(queries, 300, allowed) for one in (index, ExactIndex.over(database)))
    assert found.ids.tolist() == truth.ids.tolist()
    assert index.search(queries, 5, [70000]).ids.shape == (30, 0)


@pytest.mark.usefixtures("many_lists")
@pytest.mark.parametrize("half", [False, True])
def test_equal_scores_are_ordered_by_row(half, database):
    database[::50] = database[0]
    index = ApproximateIndex(DIM, half=half)
    order = np.random.default_rng(0).permutation(4000)
    index.add(order, database[order])
    ranking = index.search(database[:1], 80)
    assert ranking.ids[0].tolist() == list(range(0, 4000, 50))
    assert len(np.unique(ranking.scores)) == 1


@pytest.mark.usefixtures("many_lists")
def test_lists_are_learnt_anew_when_outgrown(database):
    index = ApproximateIndex(DIM, half=False, k=20)
    seen = []
    for part in np.array_split(np.random.default_rng(2).permutation(4000), 40):
        index.add(part, database[part])
        seen.append((index.lists, index.effort.measured_on))
    assert len(set(seen)) == 4  # one list, then from 500, 1100 and 2300 rows
    assert seen[3] == (1, 0)
    assert seen[4] == (44, 500)
    assert len(index) <= 2 * seen[-1][1]
    queries = clustered(200, seed=1)
    assert recall(index.search(queries, 20).ids, ExactIndex.over(database).search(queries, 20).ids) > 0.95


@pytest.mark.usefixtures("many_lists")
@pytest.mark.parametrize("half", [False, True])
def test_removed_and_updated(half, database):
    index, exact = ApproximateIndex.over(database, half=half, recall=1.0), ExactIndex.over(database, half=half)
    other = clustered(3, seed=7)
    for one in (index, exact):
        one.remove(np.arange(100, 3000, 3))
        one.update([103, 4005, 3999], other)
    assert index.rows.tolist() == exact.rows.tolist()
    assert len(index) == len(exact)
    assert index.search(other, 1).ids[:, 0].tolist() == [103, 4005, 3999]
    found, truth = (one.search(clustered(50, seed=1), 20).ids for one in (index, exact))
    assert not np.isin(found, np.setdiff1d(np.arange(100, 3000, 3), [103])).any()
    assert recall(found, truth) > 0.98
    index.remove(index.rows)
    assert index.search(other, 4).ids.shape == (3, 0)


@pytest.mark.usefixtures("many_lists")
def test_the_seed_decides(database):
    one, same, other = (ApproximateIndex.over(database, recall=0.6, seed=seed) for seed in (3, 3, 4))
    found = [index.search(database[::40], 50).ids.tolist() for index in (one, same, other)]
    assert found[0] == found[1] != found[2]
    assert one.effort == same.effort


@pytest.mark.usefixtures("many_lists")
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("count", [0, 50, 4000])
def test_saved_and_loaded(half, count, database, tmp_path):
    index = ApproximateIndex(DIM, half=half, recall=0.9, k=30, seed=5)
    index.add(np.arange(count) * 3, database[:count])
    index.remove(np.arange(0, count, 5) * 3)
    index.save(tmp_path / "x.safetensors")
    loaded = ApproximateIndex.load(tmp_path / "x.safetensors")
    assert (loaded.half, loaded.target, loaded.k, loaded.seed) == (half, 0.9, 30, 5)
    assert loaded.effort == index.effort
    for one in (index, loaded):
        one.add([1], database[-1:])
    assert loaded.rows.tolist() == index.rows.tolist()
    found, expected = (one.search(database[:9], 40) for one in (loaded, index))
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.scores.tolist() == expected.scores.tolist()


@pytest.fixture
def saved(many_lists, database, tmp_path):  # noqa: ARG001
    path = tmp_path / "x.safetensors"
    ApproximateIndex.over(database).save(path)
    return path


def contents(path):
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def test_damaged_files_are_refused(saved):
    content = saved.read_bytes()
    for cut in (0, 5, 300, len(content) // 2, len(content) - 1):
        saved.write_bytes(content[:cut])
        with pytest.raises(CollectionError, match=r"x\.safetensors is damaged"):
            ApproximateIndex.load(saved)
    for place in np.random.default_rng(0).integers(0, len(content), 60):
        damaged = bytearray(content)
        damaged[place] ^= 0x41
        saved.write_bytes(damaged)
        with pytest.raises(CollectionError, match=r"x\.safetensors"):
            ApproximateIndex.load(saved)
    with pytest.raises(CollectionError, match="cannot be read"):
        ApproximateIndex.load(saved.parent)


def forge(path, tensors, metadata, **facts):
    for name, changes in facts.items():
        metadata[name] = json.dumps({**json.loads(metadata[name]), **changes})
    metadata["checksum"] = approximate._checksum(tensors, metadata)
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t["sizes"].__setitem__(0, 10**15), "do not hold"),
        (lambda t: t["sizes"].__setitem__(slice(2), [-1, t["sizes"][:2].sum() + 1]), "do not hold"),
        (lambda t: t["rows"].__setitem__(3, t["rows"][4]), "given twice"),
        (lambda t: t["rows"].__setitem__(3, -5), "rows start at 0"),
        (lambda t: t["vectors"].__setitem__((0, 0), np.inf), "infinity"),
        (lambda t: t["centroids"].__setitem__((0, 0), np.nan), "NaN"),
        (lambda t: t.__setitem__("rows", t["rows"][1:]), "rows has shape"),
        (lambda t: t.__setitem__("centroids", t["centroids"][1:]), "sizes has shape"),
        (lambda t: t.__setitem__("centroids", t["centroids"][:, 1:].copy()), "vectors has shape"),
        (lambda t: t.pop("rows"), "rows"),
    ],
)
def test_forged_tensors_are_refused(change, reason, saved):
    tensors, metadata = contents(saved)
    change(tensors)
    forge(saved, tensors, metadata)
    with pytest.raises(CollectionError, match=reason):
        ApproximateIndex.load(saved)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"effort": {"probes": 0}}, "lists to scan"),
        ({"effort": {"filtered_probes": 10**9}}, "lists to scan"),
        ({"effort": {"probes": None}}, "damaged"),
        ({"settings": {"recall": 2}}, "recall=2"),
        ({"settings": {"k": "many"}}, "many"),
        ({"settings": {"seed": -1}}, "seed=-1"),
    ],
)
def test_forged_settings_are_refused(facts, reason, saved):
    tensors, metadata = contents(saved)
    forge(saved, tensors, metadata, **facts)
    with pytest.raises(CollectionError, match=reason):
        ApproximateIndex.load(saved)


def test_other_files_are_refused(saved):
    tensors, metadata = contents(saved)
    save_file(tensors, saved, {**metadata, "format": "resight whitening 1"})
    with pytest.raises(CollectionError, match="holds 'resight whitening 1'"):
        ApproximateIndex.load(saved)


@pytest.mark.usefixtures("many_lists")
def test_search_while_another_thread_adds(database):
    index, wrong = ApproximateIndex(DIM, half=False), []
    index.add(np.arange(10), database[:10])

    def read():
        while len(index) < 3000:
            wrong.extend(np.flatnonzero(index.search(database[:5], 1).ids[:, 0] != np.arange(5)))

    reader = threading.Thread(target=read)
    reader.start()
    for start in range(10, 3000, 230):
        index.add(np.arange(start, start + 230), database[start : start + 230])
    reader.join()
    assert not wrong


def test_choice_by_size():
    small, middle, large = choose_index(32_000, 2048), choose_index(130_000, 2048), choose_index(200_000, 2048)
    assert isinstance(small, ExactIndex)
    assert not small.half
    assert isinstance(middle, ExactIndex)
    assert middle.half
    assert isinstance(large, ApproximateIndex)
    assert large.half
    assert large.dim == 2048


def test_bad_arguments():
    for arguments in ({"dim": 0}, {"dim": 4, "k": 0}, {"dim": 4, "recall": 0.0}, {"dim": 4, "recall": float("nan")}):
        with pytest.raises(UsageError):
            ApproximateIndex(**arguments)
    with pytest.raises(UsageError, match="seed=-1"):
        ApproximateIndex(4, seed=-1)
    index = ApproximateIndex.over(clustered(5))
    with pytest.raises(UsageError, match="0 results"):
        index.search(clustered(1), 0)
    with pytest.raises(ArrayError, match=r"expected \(any, 16\)"):
        index.search(np.zeros((1, 3)), 3)
    with pytest.raises(UsageError, match="row 4 is in the index already"):
        index.add([9, 4], clustered(2))
    with pytest.raises(ArrayError, match="row 9 is given twice"):
        index.add([9, 9], clustered(2))
    with pytest.raises(ArrayError, match="ends at 65504"):
        index.update([9], np.full((1, DIM), 1e5))
    with pytest.raises(UsageError, match="row 7 is not in the index"):
        index.remove([0, 7])
    assert len(index) == 5
