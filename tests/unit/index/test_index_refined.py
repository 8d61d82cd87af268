import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.errors import ArrayError, CollectionError, UsageError
from resight.index import refined
from resight.index.exact import ExactIndex
from resight.index.refined import RefinedIndex
from resight.store.mapped_vectors import MappedVectors, check_vectors

DIM = 64
COUNT = 4000


def clustered(count, seed=0, groups=60):
    centres = np.random.default_rng(99).standard_normal((groups, DIM))
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(0, groups, count)] + 0.8 * rng.standard_normal((count, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def recall(found, truth):
    return np.mean([len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True)]) / truth.shape[1]


@pytest.fixture(autouse=True)
def _many_lists(monkeypatch):
    monkeypatch.setattr(refined, "TRAIN_FROM", 500)
    monkeypatch.setattr(refined, "BLOCK", 700)


@pytest.fixture
def database():
    return clustered(COUNT)


def over(path, vectors, **options):
    index = RefinedIndex(DIM, path / "vectors.f16", k=20, **options)
    index.extend((np.arange(i, min(i + 900, len(vectors))), vectors[i : i + 900]) for i in range(0, len(vectors), 900))
    return index


def test_few_vectors_are_searched_exactly(tmp_path):
    database, queries = clustered(300), clustered(20, seed=1)
    index, exact = over(tmp_path, database), ExactIndex.over(database, half=True)
    assert (index.lists, index.effort, len(index)) == (1, None, 300)
    for allowed in (None, [7, 5, 999], np.arange(0, 300, 2)):
        found, truth = (one.search(queries, 12, allowed) for one in (index, exact))
        assert found.ids.tolist() == truth.ids.tolist()
        assert found.scores.tolist() == truth.scores.tolist()


@pytest.mark.parametrize("target", [0.9, 0.98])
def test_the_recall_after_refinement_is_the_one_measured(tmp_path, target, database):
    index, exact, queries = (
        over(tmp_path, database, recall=target),
        ExactIndex.over(database, half=True),
        clustered(300, 1),
    )
    assert index.lists == 63
    assert target <= index.effort.recall < target + 0.06
    assert 1 < index.effort.probes < 63
    assert 20 <= index.effort.refined <= 320
    found, truth = index.search(queries, 20), exact.search(queries, 20)
    assert recall(found.ids, truth.ids) == pytest.approx(index.effort.recall, abs=0.03)
    allowed = np.flatnonzero(np.random.default_rng(5).random(COUNT) < 0.15)
    found = index.search(queries, 20, allowed).ids
    assert np.isin(found, allowed).all()
    assert recall(found, exact.search(queries, 20, allowed).ids) > target - 0.05


def test_scores_are_those_of_exact_search_in_half_precision(tmp_path, database):
    queries = clustered(50, 1)
    found = over(tmp_path, database).search(queries, 10)
    truth = ExactIndex.over(database, half=True).search(queries, 400)
    for ids, scores, all_ids, all_scores in zip(found.ids, found.scores, truth.ids, truth.scores, strict=True):
        known = dict(zip(all_ids.tolist(), all_scores.tolist(), strict=True))
        assert all(known[row] == score for row, score in zip(ids.tolist(), scores.tolist(), strict=True))


def test_few_allowed_rows_are_searched_exactly(tmp_path, database):
    index, queries, allowed = over(tmp_path, database, recall=0.5), clustered(30, 1), np.arange(0, COUNT, 11)
    found, truth = (one.search(queries, 300, allowed) for one in (index, ExactIndex.over(database, half=True)))
    assert found.ids.tolist() == truth.ids.tolist()
    assert index.search(queries, 5, [70000]).ids.shape == (30, 0)


def test_equal_scores_are_ordered_by_row(tmp_path, database):
    database[::50] = database[0]
    index = RefinedIndex(DIM, tmp_path / "vectors.f16", k=20)
    for part in np.array_split(np.random.default_rng(0).permutation(COUNT), 7):
        index.add(part, database[part])
    ranking = index.search(database[:1], 80)
    assert ranking.ids[0].tolist() == list(range(0, COUNT, 50))
    assert len(np.unique(ranking.scores)) == 1


def test_adding_and_removing_keeps_the_promise_of_a_rebuild(tmp_path, database):
    queries, index = clustered(200, 1), over(tmp_path, database[:3000])
    assert index.effort.measured_on == 3000
    index.add(np.arange(3000, COUNT), database[3000:])
    gone = np.arange(0, COUNT, 7)
    index.remove(gone)
    assert index.effort.measured_on == 3000  # neither added nor removed photos were many
    assert len(index) == COUNT - len(gone)
    kept = np.setdiff1d(np.arange(COUNT), gone)
    exact = ExactIndex(DIM, half=True)
    exact.add(kept, database[kept])
    found, truth = index.search(queries, 20), exact.search(queries, 20)
    assert not np.isin(found.ids, gone).any()
    assert recall(found.ids, truth.ids) > 0.95
    assert index.rows.tolist() == kept.tolist()
    fresh = RefinedIndex(DIM, tmp_path / "fresh.f16", k=20)
    fresh.add(kept, database[kept])
    assert recall(fresh.search(queries, 20).ids, truth.ids) > 0.95


def test_lists_are_learnt_anew_when_most_vectors_are_new(tmp_path, database):
    index = over(tmp_path, database[:1000])
    seen = []
    for start in range(1000, COUNT, 500):
        index.add(np.arange(start, start + 500), database[start : start + 500])
        seen.append(index.effort.measured_on)
    assert seen == [1000, 1000, 2500, 2500, 2500, 2500]


def test_the_file_is_written_anew_when_a_quarter_was_removed(tmp_path, database):
    index = over(tmp_path, database)
    size = index.path.stat().st_size
    index.remove(np.arange(1, COUNT, 3))
    assert index.path.stat().st_size < 0.7 * size
    assert index.effort.measured_on == len(index) == COUNT - len(range(1, COUNT, 3))
    assert index.search(database[:1], 1).ids.tolist() == [[0]]


def test_an_update_replaces_a_vector(tmp_path, database):
    index = over(tmp_path, database)
    index.update([5, COUNT], np.stack([database[1], -database[1]]))
    assert index.search(database[1:2], 2).ids.tolist() == [[1, 5]]
    assert len(index) == COUNT + 1
    assert index.search(-database[1:2], 1).ids.tolist() == [[COUNT]]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 60), min_size=1)), max_size=8))
