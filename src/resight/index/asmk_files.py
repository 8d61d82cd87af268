"""An inverted file on disk: one small file that lists the segments and what is dead in them, and a file a segment.

The files of segments lie in a folder beside, are named by their content, never change, and are mapped into memory: an
index opens at once, and processes share its pages. Adding photos writes new segments only, removing none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from resight.errors import ArrayError, CollectionError
from resight.index.inverted import IMAGES_PER_SEGMENT, Segment, from_plain
from resight.store.folder import faults
from resight.store.remote import PARTS
from resight.store.tensor_file import check_tensors, map_tensors, read_tensors, write_tensors

FORMAT = "resight-asmk-3"
PLAIN_FORMAT = "resight-asmk-2"  # all segments in one file, image numbers and signatures as they are
FORMATS = (FORMAT, PLAIN_FORMAT)
LISTS_FORMAT = "resight-asmk-lists-1"
PLAIN_ARRAYS = ("rows", "offsets", "images", "values")
T = TypeVar("T")


def lists_folder(path: str | Path) -> Path:
    """The folder of the segments of the inverted file at `path`. Raises `CollectionError` when it is a link."""
    folder = Path(path).with_suffix(PARTS)
    if folder.is_symlink():
        raise CollectionError(f"{folder} is a link: put a folder in its place")
    return folder


def write_segments(path: str | Path, segments: tuple[Segment, ...], stamp: dict[str, str]) -> list[Segment]:
    """Write what is not on disk yet, then the list, then delete files of segments that it does not name.

    Gives the segments, mapped. A reader that has the old list open keeps what it has mapped. Peak memory: twice the
    largest new segment.
    """
    folder = lists_folder(path)
    there = set(folder.glob("*.safetensors"))  # another writer may have deleted some that are mapped
    kept = [one if one.file in there else _write(folder, one) for one in segments]
    names = [segment.file.name for segment in kept if segment.file]
    dead = {f"dead.{number}": np.flatnonzero(segment.dead) for number, segment in enumerate(kept)}
    write_tensors(path, FORMAT, dead, {**stamp, "segments": json.dumps(names)})
    if folder.is_dir():
        with faults("clean", folder):
            for file in (*folder.glob("*.safetensors"), *folder.glob("*.part")):
                if file.name not in names:
                    file.unlink(missing_ok=True)
    return kept


def read_segments(path: str | Path, bits: int, build: Callable[[list[Segment], dict[str, str]], T]) -> T:
    """Give `build` the segments and the stamp of the inverted file at `path`, and return what it makes of them.

    A file of the format before is read whole, and its segments are in memory. Raises as `read_tensors`; a list file
    that is missing, cut or damaged is named.
    """

    def restore(tensors: dict[str, Any], stamp: dict[str, str]) -> T:
        if stamp["format"] == PLAIN_FORMAT:
            count = len(tensors) // len(PLAIN_ARRAYS)
            plain = [{name: tensors[f"{number}.{name}"] for name in PLAIN_ARRAYS} for number in range(count)]
            return build([from_plain(**arrays, bits=bits) for arrays in plain], stamp)
        return build([_map(path, name, tensors[f"dead.{i}"]) for i, name in enumerate(_names(stamp))], stamp)

    seen = _listed(path)
    try:
        return read_tensors(path, FORMATS, restore)
    except CollectionError:
        if _listed(path) == seen:
            raise
        return read_tensors(path, FORMATS, restore)  # a writer replaced the list before its segments were open


def check_segments(path: str | Path) -> None:
    """Read an inverted file and its segments whole. Raises `CollectionError` when one is missing or damaged."""
    check_tensors(path)
    for name in _listed(path):
        check_tensors(lists_folder(path) / name)


def _listed(path: str | Path) -> list[str]:
    return read_tensors(path, FORMATS, lambda _, stamp: _names(stamp))


def _names(stamp: dict[str, str]) -> list[str]:
    names = json.loads(stamp.get("segments", "[]"))
    if not all(isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors") for name in names):
        raise ValueError("it names no files of segments")
    return list(names)


def _stored(segment: Segment) -> dict[str, NDArray[Any]]:
    """The arrays of a segment as its file holds them: runs of rows, numbers of postings and of bits for each word."""
    first = np.flatnonzero(np.diff(segment.rows, prepend=-2) != 1)
    return {
        "runs": segment.rows[first],
        "run_lengths": np.diff(np.append(first, len(segment.rows))),
        "sizes": _small(segment.sizes),
        "counts": _small(np.diff(segment.offsets)),
        "lengths": _small(np.diff(segment.begins)),
        "codes": segment.codes,
        "values": segment.values,
    }


def _restored(tensors: dict[str, Any], file: Path) -> Segment:
    """The segment of the arrays in its file. Raises `ArrayError`, `KeyError` or `ValueError` when they are not one."""
    runs, lengths = tensors["runs"], tensors["run_lengths"]
    if len(runs) != len(lengths) or (lengths < 1).any() or lengths.sum() > IMAGES_PER_SEGMENT:
        raise ArrayError("the rows of a segment are no runs of 1 to 65536 in all")
    before = np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = np.repeat(runs, lengths) + np.arange(len(before)) - before
    starts = {name: np.append(0, np.cumsum(tensors[name], dtype=np.uint64)) for name in ("counts", "lengths")}
    if max(int(each[-1]) for each in starts.values()) >= 1 << 32:
        raise ArrayError("the lists of a segment are too long")
    return Segment(
        rows,
        tensors["sizes"].astype(np.uint32),
        starts["counts"].astype(np.uint32),
        starts["lengths"].astype(np.uint32),
        tensors["codes"],
        tensors["values"],
        np.zeros(len(rows), bool),
        file,
    )


def _small(numbers: NDArray[np.uint32]) -> NDArray[Any]:
    """In 16 bits where they fit."""
    return numbers.astype(np.uint16 if numbers.max(initial=0) < 1 << 16 else np.uint32)


def _write(folder: Path, segment: Segment) -> Segment:
    tensors = _stored(segment)
    digest = hashlib.blake2b(digest_size=16)
    for array in tensors.values():
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    file = folder / f"{digest.hexdigest()}.safetensors"
    with faults("write", folder):
        folder.mkdir(exist_ok=True)
    write_tensors(file, LISTS_FORMAT, tensors, {})
    return replace(_open(file), dead=segment.dead)


def _map(path: str | Path, name: str, dead: NDArray[Any]) -> Segment:
    file = lists_folder(path) / name
    opened = _open(file)
    if dead.dtype != np.int64 or (len(dead) and not 0 <= dead.min() <= dead.max() < len(opened.rows)):
        raise ArrayError(f"the dead images of {name} lie outside it")
    marked = np.zeros(len(opened.rows), bool)
    marked[dead] = True
    return replace(opened, dead=marked)


def _open(file: Path) -> Segment:
    return map_tensors(file, LISTS_FORMAT, lambda tensors, _: _restored(tensors, file))
