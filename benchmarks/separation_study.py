"""Guided similarity separation beside other graph methods, and the figures of its page in the docs.

PYTHONPATH=tests python benchmarks/separation_study.py DESCRIPTORS.npy IDS.txt [--figures FOLDER] [--curve]

DESCRIPTORS (N, D) of photos named as those of INRIA Holidays (group = number // 100, query = number % 100 == 0, itself
no result); IDS names them, one a line. Without either, planted chains of views only. Prints Markdown tables: every
method with its settings by default, and with the best of a small grid, chosen by the labels that it is scored with.
`--curve` times epochs for the run-time figure as well.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import scipy.sparse
import torch

from chains import plant_chains
from resight.artifacts.descriptors import fit_whitening
from resight.evaluation.metrics import Scores, rectangle_ap
from resight.evaluation.significance import compare
from resight.graph.adjacency import adjacency
from resight.graph.diffusion import affinity, normalise
from resight.graph.knn_graph import build_knn_graph, cut
from resight.graph.listed import standing_out
from resight.graph.propagation_matrix import propagation_matrix
from resight.graph.separation import Mixing, SimilaritySeparation
from resight.ranking.diffusion_stages import Diffusion
from resight.ranking.expansion_stages import QueryExpansion
from resight.ranking.neighbourhood_stages import KReciprocal, SuperGlobal
from resight.ranking.propagation import ExploreExploit
from resight.ranking.search import GlobalSearch
from resight.ranking.separation import Refined, Separation, centred
from resight.ranking.vector_database import VectorDatabase
from resight.training.separation import SeparationSettings, TrainedSeparation, train_separation
from resight.training.separation.batches import batches, neighbourhood
from resight.training.separation.loss import sampled_loss, similarity_separation
from resight.types import Queries
from resight.viz.curves import embedding_map
from resight.viz.separation import loss_over_similarity, similarity_histogram, study, training_curve

PATIENCE = 20
EPOCHS = (0, 5, 10, 20, 40, 80, 120, 160, 200)


class World:
    """Descriptors, queries, and what is right."""

    def __init__(self, vectors: np.ndarray, queries: Queries, positives: list[np.ndarray], centre: bool = True) -> None:
        self.vectors, self.queries, self.positives = vectors, queries, positives
        self.mean = vectors.mean(axis=0) if centre else np.zeros_like(vectors[0])
        self.moved = centred(vectors, self.mean)
        self.database, self.graph = VectorDatabase.over(vectors), build_knn_graph(vectors, min(50, len(vectors) - 1))

    def score(self, stage: Callable[..., Any]) -> Scores:
        """Average precision of a stage."""
        ids = stage(self.queries).ids
        if self.queries.rows is not None:
            own = ids == self.queries.rows[:, None]
            ids = np.take_along_axis(ids, np.argsort(own, axis=1, kind="stable"), 1)[:, : ids.shape[1] - 1]
        return rectangle_ap(ids, self.positives)

    def train(self, k: int, checkpoint: Path | None = None, **settings: Any) -> TrainedSeparation:
        """A network over the `k` nearest neighbours of every photo."""
        graph = build_knn_graph(self.moved, k)
        return train_separation(self.moved, graph, SeparationSettings(**settings), checkpoint=checkpoint)

    def stage(self, trained: TrainedSeparation, k: int) -> Separation:
        """The stage of a network trained with `k` neighbours."""
        refined = trained.model.embed(self.moved, build_knn_graph(self.moved, k))
        return Separation(
            trained.model, VectorDatabase.over(self.moved), VectorDatabase.over(refined), self.mean, k + 1
        )


def holidays(vectors: np.ndarray, numbers: np.ndarray) -> World:
    positives = [np.flatnonzero((numbers // 100 == n // 100) & (numbers != n)) for n in numbers]
    asked = np.array([i for i in np.flatnonzero(numbers % 100 == 0) if len(positives[i])])
    return World(vectors, Queries(vectors=vectors[asked], rows=asked), [positives[i] for i in asked])


def chains(photos: int, things: int) -> World:
    made = plant_chains(photos, things)
    return World(made.vectors, Queries(vectors=made.queries), [np.flatnonzero(made.thing == t) for t in made.wanted])


def graph_network(world: World, k1: int, k2: int) -> Any:
    """Zhang et al. 2020, "Understanding image retrieval re-ranking: a graph neural network perspective": rows of the
    k1-neighbour graph, propagated twice over the k2 nearest with squared similarities. Transductive."""
    unseen = world.queries.rows is None
    every = np.vstack([world.vectors, world.queries.vectors]) if unseen else world.vectors
    asked = np.arange(len(world.vectors), len(every)) if unseen else world.queries.rows
    count, product_ = len(every), every @ every.T
    order = np.argsort(-product_, axis=1, kind="stable")
    row = np.arange(count)[:, None]

    def sparse(k: int, values: np.ndarray) -> scipy.sparse.csr_array:
        places = (np.repeat(row, k, axis=1).ravel(), order[:, :k].ravel())
        return scipy.sparse.csr_array((values.ravel(), places), shape=(count, count))

    h = sparse(k1, np.ones((count, k1)))
    near = sparse(k2, np.take_along_axis(product_, order[:, :k2], 1) ** 2)
    for _ in range(2):
        h = scipy.sparse.csr_array(near @ (h + h.T))
        h = scipy.sparse.csr_array(h / np.sqrt((h * h).sum(axis=1))[:, None])
    scores = (h[asked] @ h.T).toarray()[:, : len(world.vectors)]
    return lambda _: type("Ranked", (), {"ids": np.argsort(-scores, axis=1, kind="stable")})


def grid(**values: Iterable[Any]) -> list[dict[str, Any]]:
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def methods(world: World) -> dict[str, tuple[Callable[..., Any], dict[str, Any], list[dict[str, Any]]]]:
    """Per method: a stage from settings, the settings by default, and a grid."""
    base = GlobalSearch(world.database.index)
    edges = adjacency(world.graph)
    weights = np.sort(world.graph.weights[:, :10], axis=None)
    thresholds = np.quantile(weights, (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)).round(3).tolist()

    def separation(k: int | None = None, **settings: Any) -> Any:
        k = k or standing_out(world.moved)
        return world.stage(world.train(k, **settings), k)

    def published() -> Any:
        plain = World(world.vectors, world.queries, world.positives, centre=False)
        return plain.stage(plain.train(4), 4)

    def diffused(k: int, seeds: int, alpha: float) -> Any:
        return base >> Diffusion(world.database, normalise(affinity(cut(world.graph, k))), seeds, alpha=alpha)

    return {
        "alpha query expansion": (
            lambda n, alpha: base >> QueryExpansion(world.database, n, alpha),
            {"n": 10, "alpha": 3.0},
            grid(n=(1, 2, 5), alpha=(0.0, 3.0, 6.0)),
        ),
        "k-reciprocal (2017)": (
            lambda k1, k2: base >> KReciprocal(world.database, 100, k1, k2),
            {"k1": 20, "k2": 6},
            grid(k1=(3, 5, 10), k2=(1, 2)),
        ),
        "diffusion (2017)": (diffused, {"k": 49, "seeds": 10, "alpha": 0.99},
                             grid(k=(3, 5, 10), seeds=(1, 5), alpha=(0.5, 0.9, 0.99))),
        "explore-exploit (2019)": (
            lambda threshold, k: base >> ExploreExploit(world.database, edges, threshold, k),
            {"threshold": 0.42, "k": 50},
            grid(threshold=thresholds, k=(1, 50)),
        ),
        "graph network re-ranking (2020)": (
            lambda k1, k2: graph_network(world, k1, k2), {"k1": 26, "k2": 7}, grid(k1=(2, 3, 5, 10), k2=(2, 3))
        ),
        "SuperGlobal refinement (2023)": (
            lambda k, beta: base >> SuperGlobal(world.database, 100, k, beta),
            {"k": 9, "beta": 0.15},
            grid(k=(1, 2, 9), beta=(0.15, 1.0)),
        ),
        "separation, as `resight fit separation --published`": (published, {}, []),
        "separation, settings of the paper, centred": (separation, {"k": 4}, []),
        "separation, as `resight fit separation`": (
            separation,
            {"patience": PATIENCE},
            grid(k=(1, 2, 4), epochs=(0, 100)),
        ),
        "the same >> explore-exploit": (
            lambda threshold: stacked(world, threshold), {"threshold": 0.42}, grid(threshold=(0.7, 0.9))
        ),
    }  # fmt: skip


def stacked(world: World, threshold: float) -> Any:
    k = standing_out(world.moved)
    stage = world.stage(world.train(k, patience=PATIENCE), k)
    edges = adjacency(build_knn_graph(stage.refined.vectors, min(50, len(world.vectors) - 1)))
    return stage >> Refined(stage, ExploreExploit(stage.refined, edges, threshold, 50))


def table(name: str, world: World) -> None:
    plain = world.score(GlobalSearch(world.database.index))
    shape = " x ".join(map(str, world.vectors.shape))
    print(f"\n### {name}: {shape}, {len(world.positives)} queries, {standing_out(world.moved)} stand out\n")
    print("| method | default | against kNN | p | best of its grid | settings of the best |\n|---|---|---|---|---|---|")
    print(f"| nearest neighbours | {100 * plain.map:.1f} | | | | |", flush=True)
    for method, (build, default, others) in methods(world).items():
        found = world.score(build(**default))
        c = compare(found.ap, plain.ap, seed=0)
        scores = [(world.score(build(**settings)).map, settings) for settings in others]
        best, chosen = max([*scores, (found.map, default)], key=lambda pair: pair[0])
        said = ", ".join(f"{key} {value:g}" for key, value in chosen.items())
        tail = f"{100 * best:.1f} | {said}" if others else " | "
        print(
            f"| {method} | {100 * found.map:.1f} | {100 * c.difference:+.1f} | {c.p_value:.3f} | {tail} |", flush=True
        )


def figures(world: World, numbers: np.ndarray, folder: Path) -> None:
    """The figures of the page, from training on `world`."""
    k = standing_out(world.moved)
    kept = world.train(k, patience=PATIENCE)
    trained = world.train(k, patience=EPOCHS[-1] + 1)
    after = kept.model.embed(world.moved, build_knn_graph(world.moved, k))
    beta = kept.beta.value
    with TemporaryDirectory() as place:  # each training goes on where the one before ended
        checkpoint = Path(place) / "training.safetensors"
        models = ((e, world.train(k, checkpoint=checkpoint, epochs=e)) for e in EPOCHS)
        curve = [(e, 100 * world.score(world.stage(model, k)).map) for e, model in models]
    seen = [(e.number, 100 * e.validation) for e in trained.epochs[1:] if e.validation is not None]
    print("\n| epoch | mAP |\n|---|---|\n" + "\n".join(f"| {e} | {m:.1f} |" for e, m in curve))
    print(f"\nkept without labels: epoch {kept.best}")
    sizes = {g: (numbers // 100 == g).sum() for g in np.unique(numbers // 100)}
    largest = sorted(sizes, key=lambda g: (-sizes[g], g))[:12]
    groups = [str(g) if g in largest else None for g in numbers // 100]
    layers, neighbours_ = {}, {}
    for what, settings in (("untrained", {"epochs": 0}), ("trained", {"patience": PATIENCE})):
        layers[what] = [
            (n, 100 * world.score(world.stage(world.train(k, layers=n, **settings), k)).map) for n in (1, 2, 3, 4)
        ]
        neighbours_[what] = [
            (n, 100 * world.score(world.stage(world.train(n, **settings), n)).map) for n in (1, 2, 3, 4, 6)
        ]
    pictures = {
        "loss": loss_over_similarity(beta),
        "similarities": similarity_histogram(world.moved, after, beta),
        "training": training_curve([e.loss for e in trained.epochs[1:]], seen, kept.best, curve),
        "before": embedding_map(world.moved, groups),
        "after": embedding_map(after, groups),
        "layers": study(layers, "layers", "mAP"),
        "neighbours": study(neighbours_, "neighbours k", "mAP"),
    }
    for name, png in pictures.items():
        (folder / f"separation-{name}.png").write_bytes(png)
    print(f"\nlayers {layers}\nneighbours {neighbours_}")


def run_time(folder: Path, dim: int = 256) -> None:
    """Processor seconds of an epoch over the number of photos; wall time would count what other programs do."""
    warm = np.eye(300, dim, dtype=np.float32)
    whole_epoch(warm, scipy.sparse.csr_array(scipy.sparse.eye_array(300)), blocks=True)
    lines: dict[str, list[tuple[float, float]]] = {"blocks": [], "N x N": [], "batches of 1024": []}
    for photos in (1000, 2000, 4000, 8000, 16000):
        vectors = np.random.default_rng(0).standard_normal((photos, dim), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        matrix = propagation_matrix(vectors, build_knn_graph(vectors, 4)).matrix
        lines["blocks"].append((photos, processor(lambda v=vectors, m=matrix: whole_epoch(v, m, blocks=True))))
        lines["batches of 1024"].append((photos, processor(lambda v=vectors, m=matrix: batched_epoch(v, m))))
        if photos <= 8000:
            lines["N x N"].append((photos, processor(lambda v=vectors, m=matrix: whole_epoch(v, m, blocks=False))))
        print(photos, {name: round(points[-1][1], 2) for name, points in lines.items() if points[-1][0] == photos})
    png = study(lines, "photos", "processor seconds per epoch", logarithmic=True)
    (folder / "separation-time.png").write_bytes(png)


def processor(call: Callable[[], None]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def whole_epoch(vectors: np.ndarray, matrix: scipy.sparse.csr_array, *, blocks: bool) -> None:
    """An epoch over all pairs; without `blocks`, with all similarities in memory and torch's own gradients."""
    model = SimilaritySeparation(vectors.shape[1])
    optimizer = torch.optim.Adam(model.parameters())
    e = model(torch.from_numpy(vectors), [Mixing.build(matrix, model.device, symmetric=True)] * 2)
    loss = similarity_separation(e, 0.1) if blocks else (-((e @ e.T).relu() - 0.1).square() / 2).mean()
    loss.backward()
    optimizer.step()


