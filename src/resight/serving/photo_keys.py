"""The key of a photo in URLs: its id as unpadded base64url, so that it is reversible and holds no slash."""

from __future__ import annotations

import base64
import binascii

from resight.errors import UsageError

LONGEST = 8192  # characters


def key_of(id_: str) -> str:
    """The key of the photo with this id."""
    return base64.urlsafe_b64encode(id_.encode()).rstrip(b"=").decode()


def id_of(key: str) -> str:
    """The id of the photo with this key. Raises `UsageError` for anything that `key_of` does not give."""
    try:
        if len(key) > LONGEST:
            raise ValueError
        found = base64.urlsafe_b64decode(key.encode("ascii") + b"=" * (-len(key) % 4)).decode()
    except (ValueError, binascii.Error) as error:
        raise UsageError(f"{_shown(key)} is not the key of a photo: take it from the list of photos") from error
    if not found or key_of(found) != key:
        raise UsageError(f"{_shown(key)} is not the key of a photo: take it from the list of photos")
    return found


def _shown(key: str) -> str:
    return ascii(key if len(key) <= 60 else f"{key[:57]}...")