def test_any_history_leaves_the_vectors_that_were_not_removed(tmp_path_factory, steps):
    vectors, held = clustered(61), set()
    index = RefinedIndex(DIM, tmp_path_factory.mktemp("history") / "vectors.f16")
    for adds, rows in steps:
        rows = sorted(rows - held if adds else rows & held)
        (index.add(rows, vectors[rows]) if adds else index.remove(rows)) if rows else None
        held = held | set(rows) if adds else held - set(rows)
    assert index.rows.tolist() == sorted(held)
    exact = ExactIndex(DIM, half=True)
    exact.add(sorted(held), vectors[sorted(held)])
    assert index.search(vectors[:3], 9).ids.tolist() == exact.search(vectors[:3], 9).ids.tolist()


def test_a_saved_index_answers_as_before(tmp_path, database):
    index, queries = over(tmp_path, database), clustered(40, 1)
    index.remove([3, 4])
    index.save(tmp_path / "lists.safetensors")
    again = RefinedIndex.load(tmp_path / "lists.safetensors", index.path)
    for allowed in (None, np.arange(0, COUNT, 3)):
        assert again.search(queries, 20, allowed).ids.tolist() == index.search(queries, 20, allowed).ids.tolist()
    assert again.effort == index.effort
    index.add([COUNT], -database[:1])  # a writer that was killed before it saved
    again = RefinedIndex.load(tmp_path / "lists.safetensors", index.path)
    assert len(again) == COUNT - 2
    again.add([9999], -database[:1])
    assert again.search(-database[:1], 1).ids.tolist() == [[9999]]
    check_vectors(index.path)


def test_a_file_that_was_cut_off_is_named_in_one_sentence(tmp_path, database):
    index = over(tmp_path, database)
    index.save(tmp_path / "lists.safetensors")
    os.truncate(index.path, 4096 + 2 * DIM * 1234 + 7)
    with pytest.raises(CollectionError, match=r"vectors.f16 is cut off: it holds 1234 of 4000 vectors: build it again"):
        RefinedIndex.load(tmp_path / "lists.safetensors", index.path)


def test_files_that_do_not_belong_together_are_refused(tmp_path, database):
    index = over(tmp_path, database)
    index.save(tmp_path / "lists.safetensors")
    MappedVectors.create(tmp_path / "other.f16", DIM)
    with pytest.raises(CollectionError, match=r"other\.f16 belongs to another index"):
        RefinedIndex.load(tmp_path / "lists.safetensors", tmp_path / "other.f16")
    with pytest.raises(CollectionError, match=r"none\.f16 cannot be read"):
        RefinedIndex.load(tmp_path / "lists.safetensors", tmp_path / "none.f16")


def test_nothing_is_added_of_a_stream_that_fails(tmp_path, database):
    index = over(tmp_path, database[:600])
    before = index.search(database[:5], 20).ids.tolist()
    blocks = [([700, 701], database[:2]), ([702], np.full((1, DIM), np.nan))]
    with pytest.raises(ArrayError, match="NaN"):
        index.extend(blocks)
    with pytest.raises(UsageError, match="row 5 is in the index already"):
        index.add([5], database[:1])
    with pytest.raises(ArrayError, match="given twice"):
        index.extend([([700], database[:1]), ([700], database[:1])])
    with pytest.raises(UsageError, match="row 700 is not in the index"):
        index.remove([700])
    assert len(index) == 600
    assert index.search(database[:5], 20).ids.tolist() == before
    index.add([700], database[:1])
    assert index.search(database[:1], 2).ids.tolist() == [[0, 700]]


@pytest.mark.parametrize("options", [{"recall": 0}, {"k": 0}, {"seed": -1}, {"dim": 0}])
def test_impossible_settings_are_refused(tmp_path, options):
    with pytest.raises(UsageError, match=str(next(iter(options.values())))):
        RefinedIndex(**{"dim": DIM, "path": tmp_path / "vectors.f16", **options})
