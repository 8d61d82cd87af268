"""The kNN graph of a large collection: built, followed, traversed, diffused and separated, timed and measured.

    python benchmarks/million_graph.py VECTORS.npy FOLDER [--k 50] [--only build,follow,traverse,diffuse,separate]

`VECTORS.npy` comes from `million_data.py`: its last 1000 rows are new photos and queries. `FOLDER` gets the files of
the index and of the graph, which later runs read. Times are processor times of one thread. The exact comparison is
timed for 256 photos in the same run, and the recall is against it.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from resight.graph.adjacency import adjacency
from resight.graph.searched import SAMPLE, add_searched, build_searched_graph, remove_searched, sampled_recall
from resight.graph.stored import StoredGraph, load_graph, save_graph
from resight.graph.traversal import explore_exploit
from resight.index.refined import RefinedIndex
from resight.types import KnnGraph

BLOCK, NEW, LIMIT, SEEDS = 8192, 64, 100, 10


def timed(work, *arguments):
    start, wall = time.process_time(), time.perf_counter()
    result = work(*arguments)
    return result, time.process_time() - start, time.perf_counter() - wall


def row(step, seconds, said=""):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| {step} | {seconds:.1f} | {said} | {peak:.2f} |", flush=True)


def open_index(options, data, count):
    files = options.folder / "lists.safetensors", options.folder / "vectors.f16"
    if files[0].exists():
        return RefinedIndex.load(*files)
    index = RefinedIndex(data.shape[1], files[1], recall=0.955, k=options.k + 1)
    spans = [np.arange(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    _, seconds, _ = timed(index.extend, ((rows, data[rows[0] : rows[-1] + 1]) for rows in spans))
    index.save(files[0])
    effort = index.effort
    row("index", seconds, f"{index.lists} lists; {effort.probes} scanned, {effort.refined} refined")
    return index


def build(options, index, count):
    path, rows = options.folder / "graph.safetensors", np.arange(count)
    if path.exists():
        return load_graph(path)
    graph, seconds, wall = timed(build_searched_graph, index, rows, options.k, index.by_lists())
    row("graph", seconds, f"{1e3 * seconds / count:.3f} ms a photo; {wall:.0f} s of wall time")
    sample = np.sort(np.random.default_rng(0).choice(count, SAMPLE, replace=False))
    _, exact, _ = timed(lambda: index.near(sample, options.k, exact=True))
    reached = sampled_recall(graph, rows, index)
    hours = exact / SAMPLE * count / 3600
    row("the same of 256 photos, exact", exact, f"{hours:.2f} hours for all; recall of the graph {reached:.4f}")
    edges, seconds, _ = timed(adjacency, graph)
    row("reverse edges", seconds, f"{len(edges.ids) / count:.0f} edges a photo")
    save_graph(path, StoredGraph(graph, rows, "similarity", "generated", edges))
    stored, seconds, _ = timed(load_graph, path)
    row("opening the stored graph", seconds, f"{path.stat().st_size / count:.0f} bytes a photo on disk")
    return stored


def follow(index, graph, data, count):
    rows = np.arange(count, count + NEW)
    _, seconds, _ = timed(index.add, rows, np.asarray(data[rows], np.float32))
    row(f"{NEW} photos into the index", seconds)
    grown, seconds, _ = timed(add_searched, graph, np.arange(count + NEW), index)
    found = KnnGraph(grown.ids[rows], grown.weights[rows])
    exact = index.near(rows, graph.k, exact=True)[0]
    share = np.mean([np.isin(a, b).mean() for a, b in zip(exact, found.ids, strict=True)])
    entered = (grown.ids[:count] >= count).any(axis=1).sum()
    row(f"{NEW} photos into the graph", seconds, f"{share:.4f} of their neighbours found, in {entered} lists of others")
    index.remove(rows)
    left, seconds, _ = timed(remove_searched, grown, rows, np.arange(count), index)
    row(f"{NEW} photos out of the graph", seconds, f"{(left.ids == graph.ids).mean():.4f} of all edges as before")


def traverse(index, stored, data, count):
    queries, times = np.asarray(data[count : count + 200], np.float32), []
    near = index.search(queries, 50)
    for query in range(len(queries)):
        one = KnnGraph(near.ids[query : query + 1], near.scores[query : query + 1])
        times.append(timed(explore_exploit, one, stored.edges, 0.5, LIMIT)[1])
    row("traversal", sum(times), f"{np.median(times) * 1e3:.2f} ms a query for {LIMIT} photos")


def diffuse(graph, count, sample):
    from resight.graph.diffusion import affinity, normalise
    from resight.graph.offline import offline_diffusion

    normalised, seconds, _ = timed(lambda: normalise(affinity(graph, 3.0)))
    row("affinities", seconds, f"{normalised.nnz / count:.0f} a photo")
    rows = np.sort(np.random.default_rng(0).choice(count, min(sample, count), replace=False))
    _, seconds, _ = timed(lambda: offline_diffusion(normalised, graph, rows=rows))
    row(f"off-line diffusion of {len(rows)} photos", seconds, f"{seconds / len(rows) * count / 60:.1f} minutes for all")


def separate(graph, data, count):
    from resight.training.separation.fit import train_separation
    from resight.training.separation.settings import SeparationSettings

    vectors = np.asarray(data[:count], np.float32)
    settings = SeparationSettings(epochs=1, patience=None, batch=1024)
    _, seconds, wall = timed(lambda: train_separation(vectors, graph, settings))
    row("one epoch of separation", seconds, f"{wall:.0f} s of wall time, batches of 1024")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vectors", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, help="vectors to take, all by default")
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--sample", type=int, default=20_000, help="photos whose diffusion is solved")
    parser.add_argument("--only", default="build,follow,traverse,diffuse")
    options = parser.parse_args()
    steps = options.only.split(",")
    data = np.load(options.vectors, mmap_mode="r")
    count = min(options.count or len(data), len(data) - 1000)
    print(f"{count} x {data.shape[1]}, k = {options.k}\n")
    print("| step | processor s | | peak GiB |\n|---|---|---|---|")
    index = open_index(options, data, count)
    stored = build(options, index, count)
    if "traverse" in steps:
        traverse(index, stored, data, count)
    if "diffuse" in steps:
        diffuse(stored.graph, count, options.sample)
    if "follow" in steps:
        follow(index, stored.graph, data, count)
    if "separate" in steps:
        separate(KnnGraph(stored.graph.ids[:, :5], stored.graph.weights[:, :5]), data, count)


if __name__ == "__main__":
    main()
