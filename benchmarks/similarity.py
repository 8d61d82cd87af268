"""Learned similarity: speed of scoring, how well a network learns the cosine, and what all of it gains on Holidays.

    python benchmarks/similarity.py speed
    python benchmarks/similarity.py cosine [--published]
    python benchmarks/similarity.py holidays VECTORS.npy IDS.txt [--pictures FOLDER]

VECTORS (N, D) float32, one line of IDS per row. Ids are those of INRIA Holidays: the group is id // 100, queries end in
00, and a query is never its own result. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from resight.evaluation.metrics import rectangle_ap
from resight.evaluation.significance import compare
from resight.features.pooling import normalise
from resight.features.whitening import fit_learned, fit_pca
from resight.matching.similarity import PUBLISHED, Oasis, new_similarity
from resight.training.similarity import (
    DeepSimilarities,
    Options,
    Pairs,
    learn_cosine,
    learn_deep_similarity,
    learn_oasis,
    pairs_from_groups,
    random_pairs,
)
from resight.viz.similarity import learned_against_cosine, training_curves

DIM, CANDIDATES = 512, 1000
COSINE = Options(epochs=10, rate=2e-3)
PAIRS = Options(epochs=40, rate=2e-4, patience=6)
WHITENED = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "cosine", "holidays"))
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--published", action="store_true", help="cosine: Gaussian weights of deviation 0.01 to start")
    parser.add_argument("--pictures", type=Path, help="holidays: write the plots to this folder")
    options = parser.parse_args()
    if options.what == "speed":
        speed()
    elif options.what == "cosine":
        cosine(options.published)
    else:
        vectors, ids = options.files
        holidays(np.load(vectors), np.array(ids.read_text().split(), int), options.pictures)


def speed() -> None:
    """One query against candidates in one call, and with one forward for each pair. Processor time of all threads is
    counted, so that other programs on the machine matter little."""
    query, vectors, _ = random_pairs(CANDIDATES, DIM, 0)
    print(f"{CANDIDATES} candidates of one query, {DIM} dimensions, milliseconds of processor time, medians\n")
    print("| similarity | at once | vectors prepared | pair by pair | ratio | prepared |\n|---|--:|--:|--:|--:|--:|")
    for name, similarity in (
        ("network 1024-1024-1", new_similarity(DIM)),
        ("the same, symmetric", new_similarity(DIM, symmetric=True)),
        ("network 4096-4096-1, as published", new_similarity(DIM, PUBLISHED)),
    ):
        prepared = similarity.prepare(vectors)
        at_once = median(lambda s=similarity: s.score(query[:1], vectors), 9)
        ready = median(lambda s=similarity, p=prepared: s.score_prepared(query[:1], p), 9)
        one = CANDIDATES * median(lambda s=similarity: s.pairs(query[:1], vectors[:1]), 100)
        print(
            f"| {name} | {at_once:.1f} | {ready:.1f} | {one:.0f} | {one / at_once:.1f} | {one / ready:.1f} |",
            flush=True,
        )


def median(call: Callable[[], object], times: int) -> float:
    """Milliseconds of processor time."""
    call()
    seconds = []
    for _ in range(times):
        started = time.process_time()
        call()
        seconds.append(time.process_time() - started)
    return 1000 * float(np.median(seconds))


def cosine(published: bool) -> None:
    """Error of DeepCosine on fresh pairs against processor time."""
    x, y, true = random_pairs(5000, DIM, 999)
    print("| network | epochs | processor seconds | mean absolute error on fresh pairs |\n|---|--:|--:|--:|")
    for epochs in (2, 5, 10):
        started = time.process_time()
        start = new_similarity(DIM, paired=not published)
        trained = learn_cosine(start, options=Options(epochs=epochs, rate=1e-3 if published else 2e-3))
        seconds = time.process_time() - started
        error = np.abs(trained.model.pairs(x, y) - true).mean()
        print(f"| 1024-1024-1 | {epochs} | {seconds:.0f} | {error:.4f} |", flush=True)


def holidays(vectors: np.ndarray, ids: np.ndarray, pictures: Path | None) -> None:
    """Train on the groups with odd number and test on the even ones, and the reverse; the queries of both together."""
    group, found = ids // 100, {}
    whitened = fit_pca(vectors, WHITENED, 0.25).apply(vectors)  # of all photos, without their labels
    started = time.perf_counter()
    for parity in (1, 0):
        train, test = np.flatnonzero(group % 2 == parity), np.flatnonzero(group % 2 != parity)
        pairs = pairs_from_groups(group[train])
        stages = learn_deep_similarity(new_similarity(WHITENED), whitened[train], pairs, cosine=COSINE, options=PAIRS)
        for name, scores in systems(vectors, whitened, train, test, pairs, stages).items():
            found.setdefault(name, []).append(average_precision(scores, ids[test]))
        if pictures is not None and parity == 1:
            draw(pictures, stages, whitened[test], group[test])
    print(f"{time.perf_counter() - started:.0f} s\n")
    table({name: np.concatenate(parts) for name, parts in found.items()})


def systems(
    vectors: np.ndarray,
    whitened: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    pairs: Pairs,
    stages: DeepSimilarities,
) -> dict[str, np.ndarray]:
    """Scores (n, n) of the test photos with each other, by name."""
    raw, X = normalise(vectors), whitened[test]
    match = pairs.select(pairs.matching)
    learnt = fit_learned(raw[train], match.left, match.right).apply(raw[test])
    oasis = learn_oasis(Oasis.identity(WHITENED), whitened[train], pairs).model
    return {
        "cosine, not whitened": raw[test] @ raw[test].T,
        "cosine": X @ X.T,
        "learned whitening, of the raw descriptors": learnt @ learnt.T,
        "OASIS": oasis.score(X, X),
        "DeepCosine": stages.cosine.model.score(X, X),
        "DeepSim": stages.pairs.model.score(X, X),
        "DeepSimH": stages.hard.model.score(X, X),
    }


def average_precision(scores: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Of every query with a positive; equal scores by row."""
    group = ids // 100
    queries = np.flatnonzero((ids % 100 == 0) & (np.bincount(group)[group] > 1))
    positives = [np.setdiff1d(np.flatnonzero(group == group[q]), [q]) for q in queries]
    order = np.argsort(-scores[queries], axis=1, kind="stable")
    return np.asarray(rectangle_ap(order, positives, junk=[[q] for q in queries]).ap)


