"""Pairs for hloc and COLMAP: a line for each photo and each result of a search for it, best first.

`hloc.match_features` and `hloc.reconstruction` read this as the output of their own `pairs_from_retrieval`; COLMAP's
`matches_importer` reads it with `--match_type pairs`. Names are relative to the folder of the photos.
"""

from __future__ import annotations

from pathlib import Path

from resight.errors import UsageError
from resight.exchange.lists import ranked_lists
from resight.exchange.photos import named_photos, without_blanks
from resight.exchange.request import Request, appearing
from resight.regular_files import read_regular


def write_pairs(request: Request) -> str:
    """Write the pairs. Raises `UsageError` for names with blanks, which end a name in this format."""
    photos = named_photos(request.collection.snapshot)
    without_blanks(photos, "lists of pairs")
    count = 0
    with appearing(request.out) as scratch, scratch.open("w", encoding="utf-8") as file:
        for position, found, _ in ranked_lists(request, photos):
            count += len(found)
            file.writelines(f"{photos.names[position]} {photos.names[other]}\n" for other in found.tolist())
    return f"{count} pairs of {len(photos)} photos below {photos.folder}"


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """The pairs of names in a list of pairs, in order. Raises `UsageError` for a line that is not two names."""
    try:
        text = read_regular(path).decode("utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read pairs from {path}: {error}") from error
    pairs = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    wrong = [number for number, words in pairs if len(words) != 2]
    if wrong:
        raise UsageError(f"{path}: {len(wrong)} lines do not hold two names, the first is line {wrong[0]}")
    return [(words[0], words[1]) for _, words in pairs]