def batched_epoch(vectors: np.ndarray, matrix: scipy.sparse.csr_array) -> None:
    """An epoch of batches with sampled neighbourhoods."""
    model, rng = SimilaritySeparation(vectors.shape[1]), np.random.default_rng(0)
    optimizer = torch.optim.Adam(model.parameters())
    for rows in batches(len(vectors), 1024, rng):
        used, parts = neighbourhood(matrix, rows, 2, 16, rng)
        optimizer.zero_grad()
        e = model(torch.from_numpy(vectors[used]), [Mixing.build(part, model.device) for part in parts])
        sampled_loss(e, 0.1, len(vectors)).backward()
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("descriptors", type=Path, nargs="?")
    parser.add_argument("ids", type=Path, nargs="?")
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--curve", action="store_true")
    arguments = parser.parse_args()
    if arguments.curve and arguments.figures:
        run_time(arguments.figures)
        return
    if arguments.descriptors:
        raw = np.load(arguments.descriptors)
        numbers = np.array([int(Path(name).stem) for name in arguments.ids.read_text().split()])
        spaces = {"as they are": raw, "PCA, power 0.25": fit_whitening(raw, "pca").apply(raw)}
        if arguments.figures:
            figures(holidays(spaces["PCA, power 0.25"], numbers), numbers, arguments.figures)
            return
        for name, vectors in spaces.items():
            table(f"Descriptors {name}", holidays(vectors, numbers))
    for photos, things in ((1000, 20), (1000, 150)):
        table(f"{photos} photos in chains of {round(0.7 * photos / things)} views", chains(photos, things))


if __name__ == "__main__":
    main()
