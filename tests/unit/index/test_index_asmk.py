import numpy as np
import pytest
from safetensors.numpy import save_file

from resight.errors import ArrayError, CollectionError, StampMismatch, UsageError
from resight.index import asmk_kernels, inverted, posting_codes
from resight.index.aggregation import image_blocks
from resight.index.asmk import Aggregated, Asmk, Codebook, aggregate, words_for

RNG = np.random.default_rng(7)
CODEBOOK = Codebook(RNG.standard_normal((16, 32)))
ROWS = np.repeat(np.array([3, 5, 9, 10, 40]), 30)
DESCRIPTORS = RNG.standard_normal((150, 32)).astype(np.float32)


def filled(**options):
    index = Asmk(CODEBOOK, **options)
    index.add(ROWS, DESCRIPTORS)
    return index


# codebook


def test_words_grow_with_the_collection():
    assert words_for(1) == 16
    assert words_for(32 * 1024 - 1) == 512
    assert words_for(32 * 1024) == 1024
    assert words_for(520_000) == 8192
    assert words_for(29_000_000) == 32768
    assert words_for(30_000_000) == 65536
    assert words_for(10**9) == 65536
    with pytest.raises(UsageError, match="0 descriptors"):
        words_for(0)


def test_fit_is_repeatable_and_draws_a_rotation():
    a, b = (Codebook.fit(DESCRIPTORS, 8, seed=3) for _ in range(2))
    assert a.fingerprint == b.fingerprint
    assert a.fingerprint != Codebook.fit(DESCRIPTORS, 8, seed=4).fingerprint
    assert np.linalg.matrix_rank(a.rotation) == 32
    assert not np.array_equal(a.rotation, Codebook.fit(DESCRIPTORS, 8, seed=4).rotation)


def test_fit_without_rotation_has_plain_signs_that_are_compared_as_the_authors_do():
    codebook = Codebook.fit(DESCRIPTORS, 8, rotate=False)
    assert codebook.rotation is None
    assert not Asmk(codebook).kernel.asymmetric
    turned = codebook.with_rotation(DESCRIPTORS, np.random.default_rng(0))
    assert Asmk(turned).kernel.asymmetric
    assert not Asmk(turned, asymmetric=False).kernel.asymmetric
    assert not Asmk(turned, binary=False, asymmetric=True).kernel.asymmetric


def test_fit_uses_a_sample_of_the_stated_size():
    few = Codebook.fit(DESCRIPTORS, 4, points_per_word=1, iterations=1)
    assert len(few) == 4
    distance = np.linalg.norm(few.centroids[:, None] - DESCRIPTORS[None], axis=2).min(axis=1)
    np.testing.assert_allclose(distance, 0, atol=1e-3)


@pytest.mark.parametrize(
    ("words", "options"), [(151, {}), (0, {}), (4, {"iterations": 0}), (4, {"points_per_word": 0})]
)
def test_fit_refuses_what_cannot_be_trained(words, options):
    with pytest.raises(UsageError, match="at least"):
        Codebook.fit(DESCRIPTORS, words, **options)


def test_assign_gives_the_nearest_words_in_order():
    distance = np.linalg.norm(DESCRIPTORS[:, None] - CODEBOOK.centroids[None], axis=2)
    np.testing.assert_array_equal(CODEBOOK.assign(DESCRIPTORS, 4), np.argsort(distance, axis=1)[:, :4])
    assert CODEBOOK.assign(np.empty((0, 32)), 2).shape == (0, 2)
    with pytest.raises(UsageError, match="17 words"):
        CODEBOOK.assign(DESCRIPTORS, 17)


@pytest.mark.parametrize(
    "parts",
    [
        {"centroids": np.zeros((0, 4))},
        {"centroids": np.zeros(4)},
        {"centroids": np.full((2, 4), np.nan)},
        {"centroids": np.zeros((2, 4)), "rotation": np.zeros((3, 3))},
    ],
)
def test_codebook_refuses_bad_arrays(parts):
    with pytest.raises(ArrayError, match="Codebook"):
        Codebook(**parts)


