"""ASMK written as plain loops over the formulas, and the numbers of the authors' program."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from resight.index.asmk import Asmk, Codebook, aggregate
from resight.index.binarisation import pack

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


def turned(codebook, total):
    return total if codebook.rotation is None else total @ codebook.rotation.astype(np.float64)


def similarity(codebook, binary, asymmetric, query, image):
    if not binary:
        return float(query @ image) / ((np.linalg.norm(query) + 1e-6) * (np.linalg.norm(image) + 1e-6))
    query, image = turned(codebook, query), turned(codebook, image)
    if not asymmetric:
        length = 32 * math.ceil(len(query) / 32)
        return 1 - 2 * sum((x > 0) != (y > 0) for x, y in zip(query, image, strict=True)) / length
    # Levels of 1/3, 1, 5/3, 7/3 root mean squares, the nearest to every dimension, times signs.
    scale = math.sqrt(float(query @ query) / len(query))
    total = 0
    for x, y in zip(query, image, strict=True):
        level = min((1 / 3, 1, 5 / 3, 7 / 3), key=lambda value: abs(value - abs(x) / scale))
        total += math.copysign(level, x) * (1 if y > 0 else -1)
    return total / len(query)


def slow_scores(codebook, images, queries, *, binary, asymmetric, alpha, tau, idf, query_multiple):
    database = [residuals(codebook, image, 1) for image in images]
    frequency = [sum(word in image for image in database) for word in range(len(codebook))]
    weight = [math.log(len(images) / n) ** 2 if idf and n else 1.0 for n in frequency]
    scores = np.zeros((len(queries), len(images)))
    for i, query in enumerate(queries):
        q = residuals(codebook, query, query_multiple)
        for j, d in enumerate(database):
            for word in q.keys() & d.keys():
                u = similarity(codebook, binary, asymmetric, q[word], d[word])
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


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("idf", [False, True])
@pytest.mark.parametrize(
    ("binary", "asymmetric", "dim", "alpha", "tau", "query_multiple"),
    [
        (True, False, 128, 3.0, 0.0, 5),
        (True, False, 40, 3.0, 0.25, 1),
        (True, False, 24, 1.0, -1.0, 2),
        (True, True, 128, 3.0, 0.0, 5),
        (True, True, 40, 2.5, 0.21, 1),
        (True, True, 100, 1.0, -1.0, 2),
        (False, False, 40, 3.0, 0.0, 3),
        (False, False, 24, 2.5, 0.1, 1),
        (False, False, 24, 3.0, -0.5, 2),
    ],
)
def test_against_plain_loops(rotated, idf, binary, asymmetric, dim, alpha, tau, query_multiple):
    codebook, images, queries = world(dim, 10, dim)
    if rotated:
        codebook = codebook.with_rotation(np.vstack(images), np.random.default_rng(1))
    options = {"binary": binary, "asymmetric": asymmetric, "alpha": alpha, "tau": tau, "idf": idf}
    options["query_multiple"] = query_multiple
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
