"""How fast a collection is read and written, as a Markdown table.

    python benchmarks/store.py [--images 20000] [--bytes 140000] [--folder DIR]

The baseline of reading is one plain file of all features, at known offsets, read with `os.pread` in the same run and
on the same disk; that of writing is the same bytes appended to that file. The files are then in the page cache.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from resight.store.records import Photo, images_batch, local_batch
from resight.store.stamp import new_stamp
from resight.store.tables import Tables, create, open_tables
from resight.store.writer import writing

BATCH = 64
READ = 100
REPEATS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=140_000, help="of packed features per image")
    parser.add_argument("--folder", help="where to build, on the disk to be measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        report(Path(scratch), options.images, options.bytes)


def report(scratch: Path, images: int, size: int) -> None:
    folder, plain = scratch / "bench.resight", scratch / "plain"
    write_plain, write_store = fill(folder, plain, images, size)
    rng = np.random.default_rng(0)
    picks = [rng.choice(images, READ, replace=False) for _ in range(REPEATS)]
    tables = open_tables(folder)
    tables.local(picks[0])  # reads the row numbers once, as a session does
    read_store = median(lambda k: tables.local(picks[k]))
    read_plain = median(lambda k: read_offsets(plain, picks[k], size))
    first = median(lambda k: open_tables(folder).local(picks[k]))
    scan = median(lambda _: open_tables(folder).images(["row", "id"]))
    print(f"{images} images, {size} bytes of features each, appended {BATCH} at a time\n")
    print("| what | resight.store | plain file | ratio |\n|---|---|---|---|")
    print(f"| write all, s | {write_store:.1f} | {write_plain:.1f} | {write_store / write_plain:.1f} |")
    print(f"| read {READ} random images, ms | {read_store:.1f} | {read_plain:.1f} | {read_store / read_plain:.1f} |")
    print(f"| open, then read {READ} random images, ms | {first:.1f} | | |")
    print(f"| open, then read all ids, ms | {scan:.1f} | | |")
    print(f"| size on disk, MB | {disk_use(folder):.0f} | {disk_use(plain):.0f} | |")
    print(f"| fragments of `local` | {fragments(tables)} | | |")


def fill(folder: Path, plain: Path, images: int, size: int) -> tuple[float, float]:
    """Write both; their seconds: plain file, store."""
    noise = np.random.default_rng(1)
    plain_time = store_time = 0.0
    create(folder, new_stamp("benchmark", {}, {}))
    with open(plain, "wb") as file, writing(folder, "benchmark") as writer:
        for start in range(0, images, BATCH):
            rows = list(range(start, min(start + BATCH, images)))
            packed = [noise.bytes(size) for _ in rows]
            began = time.perf_counter()
            file.writelines(packed)
            half = time.perf_counter()
            photos = [Photo(row, f"photo-{row}.jpg", f"/photos/{row}.jpg", "/photos", "0" * 64, 0, 0) for row in rows]
            writer.append_photos(images_batch(photos), local_batch(rows, [1000] * len(rows), packed))
            plain_time += half - began
            store_time += time.perf_counter() - half
    return plain_time, store_time


def read_offsets(path: Path, rows: np.ndarray, size: int) -> list[bytes]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [os.pread(descriptor, size, row * size) for row in rows.tolist()]
    finally:
        os.close(descriptor)


def median(run: Callable[[int], object]) -> float:
    """Median milliseconds of `REPEATS` runs."""
    times = []
    for k in range(REPEATS):
        began = time.perf_counter()
        run(k)
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times))


def disk_use(path: Path) -> float:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def fragments(tables: Tables) -> int:
    return len(tables.local_dataset.get_fragments())


if __name__ == "__main__":
    main()
