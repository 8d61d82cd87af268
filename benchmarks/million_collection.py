"""What a large collection costs to open, to add to, to search and to tidy, as a Markdown table.

    python benchmarks/million_collection.py [--photos 1000000] [--dim 512] [--folder DIR] [--keep]

The photos are made up: rows of metadata and features of 64 random bytes, written as any writer writes them, 2048 at a
time, and the global descriptors of random places beside 1000 centres as an index of their own beside the tables. What
is timed is the work of the store alone: no photo is decoded, and no artifact is made. Each step that opens the
collection runs in a process of its own, whose peak memory is that of the step with Python and all libraries.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa

from resight.collection.ingest import missing_files
from resight.collection.open import open_collection
from resight.store.records import IMAGES_SCHEMA, local_batch
from resight.store.stamp import new_stamp
from resight.store.tables import create, open_tables
from resight.store.writer import ROWS_PER_FRAGMENT, Writer, writing

Times = tuple[float, float]  # seconds by the clock, and of the processors

ADDED, ASKED, REPEATS = 64, 100, 20
START = datetime(2005, 1, 1, tzinfo=UTC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512, help="of the global descriptors that are searched by")
    parser.add_argument("--folder", help="where to build, on the disk to be measured")
    parser.add_argument("--keep", action="store_true", help="build in FOLDER itself, or measure what was built there")
    options = parser.parse_args()
    if options.keep:
        report(Path(options.folder), options.photos, options.dim)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        report(Path(scratch), options.photos, options.dim)


def report(scratch: Path, photos: int, dim: int) -> None:
    folder = scratch / "bench.resight"
    print(f"{photos} photos\n\n| what | time | of the processors | peak memory, MB |\n|---|---|---|---|", flush=True)
    if not folder.exists():
        step("write all, 2048 at a time, with indices", fill, folder, photos)
    step("import the libraries", nothing, folder, photos)
    step("open", opened, folder, photos)
    step("open, then find one id", one_id, folder, photos)
    step("an id, later", ids, folder, photos)
    step("a path, later", paths, folder, photos)
    step(f"records of {ASKED} random rows, later", records, folder, photos)
    step(f"features of {ASKED} random rows, later", features, folder, photos)
    step("condition on date and tag", condition, folder, photos, "taken_at > '2019-06' AND array_has(tags, 'tag 7')")
    step("condition on part of the path", condition, folder, photos, "contains(uri, 'IMG_00012')")
    step("condition on size, a tenth of all", condition, folder, photos, f"size < {photos // 10}")
    step(f"search by vector of {dim}, results read", vectors, folder, photos, dim, scratch / "vectors.faiss")
    step(f"add {ADDED}", added, folder, photos)
    step(f"replace {ADDED}", replaced, folder, photos)
    step(f"remove {ADDED}", removed, folder, photos)
    step("tidy: compact, index, drop old states", tidied, folder, photos)
    step("ids of files that are gone, streamed", missing, folder, photos)
    print(f"\n{disk_use(folder):.0f} MB on disk, of which scalar indices {disk_use(folder, '_indices'):.0f} MB", end="")
    fragments = len(open_tables(folder).images_dataset.get_fragments())
    print(f"; {fragments} fragments of `images`")


def step(name: str, work: Callable[..., Times], *arguments: object) -> None:
    """Run it in a process of its own, and print a row of the table."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        times, peak = pool.apply(measured, (work, arguments))
    clock, processor = map(shown, times)
    print(f"| {name} | {clock} | {processor} | {peak:.0f} |", flush=True)


