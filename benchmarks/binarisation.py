"""Mean average precision of ASMK's first stage on INRIA Holidays, by how residuals become bits: mean and spread.

    python benchmarks/binarisation.py ../shared/data/holidays/images [--seeds 10] [--rotations 3] [--work FOLDER]

One draw says little on so small a set, so that every row is the mean over codebooks (each with its own sample) and
rotations. Features are those of recipe `classic`, after a collection has stored them in a byte a dimension. `symmetric`
compares signatures by Hamming distance, `asymmetric` the query's three bits a dimension with them.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resight.evaluation.metrics import rectangle_ap
from resight.features.local.packed import pack, unpack
from resight.features.local.rootsift import RootSift
from resight.images.decode import decode
from resight.index.aggregation import Aggregated, aggregate
from resight.index.asmk import Asmk, Codebook
from resight.index.asmk_scoring import Kernel
from resight.index.binarisation import binarise, random_rotation, whitened_rotation

PLAIN = Kernel(asymmetric=False)


@dataclass(frozen=True, eq=False)
class Photos:
    """Photo numbers (N,), the photo of every descriptor (n,), descriptors (n, 128)."""

    numbers: np.ndarray
    rows: np.ndarray
    descriptors: np.ndarray

    @property
    def queries(self) -> np.ndarray:
        """Places of the query photos that have another view."""
        groups = np.bincount(self.numbers // 100)[self.numbers // 100]
        return np.flatnonzero((self.numbers % 100 == 0) & (groups > 1))


@dataclass(frozen=True, eq=False)
class World:
    """Aggregated residuals, not yet of unit length, of the photos, of the queries (rows 0..Q-1), and the codebook."""

    photos: Photos
    codebook: Codebook
    images: Aggregated
    queries: Aggregated

    def score(self, kernel: Kernel, images: np.ndarray, queries: np.ndarray) -> float:
        """mAP with these values in place of the residuals."""
        index = Asmk(self.codebook, binary=kernel.binary, asymmetric=kernel.asymmetric)
        index.add_aggregated(Aggregated(self.images.rows, self.images.words, images))
        asked = self.photos.queries
        found = index.search_aggregated(Aggregated(self.queries.rows, self.queries.words, queries), queries=len(asked))
        groups = self.photos.numbers // 100
        alike = [np.flatnonzero((groups == groups[row]) & (np.arange(len(groups)) != row)) for row in asked]
        return 100 * float(rectangle_ap(found.ids, alike, list(asked[:, None])).map)


Scores = Iterator[tuple[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--seeds", type=int, default=10, help="codebooks")
    parser.add_argument("--rotations", type=int, default=3, help="rotations for each codebook")
    parser.add_argument("--words", type=int, default=8192)
    parser.add_argument("--per-word", type=int, default=32, help="descriptors per word that a codebook learns from")
    parser.add_argument("--work", type=Path, help="keep features and codebooks in this folder")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    photos = read(options.photos, options.work)
    scores: dict[str, list[float]] = defaultdict(list)
    for seed in range(options.seeds):
        world = aggregated(photos, learn(photos, options.words, options.per_word, seed, options.work))
        for name in options.only:
            for label, score in VARIANTS[name](world, options.rotations):
                scores[label].append(score)
                print(f"codebook {seed}: {label} {score:.2f}", flush=True)
    print("\n| bits | draws | mean mAP | standard deviation | least |\n|---|--:|--:|--:|--:|")
    for label, found in scores.items():
        print(f"| {label} | {len(found)} | {np.mean(found):.2f} | {np.std(found):.2f} | {min(found):.2f} |")


def read(folder: Path, work: Path | None) -> Photos:
    """Features of the photos, kept in `work`."""
    kept = work / "features.npz" if work else None
    if kept and kept.exists():
        with np.load(kept) as file:
            return Photos(file["numbers"], file["rows"], file["descriptors"])
    paths, extract = sorted(folder.iterdir()), RootSift()
    features = [unpack(pack(extract(decode(path, max_side=extract.max_side).pixels))).descriptors for path in paths]
    rows = np.repeat(np.arange(len(paths)), [len(part) for part in features])
    photos = Photos(np.array([int(path.stem) for path in paths]), rows, np.concatenate(features))
    if kept:
        np.savez(kept, numbers=photos.numbers, rows=photos.rows, descriptors=photos.descriptors)
    return photos


def learn(photos: Photos, words: int, per_word: int, seed: int, work: Path | None) -> Codebook:
    """A codebook of a sample of its own, kept in `work`."""
    kept = work / f"words-{words}-{per_word}-{seed}.safetensors" if work else None
    if kept and kept.exists():
        return Codebook.load(kept)
    share = words * per_word / len(photos.descriptors)
    sample = photos.descriptors[np.random.default_rng(1000 + seed).random(len(photos.descriptors)) < share]
    codebook = Codebook.fit(sample, words, seed=seed, points_per_word=len(sample), rotate=False)
    if kept:
        codebook.save(kept)
    return codebook


def aggregated(photos: Photos, codebook: Codebook) -> World:
    """Residuals of photos (one word) and queries (five words)."""
    asked = np.isin(photos.rows, photos.queries)
    descriptors = np.ascontiguousarray(photos.descriptors[asked])
    images = aggregate(codebook, photos.rows, codebook.assign(photos.descriptors), photos.descriptors, binary=False)
    rows = np.searchsorted(photos.queries, photos.rows[asked])
    queries = aggregate(codebook, rows, codebook.assign(descriptors, 5), descriptors, binary=False)
    return World(photos, codebook, images, queries)


def full(world: World, _: int) -> Scores:
    yield "full precision", world.score(Kernel(binary=False), world.images.values, world.queries.values)


def signs(world: World, _: int) -> Scores:
    values = (binarise(part.values, None) for part in (world.images, world.queries))
    yield "plain signs, symmetric", world.score(PLAIN, *values)


def turned(name: str, make: Callable[[World, np.random.Generator], np.ndarray]) -> Callable[[World, int], Scores]:
    """Both comparisons after the matrices (D, D) that `make` gives."""

    def scores(world: World, rotations: int) -> Scores:
        for number in range(rotations):
            matrix = make(world, np.random.default_rng(number))
            images = binarise(world.images.values, matrix)
            for kernel, kind in ((PLAIN, "symmetric"), (Kernel(asymmetric=True), "asymmetric")):
                queries = binarise(world.queries.values, matrix, kernel.planes)
                yield f"{name}, {kind}", world.score(kernel, images, queries)

    return scores


def rotation(world: World, rng: np.random.Generator) -> np.ndarray:
    return random_rotation(world.codebook.dim, rng)


def whitening(world: World, rng: np.random.Generator) -> np.ndarray:
    return whitened_rotation(world.images.values, rng)


def balanced(world: World, rng: np.random.Generator) -> np.ndarray:
    """Principal axes mixed by a Hadamard matrix: every bit has the same variance (dimension a power of two)."""
    mixer, dim = np.ones((1, 1)), world.codebook.dim
    while len(mixer) < dim:
        mixer = np.block([[mixer, mixer], [mixer, -mixer]])
    axes = np.linalg.eigh(world.images.values.T @ world.images.values)[1]
    signs = rng.choice([-1, 1], dim)[:, None]
    return np.asarray(axes @ (signs * mixer[:, rng.permutation(dim)]) / dim**0.5, np.float32)


def iterative(world: World, rng: np.random.Generator, rounds: int = 30) -> np.ndarray:
    """ITQ (Gong et al., TPAMI 2013): the rotation is fitted to the corners of the cube, from a random start."""
    values, matrix = world.images.values, rotation(world, rng)
    values = values[rng.choice(len(values), min(len(values), 60_000), replace=False)]
    for _ in range(rounds):
        left, _, right = np.linalg.svd(values.T @ np.sign(values @ matrix))
        matrix = np.asarray(left @ right, np.float32)
    return matrix


VARIANTS: dict[str, Callable[[World, int], Scores]] = {
    "full": full,
    "signs": signs,
    "rotation": turned("random rotation", rotation),
    "whitening": turned("whitening, random rotation", whitening),
    "balanced": turned("balanced rotation", balanced),
    "itq": turned("ITQ", iterative),
}


if __name__ == "__main__":
    main()
