"""The inverted file of a collection's local features, its codebook, and the calibration of its scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from resight.artifacts import files
from resight.artifacts.followed import Followed, differences, totals
from resight.errors import CollectionError, StampMismatch
from resight.features.local.packed import unpack, unpack_compact
from resight.features.local.regions import Regional, members
from resight.index.asmk import Asmk, Codebook
from resight.index.regional import aggregate_regions
from resight.progress import Progress, silent
from resight.ranking.confidence import CHANGE, UNKNOWN, Bonus, Confidence, calibrate
from resight.ranking.search import stack
from resight.ranking.verification import BARE_ONSET, ONSET, FeatureSource, Verifier
from resight.recipes.settings import LocalSettings
from resight.store.tables import Tables
from resight.store.writer import Writer
from resight.types import Float32, Int64, LocalFeatures

DESCRIPTORS_PER_WORD = 32  # of the training sample
SAMPLED_PHOTOS = 20_000  # from which the training sample is drawn
OUTGROWN = 2  # the codebook is learned anew when the collection asks for so many times its words ...
GROWN = 1.5  # ... or has so many times the photos it was learned from, so that all learning costs three times the last
FINE = 4.0  # pixels: a kind whose positions are farther off is coarse
BLOCK = 256  # photos added to the inverted file at a time
SAVE_EVERY = 4096  # photos after which the growing inverted file is written, so that a killed run loses little


@dataclass(frozen=True, eq=False)
class InvertedFile:
    """The index of a collection's local features, None while nothing is indexed, and its calibration.

    `calibrated`: the calibration was learned for the collection as it is.
    """

    index: Asmk | None
    confidence: Confidence
    calibrated: bool = True


NOTHING = InvertedFile(None, UNKNOWN)


def load_inverted_file(tables: Tables, settings: LocalSettings) -> InvertedFile:
    """Read it. Missing files give an empty one; raises `CollectionError` when one is damaged."""
    folder, own = tables.folder, files.LOCAL[settings.key]
    codebook = files.read(own.codebook, folder, Codebook.load)
    if codebook is None:
        return NOTHING
    index = files.read(own.inverted_file, folder, lambda path: Asmk.load(path, codebook))
    if index is None:
        return NOTHING
    if index.kernel != settings.index(codebook).kernel:
        raise StampMismatch(f"the inverted file of {folder} has other settings than its stamp: run resight check on it")
    confidence = files.read(own.confidence, folder, read_confidence)
    fits = confidence is not None and confidence.fits(len(index), codebook.fingerprint)
    return InvertedFile(index, confidence or UNKNOWN, fits)


def follow_inverted_file(
    writer: Writer,
    settings: LocalSettings,
    *,
    codebook: Codebook | None = None,
    relearn: bool = False,
    bonus: Bonus | None = None,
    verifier: Verifier | None = None,
    followed: Followed | None = None,
    progress: Progress = silent,
) -> InvertedFile:
    """Bring it up to the features in the tables; does nothing where it is. Damaged files are rebuilt.

    `codebook`: one to use from now on instead of learning one. `relearn`: learn codebook and calibration anew, though
    nothing asks for it. `bonus`: as for `calibrate`. `verifier`: over the features that verify, where these are others.
    `followed`: the state that it is known to follow.
    Peak memory: the training sample (half a kilobyte a descriptor, 32 per word) or the inverted file.
    """
    tables, own = writer.tables, files.LOCAL[settings.key]
    if codebook is not None:
        _save_codebook(writer, own, codebook, {})
    codebook = codebook or _codebook(writer, tables, settings, followed, progress, relearn)
    if codebook is None:
        return NOTHING
    index = _current_index(tables.folder, codebook, settings)
    gone, new = differences(index.rows, tables, settings.key, followed)
    if relearn or len(gone) + len(new) > CHANGE * (len(index) + len(new) - len(gone)):
        # Before the index changes on disk: a run that is killed must not leave the old calibration beside it.
        files.remove(writer, own.confidence)
    _follow(writer, settings, index, tables, gone, new, progress)
    if len(gone) or len(new) or not index.stored or not own.inverted_file.exists(tables.folder):
        index.save(files.place(writer, own.inverted_file))
    confidence = files.usable(own.confidence, tables.folder, read_confidence)
    if confidence is None or not confidence.fits(len(index), codebook.fingerprint):
        progress("calibrating", 0, 1)
        source = stored_features(tables, settings.key)
        confidence = calibrate(index, verifier or make_verifier(tables, settings), source, bonus=bonus)
        write_confidence(writer, own.confidence, confidence)
        progress("calibrating", 1, 1)
    return InvertedFile(index, confidence)


def make_verifier(tables: Tables, settings: LocalSettings) -> Verifier:
    """A `Verifier` over the stored features of one kind: coarse ones may lie a cell apart, and prove less."""
    key, coarse = settings.key, settings.kind.cell
    return Verifier(
        stored_features(tables, key),
        lambda rows: [unpack_compact(packed) for packed in tables.local(rows, key)],
        coarse=coarse > FINE,
        onset=ONSET if settings.kind.framed else BARE_ONSET,
        matcher=settings.matcher,
    )


def stored_features(tables: Tables, key: str = "") -> FeatureSource:
    """The source of the features of one kind."""
    return lambda rows: features_of(tables, rows, key)


def features_of(tables: Tables, rows: Int64, key: str = "") -> list[LocalFeatures]:
    """The local features of `rows` (n,) int64, in that order; `key`: of a further kind."""
    return [unpack(packed) for packed in tables.local(rows, key)]


def write_confidence(writer: Writer, artifact: files.Artifact, confidence: Confidence) -> None:
    """Write a calibration, whole or not at all."""
    files.write_json(writer, artifact, asdict(confidence))


def read_confidence(path: Path) -> Confidence:
    """Read what `write_confidence` wrote. Raises `CollectionError` when it is not that."""
    content = files.read_json(path)
    try:
        confidence = Confidence(**content)
        numbers = (confidence.location, confidence.scale, confidence.threshold, confidence.pairs)
        if not all(np.isfinite(numbers)) or confidence.scale <= 0:
            raise ValueError("it holds impossible numbers")
    except (ValueError, TypeError) as error:
        raise CollectionError(f"{path} is damaged ({error})") from error
    return confidence


def _codebook(
    writer: Writer,
    tables: Tables,
    settings: LocalSettings,
    followed: Followed | None,
    progress: Progress,
    relearn: bool,
) -> Codebook | None:
    """The collection's codebook, learned anew when there is none, when it is told to, or when that pays."""
    own = files.LOCAL[settings.key]
    known = files.usable(own.codebook, tables.folder, Codebook.load)
    photos, total = totals(tables, settings.key, followed)
    if total == 0:
        return known
    words = min(settings.words(total), total)
    learned_from = {} if known is None else _learned_from(tables.folder, own, known)
    if known is not None and not relearn and not _pays(len(known), words, learned_from.get(known.fingerprint), photos):
        return known
    sample = _sample(tables, settings.key, words * DESCRIPTORS_PER_WORD, progress)
    progress("learning the codebook", 0, words)
    codebook = Codebook.fit(
        sample, min(words, len(sample)), points_per_word=DESCRIPTORS_PER_WORD, bits=settings.indexing.bits
    )
    _save_codebook(writer, own, codebook, {**learned_from, codebook.fingerprint: photos})
    progress("learning the codebook", words, words)
    return codebook


