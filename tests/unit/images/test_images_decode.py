"""resight.images.decode: every format, mode and orientation, and every way to be broken."""

from __future__ import annotations

import io
import os
import struct
import sys
import tracemalloc
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from resight.errors import (
    EmptyFile,
    ImageTooLarge,
    NotAnImage,
    ReaderMissing,
    TruncatedImage,
    UnreadableFile,
    UsageError,
    ZeroPixels,
)
from resight.images.decode import decode

HEIGHT, WIDTH = 60, 84
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
PICTURE = np.stack([COLUMNS * 3, ROWS * 4, 255 - (ROWS + COLUMNS)], axis=2).astype(np.uint8)

FORMATS: list[tuple[str, dict[str, Any], float]] = [  # with the mean error that their compression may leave
    ("JPEG", {"quality": 95}, 2),
    ("JPEG", {"quality": 95, "progressive": True}, 2),
    ("PNG", {}, 0),
    ("WEBP", {"lossless": True}, 0),
    ("WEBP", {"quality": 95}, 3),
    ("TIFF", {}, 0),
    ("TIFF", {"compression": "tiff_lzw"}, 0),
    ("TIFF", {"big_tiff": True}, 0),
    ("BMP", {}, 0),
    ("GIF", {}, 8),
    ("AVIF", {"quality": 95}, 3),
]


