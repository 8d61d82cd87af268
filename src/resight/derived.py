"""What a collection derives from its features and can rebuild: codebook, inverted file, calibration."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from resight.errors import CollectionError, StampMismatch
from resight.features.local_features import unpack, unpack_compact
from resight.index.asmk import Asmk, Codebook, words_for
from resight.progress import Progress, silent
from resight.ranking.confidence import CHANGE, UNKNOWN, Bonus, Confidence, calibrate
from resight.ranking.search import stack
from resight.ranking.settings import ClassicSettings
from resight.ranking.verification import Verifier
from resight.store.folder import derived_path, faults, write_atomic
from resight.store.tables import Tables
from resight.types import Float32, Int64, LocalFeatures

T = TypeVar("T")

CODEBOOK = "codebook.safetensors"
INVERTED_FILE = "asmk.safetensors"
CONFIDENCE = "confidence.json"
DESCRIPTORS_PER_WORD = 32  # of the training sample
SAMPLED_PHOTOS = 20_000  # from which the training sample is drawn
OUTGROWN = 4  # the codebook is learnt anew when the collection asks for so many times its words
BLOCK = 256  # photos added to the inverted file at a time
SAVE_EVERY = 4096  # photos after which the growing inverted file is written, so that a killed run loses little


@dataclass(frozen=True, eq=False)
class Derived:
    """The derived state of a collection: its inverted file (None while nothing is indexed) and its calibration."""

    index: Asmk | None
    confidence: Confidence


def load_derived(folder: Path, settings: ClassicSettings) -> Derived:
    """Read the derived files. Missing ones give an empty state; raises `CollectionError` when one is damaged."""
    codebook = _optional(derived_path(folder, CODEBOOK), Codebook.load)
    if codebook is None:
        return Derived(None, UNKNOWN)
    index = _optional(derived_path(folder, INVERTED_FILE), lambda path: Asmk.load(path, codebook))
    if index is not None and index.kernel != settings.index(codebook).kernel:
        raise StampMismatch(f"the inverted file of {folder} has other settings than its stamp: run resight check on it")
    return Derived(index, _optional(derived_path(folder, CONFIDENCE), read_confidence) or UNKNOWN)


def sync(
    tables: Tables,
    settings: ClassicSettings,
    *,
    codebook: Codebook | None = None,
    bonus: Bonus | None = None,
    progress: Progress = silent,
) -> Derived:
    """Bring the derived files up to the features in `tables`; does nothing where they are. Damaged files are rebuilt.

    `codebook`: one to use instead of learning one. `bonus`: as for `calibrate`. The caller must be the collection's
    only writer.
    Peak memory: the training sample (half a kilobyte a descriptor, 32 per word) or the inverted file.
    """
    folder = tables.folder
    if codebook is not None:
        codebook.save(derived_path(folder, CODEBOOK))
    codebook = codebook or _codebook(tables, settings, progress)
    if codebook is None:
        return Derived(None, UNKNOWN)
    index = _current_index(folder, codebook, settings)
    gone, new = _difference(index, tables)
    if len(gone) + len(new) > CHANGE * (len(index) + len(new) - len(gone)):
        # Before the index changes on disk: a run that is killed must not leave the old calibration beside it.
        derived_path(folder, CONFIDENCE).unlink(missing_ok=True)
    _follow(index, tables, gone, new, progress)
    if len(gone) or len(new) or not derived_path(folder, INVERTED_FILE).exists():
        index.save(derived_path(folder, INVERTED_FILE))
    confidence = _rebuildable(derived_path(folder, CONFIDENCE), read_confidence)
    if confidence is None or not confidence.fits(len(index), codebook.fingerprint):
        progress("calibrating", 0, 1)
        confidence = calibrate(index, verifier(tables), bonus=bonus)
        write_confidence(derived_path(folder, CONFIDENCE), confidence)
        progress("calibrating", 1, 1)
    return Derived(index, confidence)


def verifier(tables: Tables) -> Verifier:
    """A `Verifier` over the stored features."""
    return Verifier(
        lambda rows: features_of(tables, rows),
        lambda rows: [unpack_compact(packed) for packed in tables.local(rows)],
    )


def features_of(tables: Tables, rows: Int64) -> list[LocalFeatures]:
    """The local features of `rows` (n,) int64, in that order."""
    return [unpack(packed) for packed in tables.local(rows)]


def write_confidence(path: Path, confidence: Confidence) -> None:
    """Write a calibration, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, json.dumps(asdict(confidence)).encode())