def _pays(known: int, words: int, learned_from: int | None, photos: int) -> bool:
    """Whether a codebook of `known` words, learned from so many photos, is worth learning anew; one that was given
    (None) stays. In large collections the training sample does not grow, nor does the codebook.
    """
    if learned_from is None:
        return False
    return words >= OUTGROWN * known or (learned_from < SAMPLED_PHOTOS and photos >= GROWN * learned_from)


def _learned_from(folder: Path, own: files.LocalFiles, codebook: Codebook) -> dict[str, int]:
    """How many photos `codebook` was learned from, by its fingerprint; empty for one that was given."""
    content = files.usable(own.origin, folder, files.read_json)
    photos = content.get(codebook.fingerprint) if isinstance(content, dict) else None
    return {codebook.fingerprint: photos} if isinstance(photos, int) and photos > 0 else {}


def _save_codebook(writer: Writer, own: files.LocalFiles, codebook: Codebook, learned_from: dict[str, int]) -> None:
    """Write a codebook in place of the old one, and what both were learned from: a run may be killed at any moment.
    What was made with the old one goes first, so that no reader finds the two together.
    """
    files.write_json(writer, own.origin, learned_from)
    known = files.usable(own.codebook, writer.folder, Codebook.load)
    if known is None or known.fingerprint != codebook.fingerprint:
        files.remove(writer, own.inverted_file, own.confidence)
    codebook.save(files.place(writer, own.codebook))