@pytest.mark.parametrize("rotate", [True, False])
def test_codebook_survives_the_disk(tmp_path, rotate):
    codebook = Codebook.fit(DESCRIPTORS, 8, rotate=rotate)
    codebook.save(tmp_path / "words")
    assert Codebook.load(tmp_path / "words").fingerprint == codebook.fingerprint
    assert [file.name for file in tmp_path.iterdir()] == ["words"]


def test_files_that_are_no_codebook_are_refused(tmp_path):
    path = tmp_path / "words"
    with pytest.raises(CollectionError, match="cannot be read"):
        Codebook.load(path)
    path.write_bytes(b"not a safetensors file")
    with pytest.raises(CollectionError, match="damaged"):
        Codebook.load(path)
    save_file({"centroids": np.zeros((2, 2), np.float32)}, path, {"format": "else"})
    with pytest.raises(CollectionError, match="'else'"):
        Codebook.load(path)
    save_file({"else": np.zeros((2, 2), np.float32)}, path, {"format": "resight-codebook-2"})
    with pytest.raises(CollectionError, match="damaged"):
        Codebook.load(path)
    with pytest.raises(CollectionError, match=r"cannot write .*: No such file"):
        CODEBOOK.save(tmp_path / "absent" / "folder" / "words")


# aggregation


def test_two_descriptors_of_one_word_become_one_residual():
    codebook = Codebook(np.array([[0.0, 0.0], [10.0, 0.0]]))
    got = aggregate(codebook, [4, 4, 4], [[0], [1], [0]], [[1, 0], [10, -2], [2, 4]], binary=False)
    np.testing.assert_array_equal(got.rows, [4, 4])
    np.testing.assert_array_equal(got.words, [0, 1])
    np.testing.assert_allclose(got.values, [[0.6, 0.8], [0, -1]], atol=1e-5)
    signs = aggregate(codebook, [4, 4, 4], [[0], [1], [0]], [[1, 0], [10, -2], [2, 4]])
    np.testing.assert_array_equal(signs.values[:, 0] >> 62, [0b11, 0b00])


def test_the_rotation_decides_the_bits():
    codebook = Codebook(np.zeros((1, 2)), np.array([[0, 1], [-1, 0]]))
    got = aggregate(codebook, [0], [[0]], [[1.0, 2.0]])  # turned: (-2, 1)
    assert got.values[0, 0] >> 62 == 0b01
    plain = aggregate(Codebook(np.zeros((1, 2))), [0], [[0]], [[1.0, 2.0]])
    assert plain.values[0, 0] >> 62 == 0b11


def test_image_blocks_never_split_an_image(monkeypatch):
    monkeypatch.setattr("resight.index.aggregation.BLOCK", 4)
    rows = np.array([5, 5, 5, 2, 2, 9, 9, 9, 9, 9, 9, 1])
    blocks = [rows[index].tolist() for index in image_blocks(rows)]
    assert blocks == [[1, 2, 2, 5, 5, 5], [9] * 6]
    ascending = np.sort(rows)
    assert [ascending[index].tolist() for index in image_blocks(ascending)] == blocks
    assert list(image_blocks(np.empty(0, np.int64))) == []


def test_blocks_do_not_change_the_aggregate(monkeypatch):
    words = CODEBOOK.assign(DESCRIPTORS, 2)
    whole = aggregate(CODEBOOK, ROWS, words, DESCRIPTORS)
    monkeypatch.setattr("resight.index.aggregation.BLOCK", 40)
    parts = aggregate(CODEBOOK, ROWS, words, DESCRIPTORS)
    np.testing.assert_array_equal(whole.rows, parts.rows)
    np.testing.assert_array_equal(whole.words, parts.words)
    np.testing.assert_array_equal(whole.values, parts.values)


@pytest.mark.parametrize(
    ("rows", "words", "match"),
    [
        ([0], [[0], [1]], "rows has shape"),
        ([0, 1], [[0]], "words has shape"),
        ([0, 1], [[0], [16]], "0..15"),
        ([0, -1], [[0], [1]], "-1"),
    ],
)
def test_aggregate_refuses_bad_arguments(rows, words, match):
    with pytest.raises(ArrayError, match=match):
        aggregate(CODEBOOK, rows, words, DESCRIPTORS[:2])