def read_confidence(path: Path) -> Confidence:
    """Read what `write_confidence` wrote. Raises `CollectionError` when it is not that."""
    with faults("read", path):
        text = path.read_bytes()
    try:
        confidence = Confidence(**json.loads(text))
        numbers = (confidence.location, confidence.scale, confidence.threshold, confidence.pairs)
        if not all(np.isfinite(numbers)) or confidence.scale <= 0:
            raise ValueError("it holds impossible numbers")
    except (ValueError, TypeError) as error:
        raise CollectionError(f"{path} is damaged ({error}): run resight check --repair on the collection") from error
    return confidence


def _codebook(tables: Tables, settings: ClassicSettings, progress: Progress) -> Codebook | None:
    """The collection's codebook, learnt anew when there is none or the collection has outgrown it."""
    path = derived_path(tables.folder, CODEBOOK)
    known = _rebuildable(path, Codebook.load)
    total = int(tables.counts(tables.feature_rows).sum())
    if total == 0:
        return known
    words = min(settings.words or words_for(total), total)
    if known is not None and (settings.words is not None or words < OUTGROWN * len(known)):
        return known
    sample = _sample(tables, words * DESCRIPTORS_PER_WORD, progress)
    progress("learning the codebook", 0, words)
    codebook = Codebook.fit(sample, min(words, len(sample)), points_per_word=DESCRIPTORS_PER_WORD)
    codebook.save(path)
    progress("learning the codebook", words, words)
    return codebook


def _sample(tables: Tables, size: int, progress: Progress) -> Float32:
    """About `size` descriptors of random features of all photos, or of `SAMPLED_PHOTOS` random ones, (n, D)."""
    rng = np.random.default_rng(0)
    rows = tables.feature_rows
    rows = np.sort(rng.choice(rows, min(SAMPLED_PHOTOS, len(rows)), replace=False))
    share = min(1.0, size / max(int(tables.counts(rows).sum()), 1))
    parts: list[Float32] = []
    for start in range(0, len(rows), BLOCK):
        for features in features_of(tables, rows[start : start + BLOCK]):
            parts.append(features.descriptors[rng.random(len(features)) < share])
        progress("sampling descriptors", min(start + BLOCK, len(rows)), len(rows))
    return np.concatenate([part for part in parts if len(part)])


def _current_index(folder: Path, codebook: Codebook, settings: ClassicSettings) -> Asmk:
    """The inverted file over `codebook`, an empty one when there is none that fits."""
    stored = _rebuildable(derived_path(folder, INVERTED_FILE), lambda path: Asmk.load(path, codebook))
    empty = settings.index(codebook)
    return stored if stored is not None and stored.kernel == empty.kernel else empty


def _difference(index: Asmk, tables: Tables) -> tuple[Int64, Int64]:
    """Rows that `index` holds in vain, and rows of `tables` with features that it lacks."""
    rows = tables.feature_rows[tables.counts(tables.feature_rows) > 0]
    return np.setdiff1d(index.rows, rows), np.setdiff1d(rows, index.rows)


def _follow(index: Asmk, tables: Tables, gone: Int64, new: Int64, progress: Progress) -> None:
    """Remove rows `gone` and add rows `new`."""
    if len(gone):
        index.remove(gone)
    for start in range(0, len(new), BLOCK):
        block = new[start : start + BLOCK]
        images, descriptors = stack(tuple(features_of(tables, block)), index.codebook.dim)
        index.add(block[images], descriptors)
        if (start + BLOCK) % SAVE_EVERY == 0:
            index.save(derived_path(tables.folder, INVERTED_FILE))
        progress("indexing", min(start + BLOCK, len(new)), len(new))


def _optional(path: Path, read: Callable[[Path], T]) -> T | None:
    return read(path) if path.exists() else None


def _rebuildable(path: Path, read: Callable[[Path], T]) -> T | None:
    """As `_optional`, but a file that cannot be used counts as missing, since it is about to be made again."""
    try:
        return _optional(path, read)
    except CollectionError:
        return None
