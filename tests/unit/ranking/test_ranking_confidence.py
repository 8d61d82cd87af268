from __future__ import annotations

import itertools

import numpy as np
import pytest

from resight.index.asmk import Asmk, Codebook
from resight.ranking.confidence import (
    LEAST_THRESHOLD,
    MOST_THRESHOLD,
    THINGS,
    UNKNOWN,
    Confidence,
    calibrate,
    calibrate_vectors,
)
from resight.ranking.search import stack
from resight.ranking.verification import Verifier
from resight.types import LocalFeatures

DIM = 16


def image(rng, n=60):
    descriptors = rng.normal(size=(n, DIM)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return LocalFeatures(rng.uniform(0, 300, (n, 2)), np.full(n, 2.0), np.zeros(n), np.ones(n), descriptors)


def twin(features, shift=9.0):
    return LocalFeatures(
        features.xy + np.float32(shift), features.scale, features.angle, features.strength, features.descriptors
    )


def joined(a, b):
    return LocalFeatures(*(np.concatenate((getattr(a, name), getattr(b, name)))
                           for name in ("xy", "scale", "angle", "strength", "descriptors")))  # fmt: skip


def calibrated(rows, **options):
    codebook = Codebook.fit(np.concatenate([f.descriptors for f in rows]), 32)
    index = Asmk(codebook, query_multiple=2)
    index.add(*stack(tuple(rows), DIM))
    return calibrate(index, Verifier(lambda asked: [rows[row] for row in asked]), **options)


def test_standardise_counts_standard_deviations():
    assert Confidence(2.0, 0.5, 24.0, 9).standardise(np.array([2.0, 3.0])).tolist() == [0, 2]
    assert UNKNOWN.standardise(1.5) == 1.5


def test_unrelated_photos_set_the_scale():
    rng = np.random.default_rng(0)
    rows = [image(rng) for _ in range(20)]
    learnt = calibrated(rows)
    assert learnt.pairs == 20 * 19
    assert learnt.threshold >= LEAST_THRESHOLD
    index = Asmk(Codebook.fit(np.concatenate([f.descriptors for f in rows]), 32), query_multiple=2)
    index.add(*stack(tuple(rows), DIM))
    scores = index.scores(*stack(tuple(rows), DIM))
    others = scores[~np.eye(20, dtype=bool)]
    assert learnt.location == pytest.approx(np.median(others), rel=1e-4)
    assert learnt.scale == pytest.approx(1.4826 * np.median(np.abs(others - np.median(others))), rel=1e-3)


def test_planted_copies_do_not_move_the_scale():
    rng = np.random.default_rng(1)
    rows = [image(rng) for _ in range(16)]
    alone = calibrated(rows)
    doubled = calibrated([*rows, *(twin(features) for features in rows)])
    assert doubled.pairs == 32 * 31 - 32
    assert doubled.location == pytest.approx(alone.location, abs=3 * alone.scale)
    assert doubled.scale < 2 * alone.scale
    assert doubled.threshold < 1.5 * alone.threshold


def test_copies_pass_the_threshold_and_strangers_do_not():
    rng = np.random.default_rng(2)
    rows = [image(rng) for _ in range(20)]
    rows.append(twin(rows[0]))
    learnt = calibrated(rows)
    index = Asmk(Codebook.fit(np.concatenate([f.descriptors for f in rows]), 32), query_multiple=2)
    index.add(*stack(tuple(rows), DIM))
    from resight.ranking.verification import evidence

    verifier = Verifier(lambda asked: [rows[row] for row in asked])
    proofs = verifier(rows[0], range(1, 21))
    scores = learnt.standardise(index.scores(*stack((rows[0],), DIM))[0, 1:]) + [evidence(proof) for proof in proofs]
    assert scores[-1] > learnt.threshold
    assert (scores[:-1] < learnt.threshold).all()


def test_few_photos_ask_for_geometry():
    rng = np.random.default_rng(3)
    alone = calibrated([image(rng)])
    assert (alone.threshold, alone.pairs, alone.photos) == (UNKNOWN.threshold, 0, 1)
    few = calibrated([image(rng) for _ in range(3)])
    assert (few.threshold, few.pairs, few.location) == (LEAST_THRESHOLD, 6, 0.0)
    assert few.scale > 0


@pytest.mark.parametrize("count", [1, 2, 6, 11, 12, 25])
def test_the_threshold_is_between_what_geometry_asks_and_what_it_gives(count):
    rng = np.random.default_rng(count)
    learnt = calibrated([image(rng) for _ in range(count)])
    assert LEAST_THRESHOLD <= learnt.threshold <= MOST_THRESHOLD
    assert (learnt.location > 0) == (count >= THINGS)


@pytest.mark.parametrize("count", [4, 40, 80])
def test_copies_alone_leave_the_least_threshold(count):
    first = image(np.random.default_rng(6))
    learnt = calibrated([twin(first, shift) for shift in range(count)])
    assert (learnt.threshold, learnt.location, learnt.pairs) == (LEAST_THRESHOLD, 0.0, 0)


def test_many_copies_of_one_photo_among_others_do_not_move_the_scale():
    rng = np.random.default_rng(7)
    others = [image(rng) for _ in range(20)]
    alone = calibrated(others)
    crowded = calibrated([*others, *(twin(others[0], shift) for shift in range(60))])
    assert crowded.location < 2 * alone.location + alone.scale
    assert crowded.scale < 3 * alone.scale


def test_photos_related_through_others_count_as_related():
    rng = np.random.default_rng(8)
    parts = [image(rng, 40) for _ in range(15)]
    chain = [joined(a, b) for a, b in itertools.pairwise(parts)]  # each shares its half with the next one alone
    assert calibrated(chain).pairs == 0


def test_an_extreme_tail_does_not_ask_for_more_than_a_proof_gives():
    rng = np.random.default_rng(9)
    rows = [image(rng) for _ in range(20)]
    lifted = calibrated(rows, bonus=lambda queries, every: rng.exponential(40, (len(queries), len(every))))
    assert lifted.threshold == MOST_THRESHOLD


def test_photos_that_share_nothing():
    rng = np.random.default_rng(5)
    words = np.eye(DIM, dtype=np.float32)
    index = Asmk(Codebook(words), binary=False, query_multiple=1)
    none = np.zeros(1)
    rows = [LocalFeatures(rng.uniform(0, 9, (1, 2)), none + 1, none, none, words[[k]]) for k in range(8)]
    index.add(*stack(tuple(rows), DIM))
    learnt = calibrate(index, Verifier(lambda asked: [rows[row] for row in asked]))
    assert (learnt.location, learnt.scale) == (0.0, 1.0)


def test_it_is_learnt_anew_when_a_tenth_of_the_photos_changed_or_the_codebook():
    known = Confidence(0.0, 1.0, 24.0, 100, photos=100, made_from="words")
    assert known.fits(100, "words")
    assert known.fits(110, "words")
    assert known.fits(90, "words")
    assert not known.fits(111, "words")
    assert not known.fits(89, "words")
    assert not known.fits(100, "other words")


def test_vectors_know_what_chance_looks_like():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(600, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    learnt = calibrate_vectors(vectors, "net")
    cosines = (vectors @ vectors.T)[np.triu_indices(600, 1)]
    assert (learnt.photos, learnt.made_from) == (600, "net")
    assert abs(learnt.location - np.median(cosines)) < 0.01
    assert abs(learnt.scale - cosines.std()) < 0.01
    passing = (learnt.standardise(cosines) > learnt.threshold).mean()
    assert passing < 1e-3
    assert learnt.threshold < learnt.standardise(0.95)
    assert calibrate_vectors(vectors[:5]).pairs == 0


def test_what_else_counts_moves_only_the_threshold():
    rng = np.random.default_rng(4)
    rows = [image(rng) for _ in range(30)]
    plain = calibrated(rows)
    lifted = calibrated(rows, bonus=lambda queries, every: np.full((len(queries), len(every)), 50, np.float32))
    assert (lifted.location, lifted.scale) == (plain.location, plain.scale)
    assert lifted.threshold > plain.threshold + 20


def test_the_same_seed_gives_the_same_numbers():
    rows = [image(np.random.default_rng(seed)) for seed in range(40)]
    first, second, other = calibrated(rows), calibrated(rows), calibrated(rows, seed=1)
    assert first == second
    assert first != other
