"""Codebooks that come from elsewhere or go elsewhere: visual words learnt on other photos."""

from __future__ import annotations

from collections.abc import Mapping

from resight.collection.snapshot import Snapshot
from resight.errors import UsageError
from resight.features.local.encoders import ENCODERS
from resight.index.asmk import Codebook


def codebook_file(text: str) -> tuple[str, str]:
    """The kind of local features and the file in KIND=FILE; a file alone, kind "", is for the only kind there is."""
    kind, equals, file = text.partition("=")
    return (kind, file) if equals and kind in ENCODERS else ("", text)


def given_codebooks(snapshot: Snapshot, given: Mapping[str, Codebook]) -> dict[str, Codebook]:
    """Codebooks by the key of their kind, `given` by its name or, for the only kind, "".

    Raises `UsageError` for a kind that is not kept, for words of another dimension than its descriptors, and for
    signatures of other bits than the collection was made with.
    """
    found, kinds = {}, {kind.key: kind for kind in snapshot.settings.kinds}
    for name, codebook in given.items():
        key = _key(snapshot, name)
        dim = snapshot.encoders[key].dim
        if codebook.dim != dim:
            raise UsageError(
                f"the codebook has words of {codebook.dim} dimensions, and {snapshot.kinds[key]} features here have "
                f"{dim}: give one that was learnt from such features"
            )
        indexing = kinds[key].indexing
        if indexing.binary and codebook.bits != (indexing.bits or dim):
            raise UsageError(
                f"the codebook gives signatures of {codebook.bits} bits, and {snapshot.path} was made for "
                f"{indexing.bits or dim}: give one that was learnt so, or index into a new collection with "
                f"--set bits={codebook.bits}"
            )
        found[key] = codebook
    return found


def codebook_of(snapshot: Snapshot, features: str | None = None) -> Codebook:
    """The visual words of one kind of local features, by name; None for the only kind.

    Raises `UsageError` when there is no such kind, several where none is named, or no photo with features yet.
    """
    kind = snapshot.kind(_key(snapshot, features or ""))
    if kind is None:
        raise UsageError(f"{snapshot.path} has no codebook yet: index photos first")
    return kind.index.codebook


def _key(snapshot: Snapshot, name: str) -> str:
    keys = {kind: key for key, kind in snapshot.kinds.items()}
    if name in keys:
        return keys[name]
    if name or len(keys) != 1:
        kept = ", ".join(keys) or "no local features"
        raise UsageError(f"a codebook of {name or 'which features'}? {snapshot.path} keeps {kept}: name one of them")
    return ""