@pytest.mark.parametrize(
    ("rows", "words", "weights"),
    [
        ([1, 0], [0, 0], None),
        ([0, 0], [1, 1], None),
        ([-1, 0], [0, 0], None),
        ([0, 1], [0, 0], [1, 0]),
        ([0, 1], [0, 0], [1, np.nan]),
    ],
)
def test_aggregated_refuses_disorder(rows, words, weights):
    with pytest.raises(ArrayError, match="Aggregated"):
        Aggregated(np.array(rows), np.array(words), np.zeros((2, 1), np.uint64), weights)


# index


@pytest.mark.parametrize("binary", [True, False])
def test_a_photo_finds_itself_first(binary):
    index = filled(binary=binary, query_multiple=1)
    ranking = index.search(np.repeat(np.arange(5), 30), DESCRIPTORS, 2)
    assert ranking.ids[:, 0].tolist() == [3, 5, 9, 10, 40]
    np.testing.assert_allclose(ranking.scores[:, 0], 1, atol=1e-5)
    assert len(index) == 5
    assert index.rows.tolist() == [3, 5, 9, 10, 40]


def test_search_agrees_with_scores_and_cuts_at_k():
    index = filled()
    queries = np.repeat([0, 1, 2], 10)
    scores = index.scores(queries, DESCRIPTORS[:30]).astype(np.float32)
    everything, two = index.search(queries, DESCRIPTORS[:30]), index.search(queries, DESCRIPTORS[:30], 2)
    order = np.argsort(-scores, axis=1, kind="stable")
    np.testing.assert_array_equal(everything.ids, index.rows[order])
    np.testing.assert_array_equal(everything.scores, np.take_along_axis(scores, order, 1))
    np.testing.assert_array_equal(two.ids, everything.ids[:, :2])


def test_equal_scores_rank_by_row():
    index = Asmk(CODEBOOK)
    rows = np.repeat([8, 2, 6, 4], 30)
    index.add(rows, np.tile(DESCRIPTORS[:30], (4, 1)))
    assert index.search(np.zeros(30, int), DESCRIPTORS[:30], 3).ids.tolist() == [[2, 4, 6]]
    nothing = Asmk(CODEBOOK, tau=1.0)
    nothing.add(rows, np.tile(DESCRIPTORS[:30], (4, 1)))
    ranking = nothing.search(np.zeros(30, int), DESCRIPTORS[30:60])
    assert ranking.ids.tolist() == [[2, 4, 6, 8]]
    assert not ranking.scores.any()


def test_negative_scores_rank_last():
    index = Asmk(CODEBOOK, tau=-1.0, query_multiple=1)
    index.add([0] * 30 + [1] * 30, np.vstack([-DESCRIPTORS[:30], DESCRIPTORS[:30]]))
    scores = index.scores([0] * 30, DESCRIPTORS[:30])
    ranking = index.search([0] * 30, DESCRIPTORS[:30])
    assert ranking.ids[0, 0] == 1
    assert ranking.scores[0, 1] == np.float32(scores[0, 0])


def test_queries_without_descriptors_score_zero():
    index = filled()
    ranking = index.search(np.full(30, 1), DESCRIPTORS[:30], 3, queries=4)
    assert ranking.ids.shape == (4, 3)
    assert ranking.scores[1, 0] > 0
    assert not ranking.scores[[0, 2, 3]].any()
    assert index.search(np.empty(0, int), np.empty((0, 32))).ids.shape == (0, 5)
    with pytest.raises(UsageError, match="1 queries"):
        index.search(np.full(30, 1), DESCRIPTORS[:30], queries=1)


def test_an_empty_index_answers_with_nothing(tmp_path):
    index = Asmk(CODEBOOK)
    assert index.search([0], DESCRIPTORS[:1]).ids.shape == (1, 0)
    assert index.bytes_per_image() == 0
    index.add(np.empty(0, int), np.empty((0, 32)))
    index.save(tmp_path / "index")
    assert len(Asmk.load(tmp_path / "index", CODEBOOK)) == 0


