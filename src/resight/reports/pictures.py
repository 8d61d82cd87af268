"""Pictures of why a photo was found: matched features, or what each part adds to the similarity."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from resight.collection.answer import Query, Result
from resight.collection.collection import Collection
from resight.errors import ImageError, UsageError
from resight.features.global_descriptor import GlobalDescriptor
from resight.features.pooling import gem, spoc
from resight.images.decode import Decoded, decode
from resight.images.transform import crop, decode_crop
from resight.viz.activations import contributions, draw_contributions
from resight.viz.matches import draw_matches
from resight.viz.pictures import Pixels

PICTURE_SIDE = 900  # pixels of the photos that pictures are made from


def match_picture(
    collection: Collection, query: Query, result: Result, max_width: int = 1400, *, shown: Decoded | None = None
) -> Image:
    """Query and result side by side, joined by the matched features, with the query's outline where it was found;
    without local features, as `contribution_picture`. `shown`: the photo of the query, where it is no file.

    Raises `UsageError` when the result was not verified, `ImageError` when one of the files cannot be read any more.
    """
    if collection.settings.local is None:
        return contribution_picture(collection, query, result, max_width, shown=shown)
    verification = result.verification
    if verification is None:
        raise UsageError(f"{result.id} is too far down the ranking to have been verified: nothing can be drawn")
    ours = decode(query.path, max_side=PICTURE_SIDE) if shown is None else shown
    theirs = decode(result.path, max_side=PICTURE_SIDE)
    pairs, local = verification.correspondences, collection.snapshot.features(result.row)
    return draw_matches(
        ours.pixels,
        theirs.pixels,
        query.local.xy[pairs[:, 0]],
        local.xy[pairs[:, 1]],
        inliers=verification.mask,
        transform=verification.transform if verification.verified else None,
        outline=_outline(query),
        size_a=(ours.width, ours.height),
        size_b=(theirs.width, theirs.height),
        max_width=max_width,
    )


def contribution_picture(
    collection: Collection, query: Query, result: Result, max_width: int = 1400, *, shown: Decoded | None = None
) -> Image:
    """Query and result side by side, under what each part adds to the cosine of their global descriptors.

    Both are seen at one scale, that of the photo as it is decoded, whatever `scales` the collection averages over.
    Raises `UsageError` when the collection has no descriptor, or one that is not pooled by GeM or SPoC; `ImageError`
    when one of the files cannot be read any more.
    """
    descriptor, vectors = collection.snapshot.network, collection.snapshot.descriptors
    if descriptor is None or vectors is None:
        raise UsageError(f"{collection.path} keeps no global descriptors: nothing can be drawn")
    if not isinstance(descriptor, GlobalDescriptor):
        raise UsageError(f"{collection.path} keeps vectors of two networks: only those of one can be drawn")
    p, side = _gem_power(descriptor.pool), descriptor.max_side
    if shown is not None:
        ours = shown if query.box is None else crop(shown, query.box)
    elif query.box is None:
        ours = decode(query.path, max_side=side)
    else:
        ours = decode_crop(query.path, query.box, max_side=side)
    theirs = decode(result.path, max_side=side)
    maps, others = descriptor.maps(ours.pixels), descriptor.maps(theirs.pixels)
    whitenings = [whitening for whitening in (descriptor.whitening, vectors.whitening) if whitening is not None]
    found = contributions(maps, others, p, linear=descriptor.linear, whitenings=whitenings)
    return draw_contributions(ours.pixels, theirs.pixels, found, max_width=max_width)


def shown_photo(path: str) -> Decoded | None:
    """The pixels of a photo for a page; None for one whose file is gone or cannot be read any more."""
    try:
        return decode(path, max_side=480)
    except ImageError:
        return None


def shown_pixels(path: str) -> Pixels | None:
    """The pixels of `shown_photo` alone."""
    photo = shown_photo(path)
    return None if photo is None else photo.pixels


def _gem_power(pool: Any) -> Any:
    """The power of GeM pooling, None for SPoC."""
    if pool is spoc:
        return None
    if isinstance(pool, partial) and pool.func is gem:
        return pool.keywords["p"]
    raise UsageError("pictures of a global descriptor need pool gem or spoc, whose vectors are sums over the photo")


def _outline(query: Query) -> NDArray[np.float64] | None:
    if query.box is None:
        return None
    x, y, w, h = query.box.x, query.box.y, query.box.width, query.box.height
    return np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])
