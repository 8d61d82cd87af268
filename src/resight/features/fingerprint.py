"""Names of what makes features: equal fingerprints make equal features."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from resight.regular_files import open_regular


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(parts: Any) -> str:
    """SHA-256, hexadecimal, of anything that is JSON: equal settings have equal fingerprints."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
