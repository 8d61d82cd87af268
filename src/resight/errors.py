"""Errors that resight raises on purpose. Each message is one sentence: what was wrong, where, what to do.

`ResightError` is their root: the command line prints it without a traceback and exits 1, or 2 for a `UsageError`.
"""

from __future__ import annotations


class ResightError(Exception):
    """Root of every error that resight raises on purpose."""


class UsageError(ResightError):
    """The caller asked for something that cannot be: a bad argument, an unknown name, a box outside the image."""


class ArrayError(UsageError, ValueError):
    """An array has a shape, dtype or value that the function cannot take."""


class MissingExtra(UsageError):
    """What was asked for needs a package that only some users install; the message names the extra."""


class ImageError(ResightError):
    """A file cannot be turned into pixels. `kind` is a short stable word for reports."""

    kind = "unreadable"


class EmptyFile(ImageError):
    """The file holds no bytes."""

    kind = "empty"


class NotAnImage(ImageError):
    """The content is of no image format that resight reads."""

    kind = "not-an-image"


class TruncatedImage(ImageError):
    """The file ends, or its data is damaged, before the last pixel."""

    kind = "truncated"


class ZeroPixels(ImageError):
    """The image has no pixels."""

    kind = "zero-pixels"


class ImageTooLarge(ImageError):
    """The image has more pixels than the limit: a decompression bomb, or a scan to be split first."""

    kind = "too-large"


class ReaderMissing(ImageError):
    """The format is known, but the package that reads it is not installed."""

    kind = "reader-missing"


class UnreadableFile(ImageError):
    """The file cannot be opened: gone, no permission, or an input/output error."""

    kind = "unreadable"


class CollectionError(ResightError):
    """A collection on disk is missing, damaged, of another format or recipe, or cannot be written."""


class CollectionNotFound(CollectionError, UsageError):
    """There is no collection at that path."""


class CollectionLocked(CollectionError):
    """Another process is writing to the collection."""


class StampMismatch(CollectionError):
    """The collection was made by another format, recipe or model than the one asked for."""
