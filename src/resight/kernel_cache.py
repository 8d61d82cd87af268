"""Where numba keeps compiled kernels, so that a first search compiles once and an unwritable home stops nobody."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"


def choose_kernel_cache() -> None:
    """Name a folder for compiled kernels when neither the package nor the user's cache can be written.

    numba refuses to load kernels that it cannot keep. A folder of this user alone, below the temporary one, serves
    then: kernels are code, so one that somebody else could write to is never used.
    """
    if os.environ.get(VARIABLE) or _writable(Path(__file__).parent) or _writable(_users_cache()):
        return
    folder = Path(tempfile.gettempdir()) / f"resight-kernels-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
        private = folder.is_dir() and not folder.is_symlink() and not status.st_mode & 0o077
    except OSError:
        own = private = False
    os.environ[VARIABLE] = str(folder if own and private else tempfile.mkdtemp(prefix="resight-kernels-"))


def _users_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())


def _writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or in the nearest one above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)