def test_rows_are_added_once_and_removed_once():
    index = filled()
    with pytest.raises(UsageError, match="row 9 is in the index already"):
        index.add([9, 11], DESCRIPTORS[:2])
    with pytest.raises(UsageError, match="rows 1, 2 are not in the index"):
        index.remove([1, 2, 3])
    assert index.rows.tolist() == [3, 5, 9, 10, 40]
    index.remove([3, 40, 3])
    assert index.rows.tolist() == [5, 9, 10]
    index.remove([5, 9, 10])
    assert len(index) == 0


@pytest.mark.parametrize("idf", [True, False])
def test_update_replaces_and_adds(idf):
    index, fresh = filled(idf=idf), Asmk(CODEBOOK, idf=idf)
    index.update([5] * 30 + [7] * 30, DESCRIPTORS[:60][::-1])
    kept = ROWS != 5
    fresh.add(np.append(ROWS[kept], [5] * 30 + [7] * 30), np.vstack([DESCRIPTORS[kept], DESCRIPTORS[:60][::-1]]))
    queries = np.repeat([0, 1, 2], 50)
    np.testing.assert_array_equal(index.scores(queries, DESCRIPTORS), fresh.scores(queries, DESCRIPTORS))
    np.testing.assert_array_equal(index.rows, fresh.rows)


@pytest.mark.parametrize("options", [{}, {"binary": False}, {"idf": True}, {"query_multiple": 1, "tau": -1.0}])
def test_one_image_scores_as_in_the_whole_index(options, monkeypatch):
    monkeypatch.setattr(inverted, "IMAGES_PER_SEGMENT", 2)
    index, query = filled(**options), DESCRIPTORS[20:75]
    whole = dict(zip(index.rows.tolist(), index.scores(np.zeros(55, int), query)[0].tolist(), strict=True))
    words = index.query_words(query)
    assert {row: index.score(row, query, words) for row in whole} == pytest.approx(whole, rel=1e-12)
    assert index.score(9, query[:0], words[:0]) == 0
    with pytest.raises(UsageError, match="row 4 is not in the index"):
        index.score(4, query, words)


def test_weights_scale_words_in_score_and_norm():
    index = filled(query_multiple=1)
    query = index.aggregate_query(np.zeros(30, int), DESCRIPTORS[:30])
    plain = index.search_aggregated(query)
    doubled = Aggregated(query.rows, query.words, query.values, np.full(len(query), 4))
    np.testing.assert_allclose(index.search_aggregated(doubled).scores, 2 * plain.scores, rtol=1e-6)


def test_arguments_stay_as_they_were():
    rows, descriptors = ROWS[::-1].copy(), DESCRIPTORS.copy()
    index = Asmk(CODEBOOK)
    index.add(rows, descriptors)
    index.search(np.zeros(30, int), descriptors[:30])
    np.testing.assert_array_equal(rows, ROWS[::-1])
    np.testing.assert_array_equal(descriptors, DESCRIPTORS)


