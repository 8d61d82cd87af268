"""The few pieces of HTML that the report pages share: escaped text, pictures as data, the page around them."""

from __future__ import annotations

import base64
import io
import unicodedata
from html import escape
from importlib.resources import files

from PIL import Image, ImageOps

from resight.errors import UsageError
from resight.viz.pictures import Pixels, encode_jpeg

FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
METADATA = {"exif", "xmp", "XML:com.adobe.xmp", "comment"}
DIRECTION_MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
# The policy is a second lock behind escaping: the page can neither run a script nor ask for anything outside itself.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
EYE = (
    '<svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true" fill="none" stroke="currentColor"'
    ' stroke-width="2.4" stroke-linecap="round" stroke-linejoin="round"><path d="M2.5 16S7.5 7 16 7s13.5 9 13.5 9'
    '-5 9-13.5 9S2.5 16 2.5 16Z"/><circle cx="16" cy="16" r="4.2"/></svg>'
)
BRAND = f'<p class="brand">{EYE}<span>resight</span></p>'


def text(value: str) -> str:
    """`value` safe inside an element or a quoted attribute, and safe to encode as UTF-8.

    Ids come from file names: control characters, text-direction marks and bytes that are not UTF-8 are shown as
    replacement characters, so that a name cannot disguise itself.
    """
    return escape("".join("\ufffd" if _hidden(c) else c for c in value), quote=True)


def _hidden(character: str) -> bool:
    if character in "\n\t":
        return False
    return unicodedata.category(character) in ("Cc", "Cs") or character in DIRECTION_MARKS


def picture(image: Pixels | bytes, alt: str, width: int, height: int | None = None, lazy: bool = True) -> str:
    """An `img` element that holds `image` itself, at most width x height (default: a square) pixels.

    `image`: (H, W, 3) uint8 pixels, or the bytes of a JPEG, PNG or WebP file. Bytes are kept as they are unless they
    are too large or carry metadata: those are turned upright and encoded again, so that no page tells where a photo
    was taken. Raises `UsageError` on bytes of another kind, `ArrayError` on another array.
    """
    height = width if height is None else height
    data, kind, size = _encoded(image, width, height)
    source = f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
    loading = ' loading="lazy"' if lazy else ""
    return f'<img src="{source}" width="{size[0]}" height="{size[1]}" alt="{text(alt)}"{loading}>'


def _encoded(image: Pixels | bytes, width: int, height: int) -> tuple[bytes, str, tuple[int, int]]:
    if not isinstance(image, bytes):
        image = encode_jpeg(image, width, height)
    try:
        opened = Image.open(io.BytesIO(image), formats=list(FORMATS))
        told = opened.getexif() or METADATA & opened.info.keys()
        if told or opened.width > width or opened.height > height:
            image = encode_jpeg(ImageOps.exif_transpose(opened), width, height)
            opened = Image.open(io.BytesIO(image))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"a picture of {len(image)} bytes is no readable JPEG, PNG or WebP: {error}") from error
    return image, FORMATS[str(opened.format)], opened.size


def document(title: str, body: str, kind: str = "report") -> str:
    """A whole self-contained page around `body`, which is HTML already; `title` is plain text. `kind`: the class of the
    page in `report.css`, which holds the style of all of them.
    """
    style = files("resight.viz").joinpath("report.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{text(title)}</title>
<style>
{style}</style>
</head>
<body class="{kind}">
{body}
</body>
</html>
"""
