"""Time and memory of guided similarity separation on generated descriptors.

python benchmarks/separation.py [--photos 20000] [--dim 2048] [--k 5] [--layers 2] [--precision bfloat16] [--closed]

Prints a Markdown table. The quoted figures are those of the published TensorFlow program for 20 000 photos of 2048
dimensions, k = 5, two layers, two cores; k counts the photo itself. `--closed` compares the two ways of computing
the loss, and `--plain N` one epoch with an N x N matrix and torch's own gradients with ours.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from resight.graph.knn_graph import build_knn_graph, neighbours
from resight.graph.propagation_matrix import propagation_matrix
from resight.graph.separation import Mixing, SimilaritySeparation, smoothed
from resight.training.separation import SeparationSettings, train_separation
from resight.training.separation.beta import similarity_percentile
from resight.training.separation.loss import loss_and_gradient

QUERIES = 50
BLOCK = 4096


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result of `call`, wall seconds and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def peak() -> float:
    """Most memory that the process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def descriptors(photos: int, dim: int, common: float = 0.0, seed: int = 0) -> np.ndarray:
    """Groups of about 10 photos around random centres; `common` is the share of one direction in all of them."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(photos // 10, 1), dim), np.float32)
    vectors = np.empty((photos, dim), np.float32)
    for start in range(0, photos, BLOCK):
        part = vectors[start : start + BLOCK]
        part[:] = centres[rng.integers(0, len(centres), len(part))]
        part += rng.standard_normal(part.shape, np.float32)
        part *= np.sqrt(1 - common**2) / np.linalg.norm(part, axis=1, keepdims=True)
        part[:, 0] += common
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def table(photos: int, dim: int, k: int, layers: int, precision: Any) -> None:
    vectors = descriptors(photos, dim)
    print(f"{photos} x {dim}, k = {k}, {layers} layers, {precision}, {torch.get_num_threads()} threads\n")
    print("| step | wall s | processor s | quoted s | quoted / wall |\n|---|---|---|---|---|")

    def row(name: str, wall: float, cpu: float, quoted: float | None = None) -> None:
        tail = f"{quoted:g} | {quoted / wall:.1f}" if quoted and (photos, dim) == (20_000, 2048) else " | "
        print(f"| {name} | {wall:.3f} | {cpu:.3f} | {tail} |", flush=True)

    build_knn_graph(vectors[:300], k - 1)  # compiles
    similarity_percentile(vectors[:300], 98, exact_rows=1)
    graph, first, first_cpu = timed(lambda: build_knn_graph(vectors, k - 1))
    row("kNN graph", first, first_cpu)
    propagation, wall, cpu = timed(lambda: propagation_matrix(vectors, graph))
    row("propagation matrix", wall, cpu)
    embedded, more, more_cpu = timed(lambda: smoothed(vectors, propagation, layers, 0.3, torch.device("cpu")))
    row("embedding at the start", more, more_cpu)
    beta, last, last_cpu = timed(lambda: similarity_percentile(embedded, 98))
    row("beta", last, last_cpu)
    row("graph and beta", first + wall + more + last, first_cpu + cpu + more_cpu + last_cpu, 49.6)
    print(f"\nbeta {beta.value:.4f} +- {beta.error:.4f}; peak before training {peak():.2f} GB\n")
    embedded = None  # its memory is not part of training
    print("| step | wall s | processor s | quoted s | quoted / wall |\n|---|---|---|---|---|")
    settings = SeparationSettings(layers, beta=beta.value, epochs=2, precision=precision)
    epochs: list[float] = []
    trained, wall, cpu = timed(
        lambda: train_separation(vectors, graph, settings, on_epoch=lambda e: epochs.append(e.seconds))
    )
    row("one epoch (the faster of 2)", min(epochs), cpu * min(epochs) / wall, 113.0)
    print(f"\npeak {peak():.2f} GB (quoted 9.2 GB); one array of descriptors: {vectors.nbytes / 1e9:.2f} GB\n")
    queries = descriptors(QUERIES, dim, seed=1)
    near = neighbours(queries, vectors, k)
    trained.model.extend(queries[:1], near_of(near, 0))
    spent = [timed(lambda q=q: trained.model.extend(queries[q : q + 1], near_of(near, q))) for q in range(QUERIES)]
    _, wall, cpu = timed(lambda: trained.model.extend(queries, near))
    print("| step | wall ms | processor ms |\n|---|---|---|")
    print(f"| extend, one query (median of {QUERIES}) | {1000 * np.median([s[1] for s in spent]):.2f} ", end="")
    print(f"| {1000 * np.median([s[2] for s in spent]):.2f} |")
    print(f"| extend, {QUERIES} at once, per query | {1000 * wall / QUERIES:.2f} | {1000 * cpu / QUERIES:.2f} |")


def near_of(near: Any, query: int) -> Any:
    return type(near)(near.ids[query : query + 1], near.weights[query : query + 1])


def closed(photos: int, dim: int) -> None:
    """The loss and its gradient, computed directly and by the closed form with its correction."""
    print(f"{photos} x {dim}\n\n| negative similarities | direct s | closed s | direct / closed |\n|---|---|---|---|")
    for common in (0.0, 0.25, 0.3, 0.8):
        e = torch.from_numpy(descriptors(photos, dim, common))
        share = float((e[:2000] @ e[:2000].T < 0).float().mean())
        times = [timed(lambda e=e, m=m: loss_and_gradient(e, 0.3, method=m))[2] for m in ("direct", "closed")]
        print(f"| {100 * share:.3f} % | {times[0]:.2f} | {times[1]:.2f} | {times[0] / times[1]:.2f} |", flush=True)
    print("\nprocessor seconds")


def plain(photos: int, dim: int, k: int, layers: int) -> None:
    """One epoch as the formulas are written, with N x N similarities and torch's gradients, against ours."""
    vectors = descriptors(photos, dim)
    graph = build_knn_graph(vectors, k - 1)
    x = torch.from_numpy(vectors)

    def epoch() -> None:
        model = SimilaritySeparation(dim, layers)
        matrix = propagation_matrix(vectors, graph).matrix
        e = model(x, [Mixing.build(matrix, model.device, symmetric=True)] * layers)
        loss = (-((e @ e.T).relu() - 0.3).square() / 2).mean()
        optimizer = torch.optim.Adam(model.parameters())
        loss.backward()
        optimizer.step()

    before = peak()
    _, wall, cpu = timed(lambda: train_separation(vectors, graph, SeparationSettings(layers, beta=0.3, epochs=1)))
    ours, middle = (wall, cpu), peak()
    _, wall, cpu = timed(epoch)
    print(f"{photos} x {dim}\n\n| epoch | wall s | processor s | peak rises to |\n|---|---|---|---|")
    print(f"| N x N | {wall:.2f} | {cpu:.2f} | {peak():.2f} GB |")
    print(f"| blocks, with the final embedding | {ours[0]:.2f} | {ours[1]:.2f} | {middle:.2f} GB |")
    print(f"\nbefore either {before:.2f} GB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--k", type=int, default=5, help="neighbours, the photo itself included")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--closed", action="store_true")
    parser.add_argument("--plain", type=int, metavar="N")
    arguments = parser.parse_args()
    if arguments.closed:
        closed(arguments.photos, arguments.dim)
    elif arguments.plain:
        plain(arguments.plain, arguments.dim, arguments.k, arguments.layers)
    else:
        table(arguments.photos, arguments.dim, arguments.k, arguments.layers, arguments.precision)
