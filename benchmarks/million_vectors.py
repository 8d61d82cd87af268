"""A refined index against exact search: recall, time, memory.

    python benchmarks/million_vectors.py VECTORS.npy FOLDER [--queries 200]

`VECTORS.npy` comes from `million_data.py`: its last 1000 rows are the queries. `FOLDER` gets the files of the index.
Queries come one at a time, for 100 results; times are medians of processor time on one thread, and the ratio is to
exact search over the same mapped float16 vectors in the same run, which also gives the recall. Memory per photo is the
growth of the process's own memory (anonymous pages), by what the index holds; what is mapped is not in it.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import resource
import time
from pathlib import Path

import numpy as np

from resight.index.exact import best_of
from resight.index.refined import RefinedIndex
from resight.index.sign_codes import candidates, empty_codes

K, BLOCK = 100, 8192


def own_memory() -> int:
    """Anonymous bytes of this process, less what the allocator keeps for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise SystemExit("/proc/self/status says nothing of RssAnon: run this on Linux")


def blocks(vectors, count):
    for start in range(0, count, BLOCK):
        rows = np.arange(start, min(start + BLOCK, count))
        yield rows, vectors[rows[0] : rows[-1] + 1]


def timed(search, queries):
    milliseconds, found = [], []
    for query in queries:
        start = time.process_time()
        found.append(search(query[None]))
        milliseconds.append((time.process_time() - start) * 1e3)
    return float(np.median(milliseconds)), found


def recall(found, truth):
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)]))


def warm(path, queries):
    """Load every library that a search needs, whose memory is not the index's."""
    index = RefinedIndex(queries.shape[1], path)
    index.add(np.arange(len(queries)), queries)
    index.search(queries[:1], 5)
    codes = empty_codes(queries[:4])
    codes.add_with_ids(queries, np.arange(len(queries)))
    candidates(codes, queries[:1], 5, 4)
    path.unlink()


def line(effort, name, reached, ms, exact_ms, memory):
    print(f"| refined | {name} | {effort} | {reached:.3f} | {ms:.2f} | {ms / exact_ms:.4f} | {memory} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vectors", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, help="vectors to take, all by default")
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    data = np.load(options.vectors, mmap_mode="r")
    count, dim = min(options.count or len(data), len(data) - 1000), data.shape[1]
    queries = np.asarray(data[count : count + options.queries], np.float32)
    warm(options.folder / "warm.f16", queries)
    before = own_memory()
    start = time.process_time()
    index = RefinedIndex(dim, options.folder / "vectors.f16")
    index.extend(blocks(data, count))
    built = time.process_time() - start
    index.save(options.folder / "lists.safetensors")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    del index
    start = time.process_time()
    index = RefinedIndex.load(options.folder / "lists.safetensors", options.folder / "vectors.f16")
    opened = time.process_time() - start
    index.search(queries[:1], K)
    held = own_memory() - before
    exact_rows, vectors = np.arange(count), index._vectors.values
    few = queries[: max(20, options.queries // 5)]
    exact_ms, _ = timed(lambda q: best_of(q, vectors, exact_rows, K)[0][0], few)
    truth = [found for part in np.array_split(queries, 4) for found in best_of(part, vectors, exact_rows, K)[0]]
    ms, found = timed(lambda q: index.search(q, K).ids[0], queries)
    print(f"{count} x {dim}, {len(queries)} queries, top {K}, {index.lists} lists, built in {built:.0f} s of processor")
    print(f"time, opened in {opened:.2f} s, peak of the process while building {peak:.0f} MiB, mapped pages included\n")
    print("| index | filter | effort | recall | ms a query | ratio | bytes a photo in memory |")
    print("|---|---|---|---|---|---|---|")
    print(f"| exact, mapped float16 | none | all | 1.000 | {exact_ms:.2f} | 1.00 | 0 (mapped: {2 * dim}) |")
    effort = index.effort
    said = f"{effort.probes} lists, {effort.refined} refined; measured {effort.recall:.3f}"
    line(said, "none", recall(found, truth), ms, exact_ms, f"{held / count:.0f}")
    rng = np.random.default_rng(0)
    filters = {"1 % at random": rng.random(count) < 0.01, "20 % at random": rng.random(count) < 0.2}
    for name, mask in (filters | {"the first 25 %": np.arange(count) < count // 4}).items():
        allowed = np.flatnonzero(mask)
        want = best_of(few, vectors, allowed, K)[0]
        ms, found = timed(lambda q, allowed=allowed: index.search(q, K, allowed).ids[0], few)
        said = f"{effort.filtered_probes} lists, {effort.filtered_refined} refined" if mask.mean() >= 0.1 else "all"
        line(said, name, recall(found, want), ms, exact_ms, "")
    new = np.arange(count, len(data))
    start = time.process_time()
    index.add(new[:64], np.asarray(data[new[:64]], np.float32))
    added = time.process_time() - start
    start = time.process_time()
    index.remove(new[:64])
    print(f"\n64 photos: added in {added:.2f} s, removed in {time.process_time() - start:.2f} s")


if __name__ == "__main__":
    main()