def shown(seconds: float) -> str:
    return "" if np.isnan(seconds) else f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def measured(work: Callable[..., Times], arguments: tuple[object, ...]) -> tuple[Times, float]:
    """The times that `work` gives, and the peak memory of its process in MB, which getrusage would not tell: there it
    begins with that of the process that started it.
    """
    times = work(*arguments)
    (peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return times, int(peak) / 1024


def batch(first: int, last: int, total: int) -> tuple[pa.Table, pa.Table]:
    """Both tables of made-up photos."""
    rows = np.arange(first, last)
    names = [f"trip {row // 1000:04d}/IMG_{row:08d}.jpg" for row in rows.tolist()]
    taken = [(START + timedelta(minutes=(row * 7919) % 10_000_000)).isoformat() for row in rows.tolist()]
    broken = [None if row % 1000 else "truncated" for row in rows.tolist()]
    columns = {
        "row": rows,
        "id": names,
        "uri": [f"/photos/{name}" for name in names],
        "path_bytes": [f"/photos/{name}".encode() for name in names],
        "root": ["/photos"] * len(rows),
        "sha256": [hashlib.sha256(name.encode()).hexdigest() for name in names],
        "size": (rows * 7919) % total,
        "mtime_ns": rows,
        "width": np.full(len(rows), 1024),
        "height": np.full(len(rows), 768),
        "taken_at": taken,
        "error_kind": broken,
        "error": broken,
        "tags": [[f"tag {row % 50}"] if row % 3 == 0 else [] for row in rows.tolist()],
    }
    images = pa.table([pa.array(columns[f.name], f.type) for f in IMAGES_SCHEMA], schema=IMAGES_SCHEMA)
    noise = np.random.default_rng(first)
    decoded = rows[rows % 1000 != 0]
    return images, local_batch(decoded, np.full(len(decoded), 1), [noise.bytes(64) for _ in decoded])


def fill(folder: Path, photos: int) -> Times:
    create(folder, new_stamp("classic", {}, {}))

    def work(writer: Writer) -> None:
        for first in range(0, photos, ROWS_PER_FRAGMENT):
            writer.append_photos(*batch(first, min(first + ROWS_PER_FRAGMENT, photos), photos))

    return write(folder, work)


def nothing(*_: object) -> Times:
    return float("nan"), time.process_time()  # it began before any clock of ours


def opened(folder: Path, *_: object) -> Times:
    return timed(lambda: open_collection(folder))


def one_id(folder: Path, photos: int) -> Times:
    return timed(lambda: open_collection(folder).snapshot.row_of(names(photos, 1)[0]))


def ids(folder: Path, photos: int) -> Times:
    snapshot = open_collection(folder).snapshot
    return median([timed(lambda name=name: snapshot.row_of(name)) for name in names(photos, REPEATS)])


def paths(folder: Path, photos: int) -> Times:
    tables = open_collection(folder).snapshot.tables
    files = [f"/photos/{name}".encode() for name in names(photos, REPEATS)]
    return median([timed(lambda file=file: tables.find("path_bytes", [file], ["row"])) for file in files])


def records(folder: Path, photos: int) -> Times:
    snapshot = open_collection(folder).snapshot
    return median([timed(lambda rows=rows: snapshot.photos(rows)) for rows in picks(photos)])


def features(folder: Path, photos: int) -> Times:
    tables = open_collection(folder).snapshot.tables
    return median([timed(lambda rows=rows: tables.local(rows)) for rows in picks(photos)])


def condition(folder: Path, _: int, where: str) -> Times:
    snapshot = open_collection(folder).snapshot
    return median([timed(lambda: snapshot.rows_where(where)) for _ in range(REPEATS)])


def vectors(folder: Path, photos: int, dim: int, file: Path) -> Times:
    """An IVF of scalars over made-up descriptors, mapped; a search and the records of its results."""
    if not file.exists():
        build_vectors(file, photos, dim)
    index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP)
    snapshot = open_collection(folder).snapshot
    queries = np.random.default_rng(9).standard_normal((REPEATS, dim), np.float32)
    return median([timed(lambda one=one: snapshot.photos(index.search(one[None], ASKED)[1][0])) for one in queries])


def build_vectors(file: Path, photos: int, dim: int) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, dim), np.float32)
    index = faiss.index_factory(dim, f"IVF{max(16, int(photos**0.5) // 4)},SQ8")
    for first in range(0, photos, 65_536):
        count = min(65_536, photos - first)
        part = centres[rng.integers(0, 1000, count)] + rng.standard_normal((count, dim), np.float32)
        if not index.is_trained:
            index.train(part)
        index.add(part)
    faiss.write_index(index, str(file))


def added(folder: Path, photos: int) -> Times:
    return write(folder, lambda writer: writer.append_photos(*batch(writer.next_row, writer.next_row + ADDED, photos)))


def replaced(folder: Path, photos: int) -> Times:
    def work(writer: Writer) -> None:
        images, local = batch(writer.next_row, writer.next_row + ADDED, photos)
        ids = pa.array([f"trip {row // 1000:04d}/IMG_{row:08d}.jpg" for row in range(ADDED)])
        writer.append_photos(images.set_column(images.schema.get_field_index("id"), "id", ids), local)

    return write(folder, work)


def removed(folder: Path, photos: int) -> Times:
    return write(folder, lambda writer: writer.remove_rows(picks(photos, ADDED)[0]))


def tidied(folder: Path, *_: object) -> Times:
    return write(folder, lambda writer: writer.tidy())


def missing(folder: Path, *_: object) -> Times:
    return timed(lambda: missing_files(open_collection(folder).snapshot.tables))


def write(folder: Path, work: Callable[[Writer], object]) -> Times:
    """From asking for the lock to giving it back."""

    def locked() -> None:
        with writing(folder, "benchmark") as writer:
            work(writer)

    return timed(locked)


def names(photos: int, count: int) -> list[str]:
    rows = np.random.default_rng(3).integers(0, photos, count).tolist()
    return [f"trip {row // 1000:04d}/IMG_{row:08d}.jpg" for row in rows]


def picks(photos: int, count: int = ASKED) -> list[np.ndarray]:
    """Random rows that were decoded."""
    rng = np.random.default_rng(4)
    return [np.unique(rng.integers(0, photos // 1000, count) * 1000 + 1 + k) for k in range(REPEATS)]


def timed(work: Callable[[], object]) -> Times:
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def median(times: list[Times]) -> Times:
    clock, processor = np.median(times, axis=0).tolist()
    return clock, processor


def disk_use(folder: Path, within: str = "") -> float:
    """MB of the files below a folder whose path holds `within`."""
    files = (path for path in folder.rglob("*") if path.is_file() and within in (*path.parts, ""))
    return sum(path.stat().st_size for path in files) / 1e6


if __name__ == "__main__":
    main()