def table(ap: dict[str, np.ndarray]) -> None:
    print("| similarity | mAP | against cosine | 95 % interval | p |\n|---|--:|--:|---|--:|")
    for name, scores in ap.items():
        c = compare(scores, ap["cosine"], seed=0)
        interval = "" if name == "cosine" else f"{100 * c.low:+.1f} to {100 * c.high:+.1f} | {c.p_value:.2g}"
        print(f"| {name} | {100 * c.mean_a:.1f} | {100 * c.difference:+.1f} | {interval or '| '} |")
    print("\n| first | second | difference | 95 % interval | p |\n|---|---|--:|---|--:|")
    names = [name for name in ap if name != "cosine, not whitened"]
    for i, first in enumerate(names):
        for second in names[:i]:
            c = compare(ap[first], ap[second], seed=0)
            print(
                f"| {first} | {second} | {100 * c.difference:+.1f} | {100 * c.low:+.1f} to {100 * c.high:+.1f} |",
                end="",
            )
            print(f" {c.p_value:.2g} |")


def draw(folder: Path, stages: DeepSimilarities, X: np.ndarray, group: np.ndarray) -> None:
    """Scores of DeepSim on pairs of unseen photos, and the losses of the three stages."""
    folder.mkdir(exist_ok=True)
    pairs = pairs_from_groups(group)
    x, y = X[pairs.left], X[pairs.right]
    products = np.einsum("nd,nd->n", x, y)
    for name, stage in (("DeepSim", stages.pairs), ("DeepSimH", stages.hard)):
        picture = learned_against_cosine(products, stage.model.pairs(x, y), pairs.matching, name=f"{name} score")
        (folder / f"similarity-{name.lower()}.png").write_bytes(picture)
    named = {"DeepCosine": stages.cosine, "DeepSim": stages.pairs, "DeepSimH": stages.hard}
    losses = {name: [(e.number, e.loss, e.validation) for e in one.epochs] for name, one in named.items()}
    (folder / "similarity-training.png").write_bytes(training_curves(losses))


if __name__ == "__main__":
    main()
