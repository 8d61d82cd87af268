"""Pairs for hloc and COLMAP: a line for each photo and each result of a search for it, best first.

`hloc.match_features` and `hloc.reconstruction` read this as the output of their own `pairs_from_retrieval`; COLMAP's
`matches_importer` reads it with `--match_type pairs`. Names are relative to the folder of the photos.
"""

from __future__ import annotations

from resight.exchange.lists import ranked_lists
from resight.exchange.photos import named_photos, without_blanks
from resight.exchange.request import Request, appearing


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
