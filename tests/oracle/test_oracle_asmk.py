"""ASMK written as plain loops over the formulas, and the numbers of the authors' program."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from resight.index.aggregation import pack
from resight.index.asmk import Asmk, Codebook, aggregate

REFERENCE = Path(__file__).parents[2] / "../shared/reference/asmk.npz"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason=f"no reference numbers at {REFERENCE}")


def residuals(codebook, descriptors, multiple):
    """{word: summed residual} of one image."""
    sums = {}
    for x in descriptors.astype(np.float64):
        distances = [float(((x - c) ** 2).sum()) for c in codebook.centroids]
        for word in sorted(range(len(distances)), key=distances.__getitem__)[:multiple]:
            sums[word] = sums.get(word, 0) + x - codebook.centroids[word]
    return sums


def bits(codebook, word, total):
    turned = total if codebook.rotation is None else total @ codebook.rotation.astype(np.float64)
    thresholds = np.zeros(len(total)) if codebook.medians is None else codebook.medians[word]
    return [value > threshold for value, threshold in zip(turned, thresholds, strict=True)]


def similarity(codebook, binary, word, a, b):
    if not binary:
        return float(a @ b) / ((np.linalg.norm(a) + 1e-6) * (np.linalg.norm(b) + 1e-6))
    length = 32 * math.ceil(len(a) / 32)
    pairs = zip(bits(codebook, word, a), bits(codebook, word, b), strict=True)
    return 1 - 2 * sum(x != y for x, y in pairs) / length


def slow_scores(codebook, images, queries, *, binary, alpha, tau, idf, query_multiple):
    database = [residuals(codebook, image, 1) for image in images]
    frequency = [sum(word in image for image in database) for word in range(len(codebook))]
    weight = [math.log(len(images) / n) ** 2 if idf and n else 1.0 for n in frequency]
    scores = np.zeros((len(queries), len(images)))
    for i, query in enumerate(queries):
        q = residuals(codebook, query, query_multiple)
        for j, d in enumerate(database):
            for word in q.keys() & d.keys():
                u = similarity(codebook, binary, word, q[word], d[word])
                scores[i, j] += weight[word] * (u**alpha if u >= tau else 0)
            scores[i, j] /= math.sqrt(sum(weight[w] for w in q)) * math.sqrt(sum(weight[w] for w in d))
    return scores


def world(dim, words, seed):
    rng = np.random.default_rng(seed)
    centroids = rng.standard_normal((words, dim))
    images = [rng.standard_normal((rng.integers(5, 25), dim)) for _ in range(12)]
    queries = [images[j] + 0.3 * rng.standard_normal(images[j].shape) for j in (0, 4, 7)]
    return Codebook(centroids), images, queries


def stacked(images):
    return np.repeat(np.arange(len(images)), [len(image) for image in images]), np.vstack(images)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("idf", [False, True])
@pytest.mark.parametrize(
    ("binary", "dim", "alpha", "tau", "query_multiple"),
    [
        (True, 128, 3.0, 0.0, 5),
        (True, 40, 3.0, 0.25, 1),
        (True, 24, 1.0, -1.0, 2),
        (False, 40, 3.0, 0.0, 3),
        (False, 24, 2.5, 0.1, 1),
        (False, 24, 3.0, -0.5, 2),
    ],
)
def test_against_plain_loops(turned, idf, binary, dim, alpha, tau, query_multiple):
    codebook, images, queries = world(dim, 10, dim)
    if turned:
        # Medians of other descriptors: a residual that is its own median lies on the threshold.
        codebook = codebook.with_rotation(world(dim, 10, 99)[1][0], np.random.default_rng(1))
    options = {"binary": binary, "alpha": alpha, "tau": tau, "idf": idf, "query_multiple": query_multiple}
    index = Asmk(codebook, **options)
    index.add(*stacked(images))
    expected = slow_scores(codebook, images, queries, **options)
    np.testing.assert_allclose(index.scores(*stacked(queries)), expected, atol=1e-6)
    assert np.ptp(expected) > 0.05


def reference_cases():
    if not REFERENCE.exists():
        return []
    with np.load(REFERENCE, allow_pickle=False) as file:
        return [name for name in file.files if name.startswith("scores_")]


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@needs_reference
@pytest.mark.parametrize("case", reference_cases())
def test_reference_scores(reference, case):
    found = re.fullmatch(r"scores_bin(\d)_idf(\d)_ma(\d+)_alpha([\d.]+)_tau([\d.-]+)", case)
    binary, idf, multiple, alpha, tau = found.groups()
    options = {"binary": binary == "1", "idf": idf == "1", "query_multiple": int(multiple)}
    index = Asmk(Codebook(reference["centroids"]), alpha=float(alpha), tau=float(tau), **options)
    index.add(reference["imids"], reference["vecs"])
    np.testing.assert_allclose(index.scores(reference["qimids"], reference["qvecs"]), reference[case], atol=1e-6)


@needs_reference
@pytest.mark.parametrize("binary", [True, False])
def test_reference_aggregates(reference, binary):
    codebook = Codebook(reference["centroids"])
    kind = "bin" if binary else "nobin"
    first = reference["imids"] == reference["imids"][0]
    vectors = reference["vecs"][first]
    got = aggregate(codebook, reference["imids"][first], codebook.assign(vectors), vectors, binary=binary)
    np.testing.assert_array_equal(got.words, reference[f"agg_{kind}_words"])
    expected = reference[f"agg_{kind}_des"]
    if binary:
        np.testing.assert_array_equal(as_uint32(got.values, codebook.dim), expected)
    else:
        np.testing.assert_allclose(got.values, expected, atol=1e-6)


@needs_reference
def test_reference_bits_and_distances(reference):
    packed = pack(reference["ham_in"] > 0)
    np.testing.assert_array_equal(as_uint32(packed, reference["ham_in"].shape[1]), reference["ham_packed"])
    length = 32 * reference["ham_packed"].shape[1]
    distances = np.bitwise_count(packed[:, None] ^ packed[None]).sum(axis=2) / length
    np.testing.assert_allclose(distances, reference["ham_dist"], atol=1e-6)


def as_uint32(signatures, dim):
    return signatures.astype(">u8").view(">u4").astype(np.uint32)[:, : -(-dim // 32)]
