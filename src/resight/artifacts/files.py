"""Every file that a collection derives from its tables or learns, by name: the one list of them.

An artifact is written through the collection's `Writer`, so that it cannot happen without the lock; reading needs none.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from resight.errors import CollectionError
from resight.features.local.encoders import ENCODERS, kind_key
from resight.features.whitening import Whitening
from resight.index.asmk_files import check_segments
from resight.regular_files import read_regular
from resight.store.block_log import check_blocks
from resight.store.folder import DERIVED, derived_path, faults, write_atomic
from resight.store.mapped_vectors import check_vectors
from resight.store.remote import fetch, forget, present, remote
from resight.store.tensor_file import check_tensors
from resight.store.writer import Writer

_log = logging.getLogger(__name__)

T = TypeVar("T")
DAMAGED = ".damaged"  # ending of what a repair sets aside
LOG = ".log"  # ending of artifacts that grow
MOST_JSON = 1 << 24  # bytes


@dataclass(frozen=True)
class Artifact:
    """A file below `derived`: its `name`, what it `holds`, and the `command` that makes it again.

    `learned`: a user asked for it or taught it, so it is never deleted: a damaged one is set aside. Others every writer
    makes again by itself, or they belong to a run that was stopped.
    """

    name: str
    holds: str
    command: str
    learned: bool = False

    def path(self, folder: Path) -> Path:
        """Where it lies, which need not exist. Raises `CollectionError` when `derived` is a link to elsewhere."""
        if (folder / DERIVED).is_symlink():
            raise CollectionError(f"{folder / DERIVED} is a link: put a folder in its place")
        return derived_path(folder, self.name)

    def exists(self, folder: Path) -> bool:
        """Whether it is there. Raises `CollectionError` when the folder may not be read."""
        if (view := remote(folder)) is not None:
            return present(view, self.name)
        with faults("read", self.path(folder)):
            try:
                os.stat(self.path(folder))
            except FileNotFoundError:
                return False
        return True


INDEX, CHECK = "resight index", "resight check --repair"


@dataclass(frozen=True)
class LocalFiles:
    """The files of one kind of local features. `reduction` is what its descriptors were made with: without it no photo
    can be added or asked for, and it cannot be made again.
    """

    codebook: Artifact
    origin: Artifact
    inverted_file: Artifact
    confidence: Artifact
    reduction: Artifact


@dataclass(frozen=True)
class RefinedFiles:
    """The two files of a refined index: `codes`, and the `vectors` that it scores again."""

    codes: Artifact
    vectors: Artifact


def local_files(key: str = "") -> LocalFiles:
    """The files of the kind of that `key`, "" for the one that verifies."""
    start, of = (f"{key}_", f"{key} features") if key else ("", "local features")
    anew = "resight index into a new collection"
    return LocalFiles(
        Artifact(f"{start}codebook.safetensors", "visual words" + (f" of {of}" if key else ""), CHECK),
        Artifact(f"{start}codebook.json", "how many photos the codebook was learned from", "resight relearn"),
        Artifact(f"{start}asmk.safetensors", f"inverted file of {of}", CHECK),
        Artifact(f"{start}confidence.json", f"what unrelated photos score by {of}", CHECK),
        Artifact(f"{start}reduction.safetensors", f"reduction of {of}, learnt from photos", anew, learned=True),
    )


LOCAL = {key: local_files(key) for key in ("", *map(kind_key, ENCODERS))}
CODEBOOK, CODEBOOK_ORIGIN = LOCAL[""].codebook, LOCAL[""].origin
INVERTED_FILE, CONFIDENCE = LOCAL[""].inverted_file, LOCAL[""].confidence
WHITENING = Artifact("whitening.safetensors", "whitening of global descriptors", "resight fit whitening", learned=True)
VECTOR_LISTS = Artifact("vector_lists.safetensors", "approximate index of global descriptors", CHECK)
VECTORS_CODED = RefinedFiles(
    Artifact("vector_codes.safetensors", "codes of global descriptors", CHECK),
    Artifact("vectors.f16", "global descriptors in half precision", CHECK),
)
GRAPH_CODED = RefinedFiles(
    Artifact("graph_codes.safetensors", "codes that neighbours are searched with", "resight graph build"),
    Artifact("graph_vectors.f16", "descriptors that neighbours are searched with", "resight graph build"),
)
VECTOR_CONFIDENCE = Artifact("vector_confidence.json", "what unrelated photos score by global descriptors", CHECK)
VLAD = Artifact("vlad.safetensors", "VLAD: how local features become global descriptors", "resight graph build")
VLAD_VECTORS = Artifact("vlad_vectors.safetensors", "VLAD of the photos", "resight graph build")
GRAPH = Artifact("graph.safetensors", "kNN graph of similarities", "resight graph build", learned=True)
VERIFIED_GRAPH = Artifact(
    "verified_graph.safetensors", "kNN graph of inliers", "resight graph build --verified", learned=True
)
VERIFIED_LOG = Artifact("verified_graph.log", "verifications for an unfinished graph", "resight graph build --verified")
AUGMENTED_GRAPH = Artifact(
    "augmented_graph.safetensors",
    "kNN graph after verified augmentation",
    "resight graph build --augmented",
    learned=True,
)
OFFLINE = Artifact("offline_diffusion.safetensors", "off-line diffusion", "resight graph build --offline", learned=True)
SPECTRAL_BASIS = Artifact(
    "spectral_basis.safetensors", "eigenvectors of the graph", "resight graph build --spectral", learned=True
)
EMBEDDING = Artifact("manifold.safetensors", "manifold embedding", "resight graph build --manifold", learned=True)
REGIONS = Artifact("regions.safetensors", "regions of activation maps", "resight fit regions", learned=True)
TUNED = Artifact("tuned.json", "options of graph recipes", "resight graph tune", learned=True)
LABELS = Artifact("labelled.safetensors", "labelled photos", "resight label", learned=True)
FUSION = Artifact("fusion.json", "weights of what is kept of a photo", "resight fit fusion", learned=True)
SEPARATION = Artifact("separation.safetensors", "network of separation", "resight fit separation", learned=True)
SEPARATED = Artifact("refined.safetensors", "separated descriptors", "resight fit separation", learned=True)
SEPARATION_TRAINING = Artifact(
    "separation_training.safetensors", "training of a separation that was stopped", "resight fit separation"
)
SIMILARITY = Artifact("similarity.safetensors", "learned similarity", "resight fit similarity", learned=True)
FOLLOWED = Artifact("followed.json", "which state of the tables the artifacts follow", CHECK)
UNFINISHED = Artifact("unfinished.json", "what a writer that is at work, or was stopped, has to finish", CHECK)

ARTIFACTS = (
    *(getattr(one, part.name) for one in LOCAL.values() for part in fields(one)),
    WHITENING,
    VECTOR_LISTS,
    VECTORS_CODED.codes,
    VECTORS_CODED.vectors,
    GRAPH_CODED.codes,
    GRAPH_CODED.vectors,
    VECTOR_CONFIDENCE,
    VLAD,
    VLAD_VECTORS,
    GRAPH,
    VERIFIED_GRAPH,
    VERIFIED_LOG,
    AUGMENTED_GRAPH,
    OFFLINE,
    SPECTRAL_BASIS,
    EMBEDDING,
    REGIONS,
    TUNED,
    LABELS,
    FUSION,
    SEPARATION,
    SEPARATED,
    SEPARATION_TRAINING,
    SIMILARITY,
    FOLLOWED,
    UNFINISHED,
)


def read(artifact: Artifact, folder: Path, load: Callable[[Path], T]) -> T | None:
    """What `load` makes of the file, None where there is none.

    Raises `CollectionError`, with the command that makes it again, when it is damaged.
    """
    if not artifact.exists(folder):
        return None
    _bring(artifact, folder)
    _log.info("reading the %s of %s", artifact.holds, folder)
    try:
        return load(artifact.path(folder))
    except CollectionError as error:
        what = str(error).removesuffix(": build it again").removesuffix(": fit it again")
        raise type(error)(f"{what}: run {artifact.command} on {folder}") from error


def _bring(artifact: Artifact, folder: Path) -> None:
    """Fetch the file of a collection in a bucket, where it is not here yet."""
    if (view := remote(folder)) is not None:
        fetch(view, artifact.name)


def usable(artifact: Artifact, folder: Path, load: Callable[[Path], T]) -> T | None:
    """As `read`, but a file that cannot be used counts as missing, since it is about to be made again."""
    try:
        return read(artifact, folder, load)
    except CollectionError:
        return None


def place(writer: Writer, artifact: Artifact) -> Path:
    """Where the writer of a collection may write an artifact; its folder is made."""
    path = artifact.path(writer.folder)
    if path.suffix == LOG:  # which is continued
        _bring(artifact, writer.folder)
    with faults("make", path.parent):
        path.parent.mkdir(exist_ok=True)
    return path


def remove(writer: Writer, *artifacts: Artifact) -> None:
    """Delete artifacts, where they are there."""
    for artifact in artifacts:
        with faults("delete", artifact.path(writer.folder)):
            artifact.path(writer.folder).unlink(missing_ok=True)
        if (view := remote(writer.folder)) is not None:
            forget(view, artifact.name)


def write_json(writer: Writer, artifact: Artifact, content: Any) -> None:
    """Write JSON with its checksum, whole or not at all."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    whole = {"crc32": zlib.crc32(text.encode()), "content": content}
    write_atomic(place(writer, artifact), json.dumps(whole, allow_nan=False).encode())