def encode(image: Image.Image | NDArray[Any], form: str, **options: Any) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def heic(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the heif extra is not installed")
    out = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(out, quality=95, **options)
    return out.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with any header."""
    body = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), *chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in body
    )


def mean_error(pixels: NDArray[np.uint8], expected: NDArray[Any]) -> float:
    assert pixels.shape == expected.shape
    assert pixels.dtype == np.uint8
    return float(np.abs(pixels.astype(float) - expected).mean())


# Formats


@pytest.mark.parametrize(("form", "options", "tolerance"), FORMATS)
def test_formats_are_read_by_content(tmp_path: Path, form: str, options: dict[str, Any], tolerance: float) -> None:
    data = encode(PICTURE, form, **options)
    path = tmp_path / "name_says_nothing.txt"
    path.write_bytes(data)
    for source in (path, str(path), data):
        decoded = decode(source)
        assert (decoded.width, decoded.height, decoded.scale) == (WIDTH, HEIGHT, 1.0)
        assert decoded.taken_at is None
        assert mean_error(decoded.pixels, PICTURE) <= tolerance
        assert decoded.pixels.flags.writeable
        assert decoded.pixels.flags.c_contiguous


def test_heic() -> None:
    assert mean_error(decode(heic(PICTURE)).pixels, PICTURE) < 3


def test_heic_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(PICTURE)
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    with pytest.raises(ReaderMissing, match=r"pip install 'resight\[heif\]'"):
        decode(data)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF"])
def test_the_first_frame_counts(form: str) -> None:
    first, second = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)
    data = encode(first, form, save_all=True, append_images=[Image.fromarray(second)])
    assert decode(data).pixels.max() < 10


@pytest.mark.parametrize(
    "data",
    [b"hello", b"BMW makes cars, among them some that are often photographed", b"\0" * 100, b"%PDF-1.7 " + b"x" * 100],
)
def test_other_content_is_not_an_image(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(NotAnImage, match=r"photo\.jpg") as caught:
        decode(path)
    assert caught.value.kind == "not-an-image"


def test_formats_of_pillow_that_are_not_ours_stay_closed() -> None:
    for form in ("PPM", "TGA", "ICO", "PDF", "EPS", "SGI"):
        with pytest.raises(NotAnImage):
            decode(encode(PICTURE, form))


def test_camera_raw_is_refused_rather_than_its_thumbnail_shown() -> None:
    for tag, value in ((254, 1), (50706, b"\1\4\0\0")):
        with pytest.raises(NotAnImage, match="camera raw"):
            decode(encode(PICTURE, "TIFF", tiffinfo={tag: value}))


# Pixels


def test_grayscale_and_one_bit() -> None:
    gray = PICTURE[..., 0]
    assert mean_error(decode(encode(gray, "PNG")).pixels, np.repeat(gray[..., None], 3, axis=2)) == 0
    bits = decode(encode(Image.fromarray(gray).convert("1"), "PNG")).pixels
    assert set(np.unique(bits)) == {0, 255}


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(form: str) -> None:
    wide = np.linspace(0, 65535, WIDTH * HEIGHT).astype(np.uint16).reshape(HEIGHT, WIDTH)
    pixels = decode(encode(wide, form)).pixels
    assert np.abs(pixels[..., 1] - wide / 257).max() <= 0.51
    assert (pixels[0, 0], pixels[-1, -1]) == (pytest.approx([0] * 3), pytest.approx([255] * 3))


def test_big_endian_and_twelve_bits() -> None:
    """Files laid out by hand: Pillow writes neither."""
    values = np.array([[0, 1000, 4000], [2000, 3000, 4095]], np.uint16)
    big = _gray_tiff(b"MM", values * 16, 16, (values * 16).astype(">u2").tobytes())
    assert decode(big).pixels[..., 0].tolist() == np.floor(values * 16 / 257 + 0.5).astype(int).tolist()
    packed = b"".join(_pack12(row) for row in values)
    assert decode(_gray_tiff(b"II", values, 12, packed)).pixels[..., 0].tolist() == (
        np.floor(values * (255 / 4095) + 0.5).astype(int).tolist()
    )


def _pack12(row: NDArray[np.uint16]) -> bytes:
    bits = "".join(f"{value:012b}" for value in row.tolist())
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def _gray_tiff(order: bytes, values: NDArray[Any], bits: int, data: bytes) -> bytes:
    mark = "<" if order == b"II" else ">"
    height, width = values.shape
    tags = ((256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, height))
    entries = [*tags, (279, len(data))]
    folder = struct.pack(mark + "H", len(entries)) + b"".join(
        struct.pack(mark + "HHI", tag, 3, 1) + struct.pack(mark + "HH", value, 0) for tag, value in entries
    )
    return order + struct.pack(mark + "HI", 42, 8 + len(data)) + data + folder + b"\0" * 4


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 128, 255]], np.int32), [0, 128, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[0, 1_600_000, 2_000_000]], np.int32), [0, 204, 255]),
        (np.array([[-255, 0, 255]], np.int32), [0, 128, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 10.2, 255.0]], np.float32), [0, 10, 255]),
        (np.array([[0.0, np.nan, 1.0]], np.float32), [0, 0, 255]),
        (np.zeros((1, 3), np.float32), [0, 0, 0]),
    ],
)
def test_wide_modes_without_a_range_of_their_own(values: NDArray[Any], expected: list[int]) -> None:
    assert decode(encode(values, "TIFF")).pixels[0, :, 0].tolist() == expected


def test_cmyk() -> None:
    solid = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for form in ("TIFF", "JPEG"):
        assert mean_error(decode(encode(solid, form)).pixels, np.full((16, 16, 3), [255, 0, 0])) < 4


def test_alpha_is_laid_on_white() -> None:
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 0], rgba[0, :, 3] = 200, (0, 128, 255)
    expected = np.array([[[255, 255, 255], [227, 127, 127], [200, 0, 0]]])
    for form, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        assert np.abs(decode(encode(rgba, form, **options)).pixels.astype(int) - expected).max() <= 1
    gray_alpha = decode(encode(Image.fromarray(rgba).convert("LA"), "PNG")).pixels
    assert gray_alpha[0, 0].tolist() == [255, 255, 255]
    assert gray_alpha[0, 2].max() < 100


@pytest.mark.parametrize("transparency", [0, b"\x00\xff"])
def test_palette_with_transparency(transparency: int | bytes) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decode(encode(image, "PNG")).pixels.tolist() == [[[10, 20, 30], [40, 50, 60]]]
    data = encode(image, "PNG", transparency=transparency)
    assert decode(data).pixels.tolist() == [[[255, 255, 255], [40, 50, 60]]]


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "I;16"])
def test_one_transparent_colour(mode: str) -> None:
    image = Image.new(mode, (2, 1), 0)
    transparency = (0, 0, 0) if mode == "RGB" else 0
    pixels = decode(encode(image, "PNG", transparency=transparency)).pixels
    assert pixels.shape == (1, 2, 3)
    if mode in ("L", "RGB"):
        assert (pixels == 255).all()


def test_transparent_gif() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decode(encode(image, "GIF", transparency=0)).pixels.tolist() == [[[255, 255, 255], [40, 50, 60]]]


# Orientation and time


def stored(orientation: int) -> NDArray[np.uint8]:
    """PICTURE as a camera stores it with that orientation, from the table of the EXIF standard."""
    return {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.transpose(1, 0, 2),
        6: PICTURE[:, ::-1].transpose(1, 0, 2),
        7: PICTURE[::-1, ::-1].transpose(1, 0, 2),
        8: PICTURE[::-1].transpose(1, 0, 2),
    }[orientation]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(np.ascontiguousarray(stored(orientation)), form, exif=exif)
    decoded = decode(data)
    assert (decoded.width, decoded.height) == (WIDTH, HEIGHT)
    assert mean_error(decoded.pixels, PICTURE) < 6
    small = decode(data, max_side=42)
    assert (small.width, small.height) == (WIDTH, HEIGHT)
    assert mean_error(small.pixels, PICTURE.reshape(30, 2, 42, 2, 3).mean(axis=(1, 3))) < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_heic_is_applied_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.ascontiguousarray(stored(orientation))
    assert mean_error(decode(heic(pixels, exif=exif.tobytes())).pixels, PICTURE) < 6


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_unknown_orientation_is_none(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert mean_error(decode(encode(PICTURE, "PNG", exif=exif)).pixels, PICTURE) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024:05:31 18:03:59", "2024-05-31T18:03:59"),
        ("2024:05:31 18:03:59\0", "2024-05-31T18:03:59"),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("yesterday", None),
    ],
)
def test_taken_at(text: str, expected: str | None) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = text
    assert decode(encode(PICTURE, "JPEG", exif=exif)).taken_at == expected


def test_damaged_exif_does_not_lose_the_photo() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    exif.get_ifd(0x8769)[0x9003] = "2024:05:31 18:03:59"
    good = exif.tobytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        bad = bytearray(good)
        for at in rng.integers(6, len(bad), 4):
            bad[at] = rng.integers(256)
        assert decode(encode(PICTURE, "JPEG", exif=bytes(bad))).pixels.shape in [(60, 84, 3), (84, 60, 3)]


# Size


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(1000, 700), (701, 1003), (640, 480), (97, 8), (2001, 3)])
@pytest.mark.parametrize("max_side", [1, 63, 64, 250, 999, 1000, 5000])
def test_max_side(form: str, size: tuple[int, int], max_side: int) -> None:
    width, height = size
    decoded = decode(encode(Image.new("RGB", size, (9, 99, 199)), form), max_side=max_side)
    factor = min(1, max_side / max(size))
    assert (decoded.width, decoded.height) == size
    assert decoded.pixels.shape == (max(1, round(height * factor)), max(1, round(width * factor)), 3)
    assert decoded.scale == pytest.approx(factor, abs=0.5 / max(size))
    assert np.abs(decoded.pixels - np.array([9.0, 99, 199])).max() <= 3


@pytest.mark.parametrize("size", [(801, 603), (1600, 1200), (1297, 1111)])
@pytest.mark.parametrize("max_side", [100, 333, 400, 511])
def test_a_jpeg_scaled_while_decoding_looks_and_lies_like_a_resized_one(size: tuple[int, int], max_side: int) -> None:
    x, y = np.meshgrid(np.arange(size[0]) / size[0], np.arange(size[1]) / size[1])
    smooth = np.stack([x, y, 0.5 + 0.5 * np.sin(20 * x) * np.cos(14 * y)], axis=2)
    data = encode((smooth * 255).astype(np.uint8), "JPEG", quality=98, subsampling=0)
    scaled = decode(data, max_side=max_side).pixels.astype(float)
    full = Image.fromarray(decode(data).pixels)
    resized = np.asarray(full.resize((scaled.shape[1], scaled.shape[0]), Image.Resampling.LANCZOS), float)
    assert np.abs(scaled - resized).max() <= 6
    # A shift of a tenth of a pixel would show in the two ramps.
    assert np.abs((scaled - resized)[..., 0].mean()) < 0.1 * 255 / scaled.shape[1] + 0.1
    assert np.abs((scaled - resized)[..., 1].mean()) < 0.1 * 255 / scaled.shape[0] + 0.1


@pytest.mark.parametrize("limits", [{"max_side": 0}, {"max_side": -5}, {"max_pixels": 0}])
def test_bad_limits(limits: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1 is needed"):
        decode(encode(PICTURE, "PNG"), **limits)


# Broken files


@pytest.mark.parametrize(("form", "options", "tolerance"), FORMATS)
def test_cut_off_files(tmp_path: Path, form: str, options: dict[str, Any], tolerance: float) -> None:  # noqa: ARG001
    data = encode(PICTURE, form, **options)
    path = tmp_path / "cut.jpg"
    for part in (0.05, 0.2, 0.5, 0.8):
        path.write_bytes(data[: max(30, int(len(data) * part))])
        for max_side in (None, 20):
            with pytest.raises(TruncatedImage, match=r"cut\.jpg is cut off or damaged"):
                decode(path, max_side=max_side)


def test_cut_off_heic() -> None:
    data = heic(PICTURE)
    for part in (0.1, 0.5, 0.9):
        with pytest.raises(TruncatedImage):
            decode(data[: int(len(data) * part)])


def test_only_the_first_bytes() -> None:
    for data in (b"\x89PNG", b"\xff\xd8", b"GIF89a", b"II*\0", b"RIFF\0\0\0\0WEBP", b"\0\0\0\x18ftypavif"):
        with pytest.raises(TruncatedImage):
            decode(data)


def test_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    path.touch()
    with pytest.raises(EmptyFile, match=r"empty\.png is empty"):
        decode(path)
    with pytest.raises(EmptyFile, match="the image data is empty"):
        decode(b"")


def _without_pixels() -> list[bytes]:
    gif, bmp, jpeg = (bytearray(encode(PICTURE, form)) for form in ("GIF", "BMP", "JPEG"))
    frame = gif.index(b"\x2c" + b"\0" * 4)
    gif[6:10] = gif[frame + 5 : frame + 9] = b"\0" * 4
    bmp[18:22] = b"\0" * 4
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 7] = b"\0\0"
    tiff = _gray_tiff(b"II", np.zeros((0, 5)), 16, b"")
    return [png(0, 5), png(0, 0), png(5, 0), bytes(gif), bytes(bmp), bytes(jpeg), tiff]


@pytest.mark.parametrize("data", _without_pixels())
def test_zero_pixels(data: bytes) -> None:
    with pytest.raises(ZeroPixels, match=r"image of \d+ x \d+ pixels"):
        decode(data)


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(60000, 60000, (b"IDAT", zlib.compress(b"\0" * 1000))))
    tracemalloc.start()
    with pytest.raises(ImageTooLarge, match=r"bomb\.png has 60000 x 60000 pixels, more than the limit of 200000000"):
        decode(path, max_side=100)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_bombs_in_other_formats() -> None:
    gif, bmp, jpeg = (bytearray(encode(PICTURE, form)) for form in ("GIF", "BMP", "JPEG"))
    gif[6:10] = struct.pack("<HH", 60000, 60000)
    bmp[18:26] = struct.pack("<ii", 60000, 60000)
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 60000, 60000)
    webp = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0" * 4 + b"\xff\xff\x03" * 2
    tiff = _gray_tiff(b"II", np.broadcast_to(np.zeros(1, np.uint16), (60000, 60000)), 16, b"\0" * 8)
    for data in (gif, bmp, jpeg, webp, tiff):
        with pytest.raises(ImageTooLarge):
            decode(bytes(data))


def test_the_limit_is_the_callers() -> None:
    data = encode(PICTURE, "PNG")
    assert decode(data, max_pixels=WIDTH * HEIGHT).width == WIDTH
    with pytest.raises(ImageTooLarge):
        decode(data, max_pixels=WIDTH * HEIGHT - 1)


def test_a_large_picture_below_the_limit_gives_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # PICTURE is beyond twice that, where Pillow itself refuses
    assert decode(encode(PICTURE, "PNG")).width == WIDTH


def test_pillows_metadata_warnings_are_not_the_callers() -> None:
    data = encode(PICTURE, "PNG").replace(b"IDAT", b"acTL", 1)  # animation control of nonsense, which Pillow remarks on
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(TruncatedImage):
            decode(data)
        decode(encode(PICTURE, "TIFF", tiffinfo={270: "x"}))
    assert seen == []


def test_missing_files_folders_and_pipes(tmp_path: Path) -> None:
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nothing")
    for name in ("gone.jpg", "dangling.jpg", "."):
        with pytest.raises(UnreadableFile):
            decode(tmp_path / name)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        with pytest.raises(UnreadableFile, match=r"pipe\.jpg cannot be read: it is a pipe, socket or device"):
            decode(tmp_path / "pipe.jpg")
    if os.path.exists("/dev/zero"):
        with pytest.raises(UnreadableFile):
            decode("/dev/zero")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "shut.png"
    path.write_bytes(encode(PICTURE, "PNG"))
    path.chmod(0)
    with pytest.raises(UnreadableFile, match=r"shut\.png cannot be read \(Permission denied\)"):
        decode(path)


def test_an_input_output_error_is_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 500:
                raise OSError(5, "Input/output error")
            return super().read(min(size, 400) if size and size > 0 else 400)

    monkeypatch.setattr("resight.images.decode.open_regular", lambda _: Failing(encode(PICTURE, "BMP")))
    with pytest.raises(UnreadableFile, match="Input/output error"):
        decode(tmp_path / "a.bmp")


def test_messages_stay_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "new\nline\x1b[2J.jpg"
    path.write_bytes(b"x")
    with pytest.raises(NotAnImage) as caught:
        decode(path)
    assert str(caught.value).isprintable()
    assert "new%0Aline%1B[2J.jpg" in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names that are not UTF-8")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(encode(PICTURE, "PNG"))
    assert decode(path).width == WIDTH
    path.write_bytes(b"")
    with pytest.raises(EmptyFile, match=r"caf%E9\.png"):
        decode(path)
