import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.evaluation import metrics

RANKING = [[3, 0, 4, 1, 2, 5]]


def test_trapezoid_ap_by_hand() -> None:
    scores = metrics.revisited(RANKING, [{"ok": [0, 1], "junk": [3]}], "plain", at=(1, 2, 5))
    # without the junk row 3 the positives stand at ranks 0 and 2: (1 + 1) / 2 and (1/2 + 2/3) / 2
    assert scores.ap == pytest.approx([(1 + (1 / 2 + 2 / 3) / 2) / 2])
    assert scores.p_at == pytest.approx(np.array([[1, 1 / 2, 2 / 3]]))  # rank 5 is cut to the last positive, rank 3
    assert scores.metric == "trapezoid AP"
    assert (scores.map, float(scores), len(scores)) == (scores.ap[0], scores.ap[0], 1)


def test_protocols_choose_positives_and_junk() -> None:
    truth = [{"easy": [0], "hard": [1], "junk": [3]}]
    scores = metrics.revisited_protocols(RANKING, truth)
    assert scores["easy"].ap == pytest.approx([1.0])
    assert scores["hard"].ap == pytest.approx([(0 + 1 / 2) / 2])  # 4 before 1, 0 and 3 are removed
    assert scores["medium"].ap == metrics.revisited(RANKING, [{"ok": [0, 1], "junk": [3]}], "plain").ap


def test_missing_junk_means_none() -> None:
    assert metrics.revisited([[1, 0]], [{"ok": [0]}], "plain").ap == pytest.approx([(0 + 1 / 2) / 2])


def test_positives_that_were_not_retrieved_count() -> None:
    scores = metrics.revisited([[0, 5, -1]], [{"ok": [0, 7]}], "plain")
    assert scores.ap == pytest.approx([0.5])


def test_nothing_retrieved_is_zero() -> None:
    scores = metrics.revisited([[5, 6], [-1, -1]], [{"ok": [0]}, {"ok": [0]}], "plain")
    assert scores.ap.tolist() == [0, 0]
    assert scores.p_at.tolist() == [[0, 0, 0]] * 2
    empty_lists = metrics.revisited(np.empty((1, 0), int), [{"ok": [0]}], "plain")
    assert empty_lists.map == 0


def test_queries_without_positives_are_nan_and_counted() -> None:
    scores = metrics.revisited([[0, 1], [0, 1]], [{"ok": [0]}, {"ok": []}], "plain")
    assert np.isnan(scores.ap).tolist() == [False, True]
    assert np.isnan(scores.p_at[1]).all()
    assert (scores.empty, scores.map, scores.mp_at.tolist()) == (1, 1.0, [1, 1, 1])
    alone = metrics.revisited([[0, 1]], [{"ok": []}], "plain")
    assert np.isnan(alone.map)
    assert np.isnan(alone.mp_at).all()


def test_rectangle_ap_by_hand() -> None:
    scores = metrics.rectangle_ap(RANKING, [[0, 1]], [[3]])
    assert scores.ap == pytest.approx([(1 + 2 / 3) / 2])
    assert (scores.metric, scores.p_at.shape) == ("rectangle AP", (1, 0))
    assert metrics.rectangle_ap(RANKING, [[0, 1]]).ap == pytest.approx([(1 / 2 + 2 / 4) / 2])


def test_map_at_k_divides_by_the_smaller_of_positives_and_k() -> None:
    ids, positives = [[0, 9, 1, 2]], [[0, 1, 2, 3]]
    assert metrics.mean_average_precision_at(ids, positives, 3).ap == pytest.approx([(1 + 2 / 3) / 3])
    assert metrics.mean_average_precision_at(ids, positives, 100).ap == pytest.approx([(1 + 2 / 3 + 3 / 4) / 4])
    assert metrics.mean_average_precision_at(ids, positives, 3, junk=[[9]]).ap == pytest.approx([1])
    assert metrics.mean_average_precision_at(ids, positives, 3).metric == "AP@3"


def test_recall_at() -> None:
    recalls = metrics.recall_at([[9, 0, 1], [9, 0, 1]], [[0, 1], []], (1, 2, 3), junk=[[], [9]])
    assert recalls.per_query[0].tolist() == [0, 0.5, 1]
    assert np.isnan(recalls.per_query[1]).all()
    assert (recalls.empty, recalls.mean.tolist()) == (1, [0, 0.5, 1])


