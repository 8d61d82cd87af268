"""The similarity that `resight fit similarity` learned for a collection."""

from __future__ import annotations

from pathlib import Path

from resight.artifacts import files
from resight.artifacts.descriptors import Descriptors
from resight.matching.similarity import DeepSimilarity, Similarity, load_similarity
from resight.store.writer import Writer


def save_similarity(writer: Writer, similarity: DeepSimilarity) -> None:
    """Keep it for the searches of the collection."""
    similarity.save(files.place(writer, files.SIMILARITY))


def load_learned_similarity(folder: Path, descriptors: Descriptors) -> Similarity | None:
    """What `save_similarity` kept, None where nothing was. Raises `CollectionError` when the file is damaged,
    `StampMismatch` when the descriptors have changed since, by another whitening, say.
    """
    return files.read(files.SIMILARITY, folder, lambda path: load_similarity(path, descriptors.fingerprint))
