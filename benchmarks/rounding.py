"""How far float32 inner products of unit vectors differ between processors, and what half precision does to them.

    python benchmarks/rounding.py [--rows 600]

Runs itself once for every kernel of OpenBLAS below, which compute as those processors do, and prints a Markdown table
of the largest differences. `resight.ties` takes candidates within three tolerances, above the second.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np

KERNELS = ("Prescott", "Haswell", "SkylakeX", "Zen")
DIMENSIONS = (64, 512, 2048)


def unit_rows(rows: int, dim: int) -> np.ndarray:
    """Few large values and many small ones, none negative, as pooled activations are."""
    vectors = np.abs(np.random.default_rng(dim).standard_normal((rows, dim), np.float32)) ** 3
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def products(rows: int, path: Path) -> None:
    """Write the products of all pairs, as one matrix and one query at a time."""
    for dim in DIMENSIONS:
        vectors = unit_rows(rows, dim)
        np.save(path / f"matrix{dim}.npy", vectors @ vectors.T)
        np.save(path / f"single{dim}.npy", np.stack([vectors @ query for query in vectors]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--to", type=Path, help="write products for the kernel that is set, and print nothing")
    options = parser.parse_args()
    if options.to is not None:
        products(options.rows, options.to)
        return
    with tempfile.TemporaryDirectory() as name:
        for kernel in KERNELS:
            (Path(name) / kernel).mkdir()
            command = [sys.executable, __file__, "--rows", str(options.rows), "--to", str(Path(name) / kernel)]
            subprocess.run(command, check=True, env={**os.environ, "OPENBLAS_CORETYPE": kernel.upper()})
        print("| dimensions | between kernels | from the exact product | by half precision |\n|---|---|---|---|")
        for dim in DIMENSIONS:
            vectors = unit_rows(options.rows, dim)
            exact, half = vectors.astype(float), vectors.astype(np.float16).astype(float)
            exact, half = exact @ exact.T, half @ half.T
            files = [Path(name) / kernel / f"{form}{dim}.npy" for kernel in KERNELS for form in ("matrix", "single")]
            found = [np.load(file) for file in files]
            between = max(np.abs(a - b).max() for a, b in combinations(found, 2))
            off = max(np.abs(one - exact).max() for one in found)
            print(f"| {dim} | {between:.1e} | {off:.1e} | {np.abs(half - exact).max():.1e} |")


if __name__ == "__main__":
    main()
