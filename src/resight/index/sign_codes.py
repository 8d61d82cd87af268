"""Inverted lists of one bit a dimension: vectors as RaBitQ codes, in memory, over the faiss library.

The codes only choose candidates; what is returned is scored again from the vectors. A code takes D / 8 + 16 bytes with
its row number.

Paper: Gao and Long, "RaBitQ: quantizing high-dimensional vectors with a theoretical error bound for approximate nearest
neighbor search", SIGMOD 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from resight.index.exact import keep_best
from resight.index.half_precision import widen
from resight.index.inverted_lists import FILTERED_SHARE, SAMPLE
from resight.types import Float32, Int64

BLOCK = 8192
QUERY_BITS = 8  # that a query is rounded to: bit operations instead of sums, and the candidates stay the same
PARAMETERS: Any = faiss.IVFRaBitQSearchParameters  # faiss's own types lack its keywords
REFINING = 48  # what scoring one vector again costs, in codes scanned
MOST_REFINED = 16  # times k, of candidates that an effort may ask for
PROBES = 1.3  # step of the numbers of lists that are tried


@dataclass(frozen=True)
class CodedEffort:
    """How many lists a search scans and how many candidates it scores again, and the recall after that.

    `probes`, `refined`, `recall`: without a filter; `filtered_...`: with a random tenth of the rows allowed.
    `measured_on`: vectors in the index at that time.
    """

    probes: int
    refined: int
    recall: float
    filtered_probes: int
    filtered_refined: int
    filtered_recall: float
    measured_on: int


def lists_of(count: int) -> int:
    """Number of lists for so many vectors: the square root. Codes are scanned ten times as fast as vectors, so lists
    are longer than those of vectors, and their centroids take little of the memory."""
    return max(1, int(count**0.5))


def empty_codes(centroids: Float32) -> Any:
    """faiss's inverted lists of codes, without any, around `centroids` (L, D)."""
    count, dim = centroids.shape
    quantizer: Any = faiss.IndexFlatIP(dim)
    quantizer.add(np.ascontiguousarray(centroids))
    codes: Any = faiss.IndexIVFRaBitQ(quantizer, dim, count, faiss.METRIC_INNER_PRODUCT)
    codes.own_fields = True  # Python would free the centroids
    quantizer.this.disown()
    codes.is_trained = True  # the centroids are all there is to learn
    return codes


def packed(codes: Any) -> Any:
    """The same with lists of no spare room: faiss grows them by doubling. Peak memory: the codes twice."""
    inside: Any = faiss.ArrayInvertedLists(codes.nlist, codes.code_size)
    for number in range(codes.nlist):
        size = codes.invlists.list_size(number)
        inside.resize(number, size)
        if size:
            ids, data = codes.invlists.get_ids(number), codes.invlists.get_codes(number)
            inside.update_entries(number, 0, size, ids, data)
    codes.replace_invlists(inside, True)
    inside.this.disown()
    return codes


def read_codes(codes: Any) -> tuple[Int64, Int64, NDArray[np.uint8]]:
    """Sizes (L,) of all lists, and the ids (N,) and codes (N, B) in them."""
    sizes = np.array([codes.invlists.list_size(number) for number in range(codes.nlist)], np.int64)
    ids, data = np.empty(sizes.sum(), np.int64), np.empty((sizes.sum(), codes.code_size), np.uint8)
    ends = np.cumsum(sizes)
    for number in np.flatnonzero(sizes).tolist():
        span, size = slice(ends[number] - sizes[number], ends[number]), int(sizes[number])
        ids[span] = faiss.rev_swig_ptr(codes.invlists.get_ids(number), size)
        data[span] = faiss.rev_swig_ptr(codes.invlists.get_codes(number), size * codes.code_size).reshape(size, -1)
    return sizes, ids, data


def write_codes(codes: Any, sizes: Int64, ids: Int64, data: NDArray[np.uint8]) -> None:
    """Fill empty lists with what `read_codes` gave."""
    ends = np.cumsum(sizes)
    for number in np.flatnonzero(sizes).tolist():
        size, first = int(sizes[number]), int(ends[number] - sizes[number])
        codes.invlists.resize(number, size)
        part, rows = np.ascontiguousarray(data[first : first + size]), ids[first : first + size].copy()
        codes.invlists.update_entries(number, 0, size, faiss.swig_ptr(rows), faiss.swig_ptr(part))
    codes.ntotal = int(sizes.sum())