def _sample(tables: Tables, key: str, size: int, progress: Progress) -> Float32:
    """About `size` descriptors of random features of all photos, or of `SAMPLED_PHOTOS` random ones, (n, D)."""
    rng = np.random.default_rng(0)
    rows = tables.feature_rows
    rows = np.sort(rng.choice(rows, min(SAMPLED_PHOTOS, len(rows)), replace=False))
    share = min(1.0, size / max(int(tables.counts(rows, key).sum()), 1))
    parts: list[Float32] = []
    for start in range(0, len(rows), BLOCK):
        for features in features_of(tables, rows[start : start + BLOCK], key):
            parts.append(features.descriptors[rng.random(len(features)) < share])
        progress("sampling descriptors", min(start + BLOCK, len(rows)), len(rows))
    return np.concatenate([part for part in parts if len(part)])


def _add(index: Asmk, settings: LocalSettings, tables: Tables, rows: Int64) -> None:
    features = features_of(tables, rows, settings.key)
    if not isinstance(settings.encoding, Regional):
        images, descriptors = stack(tuple(features), index.codebook.dim)
        index.add(rows[images], descriptors)
        return
    photos = tables.find("row", rows.tolist(), ["row", "id", "width", "height"]).to_pydict()
    size = {
        row: place for *place, row in zip(photos["id"], photos["width"], photos["height"], photos["row"], strict=True)
    }
    regions = [settings.encoding.regions(*size[row]) for row in rows.tolist()]
    inside = [members(image.xy, boxes) for image, boxes in zip(features, regions, strict=True)]
    rows_of = [image.descriptors for image in features]
    index.add_aggregated(aggregate_regions(index.codebook, rows, rows_of, inside, index.kernel.binary))


def _current_index(folder: Path, codebook: Codebook, settings: LocalSettings) -> Asmk:
    """The inverted file over `codebook`, an empty one when there is none that fits."""
    stored = files.usable(files.LOCAL[settings.key].inverted_file, folder, lambda path: Asmk.load(path, codebook))
    empty = settings.index(codebook)
    return stored if stored is not None and stored.kernel == empty.kernel else empty


def _follow(
    writer: Writer, settings: LocalSettings, index: Asmk, tables: Tables, gone: Int64, new: Int64, progress: Progress
) -> None:
    """Remove rows `gone` and add rows `new`."""
    key = settings.key
    if len(gone):
        index.remove(gone)
    for start in range(0, len(new), BLOCK):
        block = new[start : start + BLOCK]
        _add(index, settings, tables, block)
        if (start + BLOCK) % SAVE_EVERY == 0:
            index.save(files.place(writer, files.LOCAL[key].inverted_file))
        progress("indexing", min(start + BLOCK, len(new)), len(new))
