"""One collection into shards of about equal size; nothing is extracted again."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import numpy as np

from resight.artifacts import files
from resight.cluster.layout import HEAD, Layout, read_layout, write_layout
from resight.collection.open import open_collection
from resight.collection.snapshot import Snapshot
from resight.collection.update import begin, bring_up_to_date
from resight.errors import UsageError
from resight.features.local.encoders import ENCODERS, kind_key
from resight.index.codebook import Codebook
from resight.progress import Progress, silent
from resight.store.folder import faults
from resight.store.records import GLOBAL, local_batch
from resight.store.tables import create
from resight.store.writer import Writer, writing
from resight.types import Int64

BLOCK = 256  # photos copied at a time
SHARED = (
    *(getattr(files.LOCAL[key], part) for key in ("", *map(kind_key, ENCODERS))
      for part in ("codebook", "confidence", "reduction")),
    files.WHITENING,
    files.VECTOR_CONFIDENCE,
    files.FUSION,
)  # fmt: skip


def split(
    path: str | os.PathLike[str], to: str | os.PathLike[str], shards: int, *, progress: Progress = silent
) -> Layout:
    """Copy the collection at `path` into a new folder `to` of so many `shards`, each an ordinary collection of
    neighbouring rows, all with the codebooks, the calibration and the whitening of the whole.

    Raises `UsageError` when `to` is taken, there are fewer photos than shards, or a run over the collection was
    stopped. Peak memory: the features of 256 photos and the inverted file of one shard.
    """
    source = open_collection(path).snapshot
    rows, folder = source.tables.rows, Path(os.path.abspath(os.fspath(to)))
    if not 1 <= shards <= max(len(rows), 1):
        raise UsageError(f"{shards} shards of {len(rows)} photos: give a number from 1 to {max(len(rows), 1)}")
    if not source.finished:
        raise UsageError(f"a run over {source.path} was stopped: finish it with resight index, then split")
    if os.path.lexists(folder):
        raise UsageError(f"{folder} exists already: choose another name for the shards")
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    names = [f"{number:04d}.resight" for number in range(shards)]
    try:
        with faults("make", folder):
            scratch.mkdir()
        _new(source, scratch / HEAD)
        for name, part in zip(names, np.array_split(rows, shards), strict=True):
            _new(source, scratch / name)
            _fill(source, scratch / name, part)
            progress("copying photos", int(np.searchsorted(rows, part[-1])) + 1 if len(part) else 0, len(rows))
        write_layout(scratch, names)
        with faults("make", folder):
            os.rename(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return read_layout(folder)


def _new(source: Snapshot, folder: Path) -> None:
    """An empty collection made as `source`, with what all shards share."""
    dim = source.tables.dim
    create(folder, source.stamp, dim, source.settings.further)
    with writing(folder, "split") as writer:
        for artifact in SHARED:
            if artifact.exists(source.path):
                with faults("copy", artifact.path(source.path)):
                    shutil.copyfile(artifact.path(source.path), files.place(writer, artifact))


def _fill(source: Snapshot, folder: Path, rows: Int64) -> None:
    """Photos `rows` of `source` into an empty shard, and its inverted files."""
    with writing(folder, "split") as writer:
        target = open_collection(folder).snapshot
        begin(writer, target)
        for start in range(0, len(rows), BLOCK):
            _copy(source, writer, rows[start : start + BLOCK])
        bring_up_to_date(writer, target, codebooks=codebooks(target), whitening=target.whitening)


def codebooks(snapshot: Snapshot) -> dict[str, Codebook]:
    """The codebooks that lie in a collection, by the key of their kind; given ones are never learned anew."""
    found = {key: files.read(files.LOCAL[key].codebook, snapshot.path, Codebook.load) for key in snapshot.kinds}
    return {key: codebook for key, codebook in found.items() if codebook is not None}


def _copy(source: Snapshot, writer: Writer, rows: Int64) -> None:
    tables, first = source.tables, writer.next_row
    names = [name for name in tables.images_dataset.schema.names if name != GLOBAL or tables.dim is not None]
    images = tables.find("row", rows.tolist(), names)
    new = np.arange(first, first + len(images))
    column = images.schema.get_field_index("row")
    images = images.set_column(column, images.schema.field("row"), [new])
    decoded = images["error_kind"].is_null().to_numpy()
    old = rows[decoded]
    features = {key: (tables.counts(old, key).tolist(), tables.local(old, key)) for key in ("", *tables.kinds)}
    counts, packed = features.pop("")
    writer.append_photos(images, local_batch(new[decoded].tolist(), counts, packed, features))
