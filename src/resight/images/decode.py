"""Turn an image file into upright RGB pixels, or into a typed error that names the file."""

from __future__ import annotations

import errno
import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from resight.errors import (
    EmptyFile,
    ImageTooLarge,
    NotAnImage,
    ReaderMissing,
    TruncatedImage,
    UsageError,
    ZeroPixels,
)
from resight.images.colour import to_rgb
from resight.images.files import open_regular, shown, unreadable
from resight.images.formats import HEADER_BYTES, declared_size, sniff

MAX_PIXELS = 200_000_000
"""Images with more pixels than this are refused unless the caller says otherwise."""

Quad = tuple[float, float, float, float]
Reader = Callable[[BinaryIO, str], ImageFile.ImageFile]

# The reader is chosen by our own look at the content, and only these can be: Pillow's many other parsers never see
# a file. A phone's JPEG with several pictures (MPO) is read by the JPEG reader, which stops behind the first.
_READERS: dict[str, Reader] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}
# What Pillow's readers raise on damaged bytes: they check little and rely on Python to trip.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    SystemError,
)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION, _EXIF_FOLDER, _DATE_TIME_ORIGINAL = 0x0112, 0x8769, 0x9003
_TIFF_SUBFILE_TYPE, _TIFF_DNG_VERSION = 254, 50706
_REDUCING_GAP = 3.0  # Pillow: not distinguishable from one filter over all pixels, and much faster on large images


@dataclass(frozen=True, eq=False)
class Decoded:
    """An upright image.

    `pixels` (H, W, 3) uint8 RGB, which may be smaller than the original; `width` and `height` of the original after its
    orientation is applied; `taken_at` the time on the camera's clock as ISO 8601, None when the file does not say.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    taken_at: str | None = None

    @property
    def scale(self) -> float:
        """Size of `pixels` / size of the original, along the longest side."""
        return float(max(self.pixels.shape[:2]) / max(self.width, self.height))


def decode(
    source: str | os.PathLike[str] | bytes, *, max_side: int | None = None, max_pixels: int = MAX_PIXELS
) -> Decoded:
    """Read an image from a path, or from bytes that hold a whole file.

    The content decides, not the name: JPEG, PNG, WebP, TIFF, BMP, GIF (first frame), AVIF, and HEIC when pillow-heif is
    installed. With `max_side` the longest side comes out at most that long (never enlarged; a JPEG is scaled while it
    is decompressed). Transparent parts are laid on white; 16-bit and other wide pixels are scaled to 8 bits by their
    range, not clipped. Damaged EXIF is ignored. Pillow's own warnings about odd metadata are silenced in this process.

    Memory: about 14 bytes per decoded pixel. Raises `EmptyFile`, `NotAnImage`, `TruncatedImage`,
    `ZeroPixels`, `ImageTooLarge` (from the header, before any pixel is decoded), `UnreadableFile`, or `UsageError` for
    a bad limit.
    """
    check_positive("max_side", max_side)
    check_positive("max_pixels", max_pixels)
    _silence_pillow()
    name = "the image data" if isinstance(source, bytes) else shown(os.fsdecode(source))
    stream = io.BytesIO(source) if isinstance(source, bytes) else open_regular(os.fsdecode(source))
    with stream, _damage_as_errors(name):
        image = _open(stream, name)
        if image.width * image.height > max_pixels:
            raise ImageTooLarge(
                f"{name} has {image.width} x {image.height} pixels, more than the limit of {max_pixels}: "
                "make it smaller or cut it into parts"
            )
        return _read(image, max_side)


def fitted(width: int, height: int, factor: float) -> tuple[int, int]:
    """Width and height times `factor`, rounded, at least one pixel each."""
    return max(1, round(width * factor)), max(1, round(height * factor))


def resized(image: Image.Image, size: tuple[int, int], box: Quad | None = None) -> Image.Image:
    """`image` (or its part `box`) at exactly `size`: Lanczos, whose support grows with the reduction."""
    if size == image.size and box in (None, (0, 0, *size)):
        return image
    return image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=_REDUCING_GAP)


def check_positive(name: str, value: int | None) -> None:
    """Raise `UsageError` when a limit is given and is below 1."""
    if value is not None and value < 1:
        raise UsageError(f"{name} is {value}: at least 1 is needed")


def _open(stream: BinaryIO, name: str) -> ImageFile.ImageFile:
    """Read the header."""
    header = stream.read(HEADER_BYTES)
    if not header:
        raise EmptyFile(f"{name} is empty (0 bytes): copy it again from where it came")
    kind = sniff(header)
    if kind is None:
        raise NotAnImage(
            f"{name} is no image that resight reads: use JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF or HEIC files"
        )
    reader = _heic_reader(name) if kind == "heic" else _READERS[kind]
    stream.seek(0)
    try:
        image = reader(stream, name)
    except (SyntaxError, ValueError):
        size = declared_size(stream, kind)
        if size and 0 in size:
            raise ZeroPixels(
                f"{name} holds an image of {size[0]} x {size[1]} pixels: there is nothing to see"
            ) from None
        raise
    if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_raw(image):
        raise NotAnImage(f"{name} is a camera raw file with only a preview in it: export it as JPEG or TIFF")
    return image


def _heic_reader(name: str) -> Reader:
    """pillow-heif is an extra, so it is imported at the first HEIC file."""
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError as error:
        raise ReaderMissing(f"{name} is a HEIC photo, which needs an extra: pip install 'resight[heif]'") from error
    reader: Reader = HeifImageFile
    return reader


def _is_raw(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Camera raw files are TIFFs whose first picture is a thumbnail: better none than a picture of 160 pixels."""
    tags = image.tag_v2
    return _TIFF_DNG_VERSION in tags or tags.get(_TIFF_SUBFILE_TYPE, 0) == 1