def candidates(codes: Any, queries: Float32, count: int, probes: int, chosen: Any = None) -> Int64:
    """Ids (Q, count) of the vectors whose codes promise most, best first, -1 behind the last; `chosen`: a selector."""
    parameters = PARAMETERS(nprobe=min(probes, codes.nlist), sel=chosen, qb=QUERY_BITS)
    found: Int64 = codes.search(queries, count, params=parameters)[1]
    return found


def measure_effort(
    codes: Any, vectors: NDArray[np.float16], places: Int64, k: int, recall: float, seed: int
) -> CodedEffort:
    """The cheapest effort that gives a sample of the `vectors` (N, D), of which `places` (n,) are indexed, `recall` of
    its `k` nearest neighbours. A vector is not its own neighbour. Costs one product of the sample and all vectors."""
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(places, min(SAMPLE, len(places)), replace=False))
    points = vectors[sample].astype(np.float32)
    tenth = np.sort(rng.choice(places, max(1, int(FILTERED_SHARE * len(places))), replace=False))
    width = min(k, len(places) - 1)
    efforts = []
    for some, selector in ((places, None), (tenth, faiss.IDSelectorBatch(tenth))):
        near = _exact_neighbours(points, sample, vectors, some, width)
        efforts.append(_cheapest(codes, points, near, k, recall, selector, len(places)))
    return CodedEffort(*efforts[0], *efforts[1], len(places))


def _cheapest(
    codes: Any, points: Float32, near: Int64, k: int, recall: float, selector: Any, count: int
) -> tuple[int, int, float]:
    """Lists to scan, candidates to score again, and the recall of both."""
    wanted = int(np.ceil(recall * (near >= 0).sum()))
    best, cost, probes = None, np.inf, 1
    share = 1.0 if selector is None else FILTERED_SHARE
    while probes <= codes.nlist:
        scanned = share * probes * count / codes.nlist
        if best is not None and scanned + REFINING * k >= cost:
            break
        ranks = np.sort(_ranks(candidates(codes, points, MOST_REFINED * k, probes, selector), near))
        if ranks[wanted - 1] < MOST_REFINED * k:
            refined = max(int(ranks[wanted - 1]) + 1, k)
            if scanned + REFINING * refined < cost:
                best, cost = (probes, refined, float((ranks < refined).mean())), scanned + REFINING * refined
        if probes == codes.nlist and best is None:
            refined = MOST_REFINED * k
            return probes, refined, float((ranks < refined).mean())
        probes = max(probes + 1, min(int(PROBES * probes), codes.nlist))
    assert best is not None
    return best


def _ranks(found: Int64, near: Int64) -> Int64:
    """Places of the entries `near` (S, k) >= 0 in the lists `found` (S, m), m where they are not, flat."""
    ranks = []
    for row, wanted in zip(found, near, strict=True):
        order = np.argsort(row)
        at = np.minimum(np.searchsorted(row[order], wanted[wanted >= 0]), len(row) - 1)
        ranks.append(np.where(row[order][at] == wanted[wanted >= 0], order[at], len(row)))
    return np.concatenate(ranks)


def _exact_neighbours(points: Float32, own: Int64, vectors: NDArray[np.float16], some: Int64, k: int) -> Int64:
    """The `k` nearest of `vectors` at `some` places (n,) of each of `points` (S, D), itself excluded, -1 padded."""
    scores = np.full((len(points), k), -np.inf, np.float32)
    heaps = np.full((len(points), k), -1, np.int64)
    wide = np.empty((BLOCK, vectors.shape[1]), np.float32)
    for start in range(0, len(some), BLOCK):
        part = some[start : start + BLOCK]
        block = widen(vectors[part].view(np.uint16), wide[: len(part)])
        found = block @ points.T
        found[part[:, None] == own] = -np.inf
        keep_best(found, start, 0, scores, heaps)
    return np.where(heaps < 0, -1, some[heaps])
