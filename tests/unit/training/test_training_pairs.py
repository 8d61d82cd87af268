import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.training.similarity.pairs import Pairs, pairs_from_groups, split, triplets


def told(pairs):
    return set(zip(pairs.left.tolist(), pairs.right.tolist(), pairs.matching.tolist(), strict=True))


def test_pairs_of_groups():
    groups = np.array([7, -1, 7, 3, 7, 3, 5])
    pairs = pairs_from_groups(groups, others=50)
    matching = {(left, right) for left, right, match in told(pairs) if match}
    assert matching == {(a, b) for group in ([0, 2, 4], [3, 5]) for a in group for b in group if a != b}
    other = {(left, right) for left, right, match in told(pairs) if not match}
    assert other <= {(a, b) for a in range(7) for b in range(7) if groups[a] != groups[b] and a != 1}
    assert {right for _, right in other} == set(range(7))
    assert len(told(pairs)) == len(pairs)


def test_few_partners_are_taken_evenly():
    pairs = pairs_from_groups(np.zeros(9, int), partners=3, others=4, seed=1)
    assert len(pairs) == len(told(pairs)) == 27
    assert pairs.matching.all()  # no photo of another group
    assert np.bincount(pairs.left).tolist() == np.bincount(pairs.right).tolist() == [3] * 9


def test_the_seed_decides():
    groups = np.arange(40) // 4
    one, same, other = (pairs_from_groups(groups, others=3, seed=seed) for seed in (1, 1, 2))
    assert told(one) == told(same) != told(other)


def test_bad_pairs_are_refused():
    with pytest.raises(ArrayError, match="pair 1 joins row 2 with itself"):
        Pairs([0, 2], [1, 2], [True, False])
    with pytest.raises(ArrayError, match="row -1"):
        Pairs([0], [-1], [True])
    with pytest.raises(ArrayError, match=r"Pairs\.right"):
        Pairs([0, 1], [1], [True, False])
    with pytest.raises(ArrayError, match="row 9, but there are descriptors for rows 0 to 4"):
        Pairs([0, 1], [9, 2], [True, False]).check(5)


@pytest.mark.parametrize("matching", [[False, False], [True, True]])
def test_pairs_of_one_kind_cannot_train(matching):
    with pytest.raises(UsageError, match="cannot train a similarity"):
        Pairs([0, 1], [2, 3], matching).check(4)
    with pytest.raises(UsageError, match="cannot train a similarity"):
        split(Pairs([0, 1], [2, 3], matching))
    with pytest.raises(UsageError, match="0 matching and 0 non-matching"):
        Pairs([], [], []).check(4)


def test_negative_numbers_are_refused():
    with pytest.raises(UsageError, match="others=-1"):
        pairs_from_groups([0, 0, 1], others=-1)
    assert not len(pairs_from_groups([]))


def test_both_ways():
    pairs = Pairs([0, 1], [2, 3], [True, False])
    assert told(pairs.both_ways()) == {(0, 2, True), (2, 0, True), (1, 3, False), (3, 1, False)}


def test_no_photo_is_on_both_sides_of_a_split():
    groups = np.arange(60) // 3
    pairs = pairs_from_groups(groups, others=6)
    train, held = split(pairs, 0.25, seed=5)
    rows = [set(part.left.tolist()) | set(part.right.tolist()) for part in (train, held)]
    assert not rows[0] & rows[1]
    assert len(rows[1]) == 15
    for part in (train, held):
        assert told(part) <= told(pairs)
        assert 0 < part.matching.sum() < len(part)
    assert told(split(pairs, 0.25, seed=5)[1]) == told(held) != told(split(pairs, 0.25, seed=6)[1])


def test_a_split_of_too_few_groups_says_so():
    with pytest.raises(UsageError, match=r"too few pairs: .* of 1 groups"):
        split(pairs_from_groups(np.array([0, 0, 1, 2, 3])))
    with pytest.raises(UsageError, match=r"share=1"):
        split(pairs_from_groups(np.arange(20) // 2), 1)


def test_triplets():
    pairs = Pairs([0, 0, 0, 1, 5], [1, 2, 3, 0, 6], [True, False, False, True, True])
    made = triplets(pairs, per=4)
    assert len(made) == 4  # photos 1 and 5 are left of no other pair
    assert set(map(tuple, made.tolist())) <= {(0, 1, 2), (0, 1, 3)}
    with pytest.raises(UsageError, match="triplets need both"):
        triplets(pairs.select([0, 3]))
    with pytest.raises(UsageError, match="per=0"):
        triplets(pairs, per=0)