@pytest.mark.parametrize(
    "options", [{"alpha": 0}, {"alpha": np.nan}, {"tau": 1.5}, {"tau": -0.5, "alpha": 2.5}, {"query_multiple": 0}]
)
def test_kernels_that_make_no_sense_are_refused(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        Asmk(CODEBOOK, **options)


def test_bad_descriptors_are_refused():
    index = filled()
    with pytest.raises(ArrayError, match="expected"):
        index.add([1], np.zeros((1, 31)))
    with pytest.raises(ArrayError, match="NaN"):
        index.add([1], np.full((1, 32), np.nan))
    with pytest.raises(ArrayError, match="start at 0"):
        index.add([-1], DESCRIPTORS[:1])
    with pytest.raises(UsageError, match="at least 1"):
        index.search([0], DESCRIPTORS[:1], 0)
    with pytest.raises(ArrayError, match="this index takes uint64 x 1"):
        index.search_aggregated(Aggregated([0], [0], np.zeros((1, 32), np.float32)))
    with pytest.raises(ArrayError, match="word 16"):
        index.search_aggregated(Aggregated([0], [16], np.zeros((1, 1), np.uint64)))


def test_queries_in_blocks_answer_the_same(monkeypatch):
    index, queries = filled(), np.repeat(np.arange(15), 10)
    whole = index.search(queries, DESCRIPTORS)
    monkeypatch.setattr("resight.index.asmk_scoring.CELLS", 20)
    parts = index.search(queries, DESCRIPTORS)
    np.testing.assert_array_equal(whole.ids, parts.ids)
    np.testing.assert_array_equal(whole.scores, parts.scores)


def test_segments_split_merge_and_answer_the_same(monkeypatch):
    monkeypatch.setattr(inverted, "IMAGES_PER_SEGMENT", 4)
    rows = np.repeat(RNG.permutation(15) * 2, 10)
    whole, pieces = Asmk(CODEBOOK, idf=True), Asmk(CODEBOOK, idf=True)
    whole.add(rows, DESCRIPTORS)
    for row in np.unique(rows):
        pieces.add(rows[rows == row], DESCRIPTORS[rows == row])
    sizes = [len(segment) for segment in pieces._snapshot.segments]
    assert len(whole._snapshot.segments) == 4
    assert max(sizes) <= 4
    assert len(sizes) <= 6
    np.testing.assert_array_equal(whole.scores(rows // 2, DESCRIPTORS), pieces.scores(rows // 2, DESCRIPTORS))


def test_adding_one_by_one_keeps_few_segments():
    index = Asmk(CODEBOOK)
    for row in range(100):
        index.add([row], DESCRIPTORS[row : row + 1])
        assert len(index._snapshot.segments) <= 8
    assert len(index) == 100


def test_bytes_per_posting():
    codebook = Codebook(RNG.standard_normal((64, 128)))
    index = Asmk(codebook)
    index.add(np.repeat(np.arange(200), 100), RNG.standard_normal((20000, 128)))
    (segment,) = index._snapshot.segments
    fixed = 2 * 4 * 65 + 12 * 200 + 4 * 64 + segment.codes.nbytes
    assert index.memory_bytes == 16 * index.postings + fixed
    assert segment.codes.nbytes < 0.3 * index.postings  # most photos hold most words here, so that gaps are 1
    assert index.bytes_per_image() == index.memory_bytes / 200


@pytest.mark.parametrize("options", [{}, {"binary": False, "idf": True, "alpha": 2.0, "tau": 0.1, "query_multiple": 2}])
def test_index_survives_the_disk(tmp_path, options):
    index = filled(**options)
    index.save(tmp_path / "index")
    again = Asmk.load(tmp_path / "index", CODEBOOK)
    assert again.kernel == index.kernel
    queries = np.repeat([0, 1, 2], 50)
    np.testing.assert_array_equal(again.scores(queries, DESCRIPTORS), index.scores(queries, DESCRIPTORS))
    again.remove([5])
    again.add([5], DESCRIPTORS[:1])
    with pytest.raises(StampMismatch, match="another codebook"):
        Asmk.load(tmp_path / "index", Codebook(CODEBOOK.centroids + 1))


def test_every_kernel_is_compiled_for_one_signature(tmp_path):
    for binary in (True, False):
        index = filled(binary=binary)
        index.update(ROWS[::-1], DESCRIPTORS)
        index.save(tmp_path / "index")
        again = Asmk.load(tmp_path / "index", CODEBOOK)
        again.remove([3])
        again.search(np.zeros(20, int), DESCRIPTORS[:20])
        frozen = DESCRIPTORS[:30].copy()
        frozen.flags.writeable = False
        again.add([3] * 30, frozen)
    for name in ("counting_order", "score_binary", "score_vectors", "sum_residuals", "finish", "highest"):
        assert len(getattr(asmk_kernels, name).signatures) == 1, name
    for name in ("encode", "decode", "find_image", "to_lanes", "from_lanes"):
        assert len(getattr(posting_codes, name).signatures) == 1, name
