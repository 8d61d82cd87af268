"""What must hold for every ranking and every ground truth."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from resight.evaluation import metrics

relaxed = settings(deadline=None, max_examples=60)  # the first example compiles


@st.composite
def cases(draw):
    """(ids (Q, rows), ground truth, rows): full rankings with easy, hard and junk rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, queries = draw(st.integers(2, 30)), draw(st.integers(1, 4))
    ids = np.stack([rng.permutation(rows) for _ in range(queries)])
    labels = rng.integers(0, 4, (queries, rows))
    truth = [{n: np.flatnonzero(row == i) for i, n in enumerate(("easy", "hard", "junk"))} for row in labels]
    return ids, truth, rows


def ap(ids, truth, protocol="medium"):
    return metrics.revisited(ids, truth, protocol).ap


@relaxed
@given(cases(), st.integers(0, 2**32 - 1))
def test_renaming_the_rows_changes_nothing(case, seed):
    ids, truth, rows = case
    new = np.random.default_rng(seed).permutation(rows)
    renamed = [{label: new[r] for label, r in t.items()} for t in truth]
    np.testing.assert_array_equal(ap(new[ids], renamed), ap(ids, truth))


@relaxed
@given(cases())
def test_scores_lie_between_zero_and_one(case):
    ids, truth, _ = case
    for scores in metrics.revisited_protocols(ids, truth).values():
        values = np.concatenate([scores.ap[:, None], scores.p_at], axis=1)
        assert np.isnan(values[np.isnan(scores.ap)]).all()
        valid = values[~np.isnan(scores.ap)]
        assert ((valid >= 0) & (valid <= 1 + 1e-12)).all()


@relaxed
@given(cases())
def test_positives_first_is_perfect(case):
    ids, truth, rows = case
    best = np.stack([np.argsort(~np.isin(np.arange(rows), [*t["easy"], *t["hard"]]), kind="stable") for t in truth])
    got = ap(best, truth)
    np.testing.assert_allclose(got[~np.isnan(got)], 1)
    assert (np.nan_to_num(ap(ids, truth)) <= np.nan_to_num(got) + 1e-12).all()


@relaxed
@given(cases(), st.integers(0, 28))
def test_moving_a_positive_one_place_up_never_hurts(case, place):
    ids, truth, rows = case
    assume(place < rows - 1)
    swapped = ids.copy()
    for row, t in zip(swapped, truth, strict=True):
        positives = [*t["easy"], *t["hard"]]
        if row[place + 1] in positives and row[place] not in positives:
            row[[place, place + 1]] = row[[place + 1, place]]
    assert (np.nan_to_num(ap(swapped, truth)) >= np.nan_to_num(ap(ids, truth)) - 1e-12).all()


@relaxed
@given(cases())
def test_junk_anywhere_is_as_if_it_were_not_there(case):
    ids, truth, rows = case
    without = np.full((len(ids), rows), -1)
    for kept, row, t in zip(without, ids, truth, strict=True):
        clean = row[~np.isin(row, t["junk"])]
        kept[: len(clean)] = clean
    np.testing.assert_array_equal(ap(without, truth), ap(ids, truth))


@relaxed
@given(cases(), st.integers(1, 30))
def test_cutting_a_list_loses_score_and_padding_changes_nothing(case, k):
    ids, truth, rows = case
    cut = ids[:, :k]
    assert (np.nan_to_num(ap(cut, truth)) <= np.nan_to_num(ap(ids, truth)) + 1e-12).all()
    padded = np.full((len(ids), rows + 3), -1)
    padded[:, : cut.shape[1]] = cut
    np.testing.assert_array_equal(ap(padded, truth), ap(cut, truth))


@relaxed
@given(cases())
def test_distractors_behind_the_list_change_nothing(case):
    ids, truth, rows = case
    longer = np.concatenate([ids, np.tile(np.arange(rows, rows + 5), (len(ids), 1))], axis=1)
    np.testing.assert_array_equal(ap(longer, truth), ap(ids, truth))


@relaxed
@given(cases())
def test_map_at_the_full_depth_is_rectangle_ap(case):
    ids, truth, rows = case
    positives = [t["easy"] for t in truth]
    np.testing.assert_array_equal(
        metrics.mean_average_precision_at(ids, positives, rows).ap, metrics.rectangle_ap(ids, positives).ap
    )
