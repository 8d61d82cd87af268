"""Keys of an API: who may do what. The file holds only hashes, and is read again when it changes.

A key is `rs_<id>_<secret>`. Its secret has 256 random bits, so that one round of SHA-256 is enough to keep it.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from resight.errors import ResightError, UsageError
from resight.regular_files import read_regular
from resight.store.folder import faults, write_atomic

SCOPES = ("read", "write", "admin")  # each includes those before it
MOST_BYTES = 1 << 22
_FORM = re.compile(r"rs_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
_NOBODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Key:
    """A key without its secret: `id`, the `sha256` of the whole key in hex, its `scope`, a `note`, when it was
    `created` (ISO 8601, UTC).
    """

    id: str
    sha256: str
    scope: str
    note: str
    created: str

    def allows(self, scope: str) -> bool:
        """Whether it may do what needs `scope`."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys in a file; none where it is not there. Raises `ResightError` when it is damaged, or others may read
    it.
    """
    try:
        mode = path.stat().st_mode
        content = read_regular(path, MOST_BYTES)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ResightError(f"the file of keys {path} cannot be read: {error.strerror or error}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ResightError(f"others may read the file of keys {path}: run chmod 600 {path}")
    try:
        keys = tuple(Key(**fields) for fields in json.loads(content)["keys"])
        sound = all(isinstance(value, str) for key in keys for value in asdict(key).values())
        sound = sound and all(key.scope in SCOPES for key in keys)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ResightError(_damaged(path)) from error
    if not sound:
        raise ResightError(_damaged(path))
    return keys


def add_key(path: Path, scope: str, note: str = "") -> tuple[Key, str]:
    """Make a key and keep its hash; gives the key and its text, which is nowhere else. Raises as `read_keys`, and
    `UsageError` for an unknown scope.
    """
    if scope not in SCOPES:
        raise UsageError(f"scope {scope!r} is unknown: choose one of {', '.join(SCOPES)}")
    with _changing(path):
        known = read_keys(path)
        taken = {key.id for key in known}
        id_ = next(one for one in iter(lambda: secrets.token_hex(4), None) if one not in taken)
        text = f"rs_{id_}_{secrets.token_urlsafe(32)}"
        created = datetime.now(UTC).isoformat(timespec="seconds")
        key = Key(id_, hashlib.sha256(text.encode()).hexdigest(), scope, note, created)
        _write(path, [*known, key])
    return key, text


def revoke_key(path: Path, id_: str) -> None:
    """Forget a key; services that run see it at their next request. Raises `UsageError` when there is none."""
    with _changing(path):
        known = read_keys(path)
        kept = [key for key in known if key.id != id_]
        if len(kept) == len(known):
            raise UsageError(f"{path} holds no key {id_!r}: resight keys list shows them")
        _write(path, kept)


class KeyFile:
    """The keys of a file as they are now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}
        self.reload()

    def reload(self) -> None:
        """Read the file where it has changed. A file that cannot be read any more opens no door: it holds no keys."""
        state = self._look()
        if state == self._state:
            return
        self._keys, self._state = {}, state
        self._keys = {key.id: key for key in read_keys(self.path)}

    def find(self, text: str) -> Key | None:
        """The key with this text, None when there is none; takes the same time whichever part is wrong.

        Raises as `read_keys`.
        """
        self.reload()
        form = _FORM.fullmatch(text)
        key = self._keys.get(form[1]) if form else None
        given = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        same = hmac.compare_digest(given, key.sha256 if key else _NOBODY)
        return key if same else None

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size ^ status.st_mode


def _write(path: Path, keys: Sequence[Key]) -> None:
    content = {"keys": [asdict(key) for key in keys]}
    before = os.umask(0o177)  # so that nobody else can read it, not even for a moment
    try:
        write_atomic(path, (json.dumps(content, indent=2) + "\n").encode())
    finally:
        os.umask(before)


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Two commands at a time must not lose a key, or a revocation."""
    with faults("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _damaged(path: Path) -> str:
    return f"the file of keys {path} is damaged: make a new one with resight keys add"