def test_ukbench_counts_the_group_among_the_first_four() -> None:
    scores = metrics.ukbench([[0, 1, 9, 2, 3], [4, 5, 6, 7, 8]], [[0, 1, 2, 3], [4, 5, 6, 7]])
    assert (scores.ap.tolist(), scores.map, scores.metric) == ([3, 4], 3.5, "N-S")
    assert scores.p_at.tolist() == [[0.75], [1]]


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int32, np.int64, np.uint64])
def test_any_integer_dtype_and_memory_order(dtype: type) -> None:
    ids = np.array([[3, 0, 4, 1], [1, 0, 2, 3]], dtype)
    truth = [{"ok": [0, 1], "junk": [3]}] * 2
    want = metrics.revisited(ids.astype(np.int64), truth, "plain").ap
    for given in (ids, np.asfortranarray(ids), np.repeat(ids, 2, axis=1)[:, ::2]):
        assert np.array_equal(metrics.revisited(given, truth, "plain").ap, want)


def test_ids_are_not_changed() -> None:
    ids = np.array(RANKING)
    metrics.revisited(ids, [{"ok": [0], "junk": [3]}], "plain")
    assert ids.tolist() == RANKING


def test_more_queries_than_marks_in_the_table() -> None:
    rng = np.random.default_rng(0)
    ids = np.stack([rng.permutation(9) for _ in range(300)])
    positives = [rng.choice(9, 2, replace=False) for _ in range(300)]
    want = [
        np.mean([(n + 1) / (r + 1) for n, r in enumerate(np.flatnonzero(np.isin(row, good)))])
        for row, good in zip(ids, positives, strict=True)
    ]
    assert metrics.rectangle_ap(ids, positives).ap == pytest.approx(want)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([[0, 1], [2, 2]], r"name a row twice .* in 1 queries: 1"),
        ([[0, 1], [-1, 2]], r"behind the end mark -1 .* in 1 queries: 1"),
        ([[0, 4], [1, 5]], r"outside the database .*4 rows.* in 2 queries: 0, 1"),
        ([[0, -2], [1, 2]], r"outside the database .* in 1 queries: 0"),
        ([[0, 1]], r"ids hold 1 queries and the ground truth \(ok\) 2"),
        ([0, 1], r"shape \(2,\)"),
        ([[0.0, 1.0], [0.0, 1.0]], "integers"),
        (np.empty((0, 4), int), "query set is empty"),
    ],
)
def test_bad_rankings_are_refused(ids: object, said: str) -> None:
    with pytest.raises(ArrayError, match=said):
        metrics.revisited(np.asarray(ids), [{"ok": [0]}, {"ok": [1]}], "plain", database_size=4)


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ({"ok": [0, 0]}, "judges a row twice in 1 queries: 0"),
        ({"ok": [0], "junk": [0]}, "judges a row twice in 1 queries: 0"),
        ({"ok": [9]}, "rows outside the 4 images in 1 queries: 0"),
        ({"ok": [-1]}, "rows outside the 4 images"),
        ({"ok": [0.5]}, "ok rows are not integers in 1 queries: 0"),
    ],
)
def test_bad_ground_truth_is_refused(truth: dict[str, list[int]], said: str) -> None:
    with pytest.raises(ArrayError, match=said):
        metrics.revisited([[0, 1]], [truth], "plain", database_size=4)


def test_a_fault_names_only_the_first_queries() -> None:
    with pytest.raises(ArrayError, match=r"in 9 queries: 0, 1, 2, 3, 4, \.\.\.$"):
        metrics.rectangle_ap([[0, 0]] * 9, [[0]] * 9)


def test_absurd_ids_do_not_allocate() -> None:
    with pytest.raises(ArrayError, match="up to 2147483648 rows"):
        metrics.rectangle_ap([[2**60]], [[0]])


def test_unknown_protocol_label_and_rank() -> None:
    with pytest.raises(UsageError, match=r"no protocol 'E': choose among easy, medium, hard, plain"):
        metrics.revisited([[0]], [{"ok": [0]}], "E")
    with pytest.raises(UsageError, match=r"'easy' needs 'easy' rows, and query 0 .* \['ok'\]"):
        metrics.revisited([[0]], [{"ok": [0]}], "easy")
    with pytest.raises(UsageError, match="ranks start at 1"):
        metrics.recall_at([[0]], [[0]], (0,))
    with pytest.raises(UsageError, match="ranks start at 1"):
        metrics.mean_average_precision_at([[0]], [[0]], 0)