def _read(image: ImageFile.ImageFile, max_side: int | None) -> Decoded:
    (width, height), box = _load(image, max_side)
    exif = _read_exif(image)
    upright = resized(to_rgb(image), _target(width, height, max_side), box)
    turn = _TURNS.get(exif.orientation)
    if turn is not None:
        upright = upright.transpose(turn)
    if exif.orientation >= 5:
        width, height = height, width
    return Decoded(np.array(upright), width, height, exif.taken_at)


def _load(image: ImageFile.ImageFile, max_side: int | None) -> tuple[tuple[int, int], Quad]:
    """Decode the pixels. Gives the image's size, and the box of the decoded pixels that holds it.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size when that is still large enough; its last column may then be one
    that the image fills only in part, which is why the box counts in fractions.
    """
    if max_side and isinstance(image, JpegImagePlugin.JpegImageFile):
        size = image.size
        drafted = image.draft(None, _target(*size, max_side))
        image.load()
        return size, drafted[1] if drafted else (0, 0, *size)
    image.load()  # some readers turn the image here, so its size is read after
    return image.size, (0, 0, *image.size)


def _target(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    return fitted(width, height, min(1.0, (max_side or max(width, height)) / max(width, height)))


@dataclass(frozen=True)
class _Exif:
    orientation: int = 1
    taken_at: str | None = None


def _read_exif(image: Image.Image) -> _Exif:
    """Orientation and time; a photo with damaged EXIF is still a photo, so damage reads as absence."""
    orientation = 1
    try:
        exif = image.getexif()
        orientation = exif.get(_ORIENTATION, 1)
        orientation = orientation if orientation in _TURNS else 1
        return _Exif(orientation, _as_iso(exif.get_ifd(_EXIF_FOLDER).get(_DATE_TIME_ORIGINAL)))
    except _DAMAGE:
        return _Exif(orientation)


def _as_iso(value: Any) -> str | None:
    """`2024:05:31 18:03:59` to `2024-05-31T18:03:59`; None for a clock never set, or anything else."""
    try:
        return datetime.strptime(str(value).strip("\0 "), "%Y:%m:%d %H:%M:%S").isoformat()
    except ValueError:
        return None


@contextmanager
def _damage_as_errors(name: str) -> Iterator[None]:
    """Turn what Pillow raises into errors that name the file."""
    try:
        yield
    except (Image.DecompressionBombError, MemoryError) as error:
        raise ImageTooLarge(f"{name} is too large to decode ({error}): make it smaller or cut it into parts") from error
    except _DAMAGE as error:
        # EINVAL comes from a seek to where damaged data points; any other number is the disk's or the network's.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise unreadable(name, error) from error
        reason = str(error) or type(error).__name__
        raise TruncatedImage(f"{name} is cut off or damaged ({reason}): copy it again from where it came") from error


_pillow_filter: Any = None


def _silence_pillow() -> None:
    """Keep Pillow's warnings about metadata out of the caller's output.

    Not `warnings.catch_warnings`: it swaps a list that all threads share, and decoding runs in many.
    """
    global _pillow_filter
    if _pillow_filter not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        _pillow_filter = warnings.filters[0]
