"""ASMK at a million photos: bytes a posting, time of a query, memory, against lists that are not compressed.

    python benchmarks/asmk_million.py COLLECTION.resight [--photos 1000000] [--postings 280] [--words 65536]

Postings are made up, with the statistics of real ones: the share of photos that hold a word is drawn, for each word,
from those of the words of COLLECTION (a collection of recipe `classic`), and the number of words of a photo from its
photos', scaled to a mean of `--postings`. Signatures are random bits. The first 65 536 photos are drawn so; further
segments have the same lists with other signatures, in files of their own. A query holds 1468 words, as 300 features
with five words each do, drawn by their frequency, so that it meets long lists as often as a real one. The lists lie in
`--folder` (3.7 GB for a million photos of 280 words with 96 bits) and are deleted at the end. Peak memory counts the
pages of the lists that were read.

The baseline is the kernel that went before: image numbers of two bytes, signatures of 64 bits each; it runs on the same
segment with the same query in the same run. Times are the least of `--repeat` runs; processor time counts all threads.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numba import njit

from resight.bits import popcount
from resight.collection.open import open_collection
from resight.index.asmk import Aggregated, Asmk, Codebook
from resight.index.asmk_kernels import score_binary
from resight.index.binarisation import PLANES, random_rotation
from resight.index.inverted import IMAGES_PER_SEGMENT, Segment
from resight.index.posting_codes import lanes_of

DIM, QUERY_WORDS, TOP = 128, 1468, 100
PUBLISHED = {"HOW": 7.9, "FIRe": 6.4}  # GB per million photos in their papers


@dataclass(frozen=True)
class Statistics:
    """Share of photos that hold each word, cumulated to 1, (W,), and numbers of words of photos, (n,)."""

    cumulated: Any
    sizes: Any


def statistics(path: str, words: int, postings: int, rng: np.random.Generator) -> Statistics:
    index = open_collection(path).snapshot.index
    if index is None:
        raise SystemExit(f"{path} holds no inverted file: index photos with recipe classic first")
    segments = index._snapshot.segments
    frequency = np.sum([segment.postings_per_word for segment in segments], axis=0)
    sizes = np.concatenate([segment.sizes[segment.alive] for segment in segments])
    drawn = rng.choice(frequency, words).astype(np.float64) + 1e-3
    spread = np.percentile(frequency, (5, 50, 95)) / len(sizes)
    print(f"{len(sizes)} photos, {len(frequency)} words; share of photos with a word: {np.round(spread, 3).tolist()} "
          f"(5, 50, 95 %); words of a photo: {sizes.mean():.0f} +- {sizes.std():.0f}")  # fmt: skip
    return Statistics(np.cumsum(drawn / drawn.sum()), np.maximum(sizes * (postings / sizes.mean()), 1))


def draw_words(statistics: Statistics, count: int, rng: np.random.Generator) -> Any:
    return np.minimum(np.searchsorted(statistics.cumulated, rng.random(count)), len(statistics.cumulated) - 1)


def made_up(statistics: Statistics, first: int, photos: int, bits: int, rng: np.random.Generator) -> Aggregated:
    """Photos `first` ... with random words and signatures."""
    sizes = rng.choice(statistics.sizes, photos).astype(np.int64)
    image = np.repeat(np.arange(photos), sizes)
    pairs = np.unique(image * len(statistics.cumulated) + draw_words(statistics, len(image), rng))
    rows, words = np.divmod(pairs, len(statistics.cumulated))
    return Aggregated(rows + first, words, signatures(len(rows), bits, 1, rng))


def signatures(count: int, bits: int, planes: int, rng: np.random.Generator) -> Any:
    width = -(-bits // 64)
    values = rng.integers(0, 1 << 63, (count, planes * width), np.uint64) << np.uint64(1)
    if bits % 64:
        values[:, width - 1 :: width] &= ~np.uint64((1 << (64 - bits % 64)) - 1)
    return values


def with_more(index: Asmk, first: int, photos: int, rng: np.random.Generator) -> Asmk:
    """The index with one more segment: the lists of its first, of which only some photos live, and other signatures."""
    one = index._snapshot.segments[0]
    values = one.values ^ rng.integers(0, 1 << 32, dtype=np.uint32)
    more = replace(one, rows=np.arange(first, first + len(one.rows)), values=values, file=None)
    index._set([*index._snapshot.segments, more if photos == len(one.rows) else more.without(more.rows[photos:])])
    return index


def query(statistics: Statistics, bits: int, rng: np.random.Generator) -> Aggregated:
    words = np.unique(draw_words(statistics, 4 * QUERY_WORDS, rng))
    words = np.sort(rng.choice(words, min(QUERY_WORDS, len(words)), replace=False))
    return Aggregated(np.zeros(len(words), np.int64), words, signatures(len(words), bits, PLANES, rng))


@njit(cache=True, nogil=True)
def score_plain(words: Any, values: Any, offsets: Any, images: Any, postings: Any, kernel: Any, scores: Any) -> None:
    """The kernel that went before, for one query without weights."""
    length = postings.shape[1]
    for i in range(len(words)):
        for p in range(offsets[words[i]], offsets[words[i] + 1]):
            distance = np.uint64(0)
            for plane in range(0, values.shape[1], length):
                distance += distance
                for s in range(length):
                    distance += popcount(values[i, plane + s] ^ postings[p, s])
            scores[0, images[p]] += kernel[distance]


def least(call: Callable[[], Any], repeat: int, clock: Callable[[], float]) -> float:
    """Milliseconds of the fastest of `repeat` calls."""
    call()
    times = []
    for _ in range(repeat):
        start = clock()
        call()
        times.append(clock() - start)
    return 1000 * min(times)


def against_plain(index: Asmk, asked: Aggregated, bits: int, repeat: int) -> tuple[float, float, int]:
    """Milliseconds of the kernel now and before on the largest segment, one thread, and the postings that they meet."""
    segment = max(index._snapshot.segments, key=len)
    now, before = np.zeros((1, len(segment.rows))), np.zeros((1, len(segment.rows)))
    table, weights = index.kernel.table(bits), np.ones(len(asked))
    lanes, starts = lanes_of(asked.values, bits, PLANES), np.array([0, len(asked)])
    theirs = (segment.offsets, segment.begins, segment.codes, segment.values, segment.width)
    ours = (starts, asked.words, lanes, weights)
    plain = (segment.offsets.astype(np.int64), segment.images(), plain_signatures(segment), table)
    new = least(lambda: score_binary(*ours, *theirs, table, PLANES, now), repeat, time.thread_time)
    old = least(lambda: score_plain(asked.words, asked.values, *plain, before), repeat, time.thread_time)
    if not np.array_equal(now, before):
        raise SystemExit("the two kernels do not agree: the timings mean nothing")
    return new, old, int(np.diff(plain[0])[asked.words].sum())


def plain_signatures(segment: Segment) -> Any:
    lanes = segment.plain_values().astype(np.uint64)
    lanes = np.pad(lanes, ((0, 0), (0, lanes.shape[1] % 2)))
    return lanes[:, 0::2] << np.uint64(32) | lanes[:, 1::2]


def run(statistics: Statistics, bits: int, options: argparse.Namespace, folder: Path) -> str:
    rng = np.random.default_rng(bits)
    centroids = rng.standard_normal((options.words, DIM), np.float32)
    codebook = Codebook(centroids, np.ascontiguousarray(random_rotation(DIM, rng)[:, :bits]))
    index, path, start = Asmk(codebook), folder / "asmk.safetensors", time.process_time()
    index.add_aggregated(made_up(statistics, 0, min(IMAGES_PER_SEGMENT, options.photos), bits, rng))
    for first in range(IMAGES_PER_SEGMENT, options.photos, IMAGES_PER_SEGMENT):
        index.save(path)
        index = with_more(index, first, min(IMAGES_PER_SEGMENT, options.photos - first), rng)
    index.save(path)
    made, start = time.process_time() - start, time.perf_counter()
    index = Asmk.load(path, codebook)
    opened = time.perf_counter() - start
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    asked = query(statistics, bits, rng)
    times = []
    for threads in (1, 2):
        with mock.patch("os.cpu_count", return_value=threads):
            times += [least(lambda: index.search_aggregated(asked, TOP), options.repeat, clock)
                      for clock in (time.perf_counter, time.process_time)]  # fmt: skip
    new, old, met = against_plain(index, asked, bits, options.repeat)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    cells = [
        bits, f"{size / index.postings:.2f}", f"{size / len(index) / 1000:.2f}", *(f"{each:.1f}" for each in times),
        f"{1e6 * new / met:.2f}", f"{1e6 * old / met:.2f}", f"{new / old:.2f}", f"{1000 * opened:.0f}", f"{made:.0f}",
        f"{peak:.1f}",
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description="bytes, time and memory of ASMK at a million photos")
    parser.add_argument("collection")
    for name, default in (("photos", 1_000_000), ("postings", 280), ("words", 65536), ("repeat", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--bits", type=int, nargs="+", default=[128, 96, 64])
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the lists lie meanwhile")
    options = parser.parse_args()
    found = statistics(options.collection, options.words, options.postings, np.random.default_rng(0))
    print(
        f"{options.photos} photos, {options.words} words, queries of {QUERY_WORDS} words; load {os.getloadavg()[0]:.0f}"
    )
    names = ("bits", "bytes a posting", "GB a million photos", "1 thread, ms", "processor, ms", "2 threads, ms",
             "processor, ms", "kernel, ns a posting", "before", "ratio", "opening, ms", "making, processor s",
             "peak, GB")  # fmt: skip
    print(f"| {' | '.join(names)} |")
    print("|--:" * 13 + "|")
    for bits in options.bits:
        folder = Path(tempfile.mkdtemp(prefix="asmk-million-", dir=options.folder))
        try:
            print(run(found, bits, options, folder), flush=True)
        finally:
            shutil.rmtree(folder)
    print(f"published, GB a million photos: {', '.join(f'{name} {size}' for name, size in PUBLISHED.items())}")


if __name__ == "__main__":
    main()