def read_json(path: Path) -> Any:
    """What `write_json` wrote. Raises `CollectionError` when it is damaged."""
    with faults("read", path):
        text = read_regular(path, MOST_JSON)
    try:
        whole = json.loads(text)
        content = whole["content"]
        if zlib.crc32(json.dumps(content, sort_keys=True).encode()) != whole["crc32"]:
            raise ValueError("its checksum is wrong")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CollectionError(f"{path} is damaged ({error})") from error
    return content


def damaged(folder: Path) -> Iterator[tuple[Artifact, str]]:
    """The artifacts that cannot be read or fail their checksum, and what is wrong."""
    for artifact in ARTIFACTS:
        try:
            if artifact.exists(folder):
                _bring(artifact, folder)
                _check(artifact)(artifact.path(folder))
        except CollectionError as error:
            yield artifact, str(error)


def set_aside(writer: Writer, artifact: Artifact) -> str:
    """Take a damaged artifact out of the way and say what was done: what was learned is kept under another name."""
    path = artifact.path(writer.folder)
    if not artifact.learned:
        remove(writer, artifact)
        return f"{artifact.name} was deleted: it is made again"
    aside = path.with_name(path.name + DAMAGED)
    number = 1
    while aside.exists():  # what an earlier repair set aside is a user's, too
        number += 1
        aside = path.with_name(f"{path.name}{DAMAGED}-{number}")
    with faults("move", path):
        os.replace(path, aside)
    return f"{artifact.name} was renamed to {aside.name}: {artifact.command} makes it again"


def _check(artifact: Artifact) -> Callable[[Path], Any]:
    """What reads a file of this kind whole, and raises `CollectionError` when it is not what was written."""
    if artifact is WHITENING:
        return Whitening.load
    if artifact in [one.inverted_file for one in LOCAL.values()]:
        return check_segments
    checks: dict[str, Callable[[Path], Any]] = {".json": read_json, LOG: check_blocks, ".f16": check_vectors}
    return checks.get(Path(artifact.name).suffix, check_tensors)
